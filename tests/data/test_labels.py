"""Label spaces: what stands for a class is said once, and the shipped tables are those that the authors publish."""

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as published
from pydantic import ValidationError

from effiseg.base.schema import IGNORE_INDEX
from effiseg.data.labels import UNKNOWN, LabelSpace, packed_colour
from tests.settings import CAMVID, CITYSCAPES

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
    known = np.flatnonzero(CITYSCAPES.of_id != UNKNOWN)
    assert {int(label_id): int(CITYSCAPES.of_id[label_id]) for label_id in known} == expected


def test_camvid_has_eleven_classes_and_void():
    assert len(CAMVID.classes) == 11
    assert CAMVID.of_id[:13].tolist() == [*range(11), IGNORE_INDEX, UNKNOWN]


def space(*entries: dict[str, object], **void: object) -> LabelSpace:
    return LabelSpace.model_validate({"name": "x", "entries": list(entries), "void": void})


def entry(name: str, **changes: object) -> dict[str, object]:
    return {"name": name, "colour": [1, 2, 3], **changes}


def test_the_colour_of_a_class_stands_for_it_where_nothing_else_does():
    keys, train_ids = space(entry("a", colour=[2, 0, 0]), entry("b", colour=[1, 0, 0]), colours=[[0, 0, 9]]).of_colour
    assert keys.tolist() == [packed_colour(colour) for colour in ((0, 0, 9), (1, 0, 0), (2, 0, 0))]
    assert train_ids.tolist() == [IGNORE_INDEX, 1, 0]


def test_a_space_survives_json():
    for each in (CITYSCAPES, CAMVID, space(entry("a", ids=3), ids=[4], rest=True)):
        assert LabelSpace.model_validate_json(each.model_dump_json()) == each


@pytest.mark.parametrize(
    ("entries", "void", "message"),
    [
        ((entry("a", ids=1), entry("b", ids=[2, 1])), {}, "id 1 stands twice (a, b)"),
        ((entry("a", ids=1),), {"ids": [1]}, "id 1 stands twice (a, void)"),
        ((entry("a"), entry("b")), {}, "colour [1, 2, 3] stands twice (a, b)"),
        ((entry("a", ids=1), entry("a", ids=2)), {}, "name a stands twice"),
        ((entry("a", ids=1), entry("b")), {}, "class 'b' has no ids, but others have"),
        ((entry("a", ids=1, colours=[0, 0, 0]), entry("b", ids=2)), {}, "class 'b' has no colours, but others have"),
        ((entry("a", colour=[1, 2]),), {}, "colour"),
        ((entry("a", ids=65536),), {}, "less than or equal to 65535"),
        ((), {}, "at least 1"),
    ],
)
def test_what_is_ambiguous_or_out_of_range_is_refused(entries, void, message: str):
    with pytest.raises(ValidationError) as caught:
        space(*entries, **void)
    assert message in str(caught.value)
