"""The answers that need no network, worked out by hand."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effiseg.data.prepared import Prepared
from effiseg.preparation.floors import FLOORS, colour_lookup, largest_class
from effiseg.preparation.prepare import prepare
from tests.settings import CITYSCAPES, data_settings

ROAD, SKY, CAR = (CITYSCAPES.classes.index(name) for name in ("road", "sky", "car"))
LABEL_IDS = {ROAD: 7, SKY: 23, CAR: 26, 255: 0}  # of the raw files
BLACK, GREY, WHITE, RED = (0, 0, 0), (130, 130, 130), (255, 255, 255), (250, 3, 3)

Bands = list[tuple[int, tuple[int, int, int]]]


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Prepared]:
    """One image a split, 16x32, of vertical bands of equal width: (trainId, colour) each."""

    def make(train: Bands, val: Bands, size: tuple[int, int] = (16, 32)) -> Prepared:
        for split, bands in (("train", train), ("val", val)):
            width = 32 // len(bands)
            colours = np.repeat(np.array([colour for _, colour in bands], np.uint8), width, axis=0)
            labels = np.repeat(np.array([LABEL_IDS[label] for label, _ in bands], np.uint8), width)
            image = tmp_path / f"raw/leftImg8bit/{split}/town/town_0_leftImg8bit.png"
            label = tmp_path / f"raw/gtFine/{split}/town/town_0_gtFine_labelIds.png"
            for path, row in ((image, colours), (label, labels)):
                path.parent.mkdir(parents=True)
                Image.fromarray(np.broadcast_to(row, (16, *row.shape)).copy()).save(path)
        prepare(data_settings("cityscapes", tmp_path / "raw", size), tmp_path / "prepared", workers=1)
        return Prepared.open(tmp_path / "prepared")

    return make


def test_the_largest_class_is_that_of_the_training_pixels_without_void(make_data: Callable[..., Prepared]):
    train = [
        (SKY, BLACK),
        (ROAD, BLACK),
        (ROAD, BLACK),
        (255, BLACK),
        (255, BLACK),
        (255, BLACK),
        (CAR, BLACK),
        (255, RED),
    ]
    val = [(SKY, RED), (SKY, RED), (SKY, RED), (ROAD, RED)]
    scores = largest_class(make_data(train, val)).scores
    assert scores.pixel_accuracy == 0.25
    assert scores.iou["road"] == 0.25
    assert scores.iou["sky"] == 0
    assert math.isnan(scores.iou["car"])
    assert scores.miou == 0.125


def test_colours_are_answered_with_their_most_frequent_class(make_data: Callable[..., Prepared]):
    train = [
        (ROAD, GREY), (ROAD, GREY), (ROAD, GREY), (ROAD, WHITE),
        (CAR, GREY), (SKY, WHITE), (SKY, WHITE), (255, BLACK),
    ]  # fmt: skip
    val = [(ROAD, GREY), (CAR, GREY), (SKY, WHITE), (SKY, RED)]  # red was never seen: the largest class, road
    evaluation = colour_lookup(make_data(train, val))
    assert evaluation.scores.pixel_accuracy == 0.5
    assert evaluation.scores.iou["road"] == pytest.approx(1 / 3)
    assert evaluation.scores.iou["car"] == 0
    assert evaluation.scores.iou["sky"] == 0.5
    assert evaluation.full.sum() == 16 * 32
    assert evaluation.quarter.sum() == 4 * 8
    assert (evaluation.full == 16 * evaluation.quarter).all()


def test_colours_of_void_pixels_teach_nothing(make_data: Callable[..., Prepared]):
    train = [(255, RED), (255, RED), (SKY, WHITE), (255, RED)]
    scores = colour_lookup(make_data(train, [(SKY, RED), (ROAD, WHITE)])).scores
    assert (scores.iou["sky"], scores.iou["road"]) == (0.5 / 1, 0)


def test_sixteen_levels_of_each_channel_are_told_apart(make_data: Callable[..., Prepared]):
    train = [(ROAD, (16, 0, 0)), (SKY, (15, 0, 0)), (CAR, (0, 16, 0)), (SKY, (0, 0, 16))]
    same_bins = [(ROAD, (31, 15, 15)), (SKY, (0, 0, 0)), (CAR, (15, 31, 0)), (SKY, (0, 0, 31))]
    assert colour_lookup(make_data(train, same_bins)).scores.miou == 1


def test_answers_at_the_training_size_are_scored_at_full_resolution(make_data: Callable[..., Prepared]):
    bands = [(ROAD, GREY), (SKY, WHITE), (CAR, RED), (SKY, WHITE)]
    data = make_data(bands, bands, size=(32, 64))
    assert (data.size, data.label_sizes) == ((32, 64), [(16, 32)])
    evaluation = colour_lookup(data)
    assert evaluation.full.sum() == 16 * 32
    assert evaluation.quarter.sum() == 8 * 16
    # blurred band edges aside
    assert evaluation.scores.miou > 0.85


def test_floors_are_named_as_the_report_names_them():
    assert {"largest_class": largest_class, "colour_lookup": colour_lookup} == FLOORS


def test_street_scenes_hold_more_than_their_largest_class_and_less_than_colour_tells(data: Prepared):
    low, high = (floor(data).scores.miou for floor in (largest_class, colour_lookup))
    assert 0 < low < high < 0.8
