"""Samples of one group are one recording, frame by frame, as the names of each data set tell it."""

import pytest

from effiseg.data.dataset import open_dataset
from effiseg.report.blocks import recordings


@pytest.mark.parametrize(
    ("source", "names", "expected"),
    [
        ("camvid", ["0016E5_07959", "0016E5_07961", "0016E5_07963"], [[0, 1, 2]]),
        ("camvid", ["0006R0_f00930", "0001TP_006690", "0006R0_f00960", "0001TP_006720"], [[0, 2], [1, 3]]),
        ("camvid", ["d_10", "d_9", "d_100"], [[1, 0, 2]]),
        ("camvid", ["street", "d_1", "d_2", "garden"], [[0], [1, 2], [3]]),
        (
            "cityscapes",
            ["frankfurt/frankfurt_000001_000538", "frankfurt/frankfurt_000000_000294", "lindau/lindau_000000_000019"],
            [[0], [1], [2]],
        ),
        ("cityscapes", ["ulm/ulm_000001_000019", "bonn/bonn_000001_000019", "ulm/ulm_000001_000049"], [[0, 2], [1]]),
        ("synthetic", ["farnhollow/farnhollow_000000_000019", "farnhollow/farnhollow_000001_000019"], [[0], [1]]),
        ("synthetic", ["scene_1", "scene_2"], [[0], [1]]),
    ],
)
def test_names_tell_the_recording(source, names, expected):
    assert recordings([open_dataset(source).group_of(name) for name in names]) == expected
