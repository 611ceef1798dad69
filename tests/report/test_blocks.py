"""Which images are drawn together: by recording, or in blocks whose length follows from how alike frames are."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from effiseg.report.blocks import MANY, Recordings


def recorded(*lengths: int) -> Recordings:
    """Recordings of so many frames, one after the other."""
    ends = np.cumsum(lengths)
    return Recordings([list(range(end - length, end)) for length, end in zip(lengths, ends, strict=True)])


def wandering(frames: int, memory: float) -> np.ndarray:
    return lfilter([1], [1, -memory], np.random.default_rng(0).normal(size=frames))


@pytest.mark.parametrize(
    ("lengths", "population"),
    [
        ([1] * 3, "images"),
        ([1], "images"),
        ([101], "this recording"),
        ([30, 30], "these recordings"),
        ([5] * (MANY - 1), "these recordings"),
        ([5] * MANY, "new recordings"),
        ([218, 49] + [1] * 233, "these recordings"),  # nearly half of all images are of one
    ],
)
def test_what_an_interval_speaks_of(lengths, population):
    assert recorded(*lengths).population == population


@pytest.mark.parametrize(
    ("frames", "memory", "expected"), [(101, 0, 2), (101, 0.8, 10), (300, 0.9, 20), (1000, 0.95, 54)]
)
def test_the_length_is_that_of_the_published_rule(frames, memory, expected):
    """`optimal_block_length` of arch 8.0.0 on the same series, circular, rounded up."""
    assert recorded(frames).block_length(wandering(frames, memory)) == expected


def test_frames_that_are_all_the_same_need_no_blocks():
    assert recorded(60).block_length(np.ones(60)) == 1


@pytest.mark.parametrize(("frames", "longest"), [(30, 10), (144, 36)])
def test_no_block_is_longer_than_a_third_or_three_roots(frames, longest):
    """The rule divides by the sum of the correlations, which is nearly 0 for a wave."""
    assert recorded(frames).block_length(np.sin(0.7 * np.arange(frames))) == longest


@pytest.mark.parametrize("frames", range(2, 12))
def test_a_short_recording_has_blocks_too(frames):
    blocks = recorded(frames).blocks(wandering(frames, 0.9)[:, None])
    assert 2 <= len(set(blocks)) <= frames


def test_no_lag_reaches_into_another_recording():
    """By hand, of four equal frames each: ρ = 1, 3/4, 1/2, 1/4, 0, G = 5, Σ ρ = 4, (1.5 (5/4)² 40)^(1/3) = 4.5."""
    scenes = np.repeat(np.arange(10.0), 4)
    assert recorded(*[4] * 10).block_length(scenes) == 5
    assert recorded(40).block_length(scenes) > 5


def test_blocks_are_neighbours_of_about_one_length_within_a_recording():
    recordings = Recordings([[*range(0, 60, 2)], [*range(1, 60, 2)]])  # their frames take turns
    series = np.empty(60)
    series[0::2], series[1::2] = wandering(30, 0.7), wandering(30, 0.7)[::-1]
    length = recordings.block_length(series)
    blocks = recordings.blocks(series[:, None])
    assert 1 < length < 30
    for frames in recordings.frames:
        sizes = np.unique(blocks[frames], return_counts=True)[1]
        assert (np.diff(blocks[frames]) >= 0).all()
        assert length <= sizes.min() <= sizes.max() < 2 * length
    assert not set(blocks[0::2]) & set(blocks[1::2])


def test_the_longest_that_a_difference_asks_for_serves_all():
    short, long, absent = wandering(101, 0.3), wandering(101, 0.9), np.full(101, math.nan)
    recording = recorded(101)
    one = recording.blocks(long[:, None])
    assert len(set(one)) < len(set(recording.blocks(short[:, None])))
    assert recording.blocks(np.stack([short, long, absent], axis=1)).tolist() == one.tolist()


def test_many_recordings_are_drawn_whole_and_images_one_by_one():
    series = np.zeros((5 * MANY, 0))
    assert recorded(*[5] * MANY).blocks(series).tolist() == np.repeat(np.arange(MANY), 5).tolist()
    assert recorded(*[1] * 7).blocks(np.zeros((7, 0))).tolist() == list(range(7))
