"""Which recording and frame a sample's name tells of, in the names that the data sets have."""

import pytest

from effiseg.report.recordings import recordings


@pytest.mark.parametrize(
    ("source", "names", "expected"),
    [
        ("camvid", ["0016E5_07959", "0016E5_07961", "0016E5_07963"], [[0, 1, 2]]),
        ("camvid", ["0006R0_f00930", "0001TP_006690", "0006R0_f00960", "0001TP_006720"], [[0, 2], [1, 3]]),
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
    assert recordings(source, names) == expected


def test_frames_are_in_order_by_number_not_by_text():
    assert recordings("camvid", ["d_10", "d_9", "d_100"]) == [[1, 0, 2]]


def test_a_name_of_another_form_stands_alone():
    assert recordings("camvid", ["street", "d_1", "d_2", "garden"]) == [[0], [1, 2], [3]]
