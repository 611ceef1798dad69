"""Which images were recorded one after the other: neighbouring frames of a drive show the same street."""

import re
from collections.abc import Sequence

# a sample's name: the recording, then the frame's number; generated scenes have nothing to do with each other
_FRAMES = {
    "synthetic": None,
    "cityscapes": re.compile(r"(.+_\d+)_(\d+)"),  # city/city_sequence_frame
    "camvid": re.compile(r"(.+)_f?(\d+)"),  # drive_frame, as in 0016E5_07959 or Seq05VD_f00000
}


def frame_of(source: str, name: str) -> tuple[str, int]:
    """The recording that the sample `name` is from, and the frame's number there; a name of no known form is alone."""
    pattern = _FRAMES[source]
    match = pattern.fullmatch(name) if pattern else None
    return (match[1], int(match[2])) if match else (name, 0)


def recordings(source: str, names: Sequence[str]) -> list[list[int]]:
    """For each recording the places in `names` of its samples, frame by frame; in the order of their first samples."""
    places: dict[str, list[tuple[int, int]]] = {}
    for place, name in enumerate(names):
        recording, frame = frame_of(source, name)
        places.setdefault(recording, []).append((frame, place))
    return [[place for _, place in sorted(frames)] for frames in places.values()]
