"""The label tables against those that the data sets' authors publish."""

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as published

from effiseg.data.labels import CAMVID, CITYSCAPES, IGNORE_INDEX, LabelSpace

EVALUATED = sorted((label for label in published if label.trainId not in (-1, 255)), key=lambda label: label.trainId)


def test_cityscapes_classes_and_colours_are_the_published_ones_in_train_id_order():
    assert [label.trainId for label in EVALUATED] == list(range(19))
    assert CITYSCAPES.classes == tuple(label.name for label in EVALUATED)
    assert CITYSCAPES.colours == tuple(label.color for label in EVALUATED)


def test_cityscapes_ids_map_as_published():
    expected = {
        label.id: IGNORE_INDEX if label.trainId in (-1, 255) else label.trainId
        for label in published
        if label.id >= 0  # -1, the license plate, does not occur in files
    }
    assert CITYSCAPES.train_id_of == expected


def test_camvid_has_eleven_classes_and_void():
    assert len(CAMVID.classes) == 11
    assert CAMVID.train_id_of == {**{label_id: label_id for label_id in range(11)}, 11: IGNORE_INDEX}


@pytest.mark.parametrize("space", [CITYSCAPES, CAMVID], ids=lambda space: space.name)
def test_spaces_are_consistent(space: LabelSpace):
    assert len(set(space.classes)) == len(space.classes) == len(set(space.colours)) == len(space.colours)
    assert set(space.train_id_of.values()) == {*range(len(space.classes)), IGNORE_INDEX}


@pytest.mark.parametrize("space", [CITYSCAPES, CAMVID], ids=lambda space: space.name)
def test_lookup_agrees_with_the_table_and_marks_every_other_id(space: LabelSpace):
    lookup = space.lookup()
    assert lookup.shape == (256,)
    assert lookup.dtype == np.int16
    assert [lookup[label_id] for label_id in range(256)] == [space.train_id_of.get(i, -1) for i in range(256)]
