"""Which files are videos, and where one is written: told by names, before any work."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from effiseg.base.errors import EffiSegError


class Encoding(NamedTuple):
    """How a video is written: names of ffmpeg's, for its container, codec and pixels, and the codec's options."""

    container: str
    codec: str
    pixels: str
    options: dict[str, str]


_H264 = ("libx264", "yuv420p", {"preset": "veryfast", "crf": "18"})  # all players know it
ENCODINGS = {
    ".mp4": Encoding("mp4", *_H264),
    ".mov": Encoding("mov", *_H264),
    ".mkv": Encoding("matroska", "ffv1", "bgr0", {"level": "3", "slicecrc": "1"}),  # every colour as it was
}
SUFFIXES = (
    *(".mp4", ".mov", ".mkv", ".m4v", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv"),
    *(".3gp", ".ogv", ".mxf", ".y4m", ".h264", ".h265", ".mjpeg"),
)


def is_video(path: Path) -> bool:
    """Whether a path is named as a video is, and no folder."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def the_video(targets: Sequence[str]) -> Path | None:
    """The video that the command line names; None where it names pictures.

    Raises:
        EffiSegError: it names more besides, or the video is not there.
    """
    videos = [Path(target) for target in targets if is_video(Path(target))]
    if not videos:
        return None
    if len(targets) > 1:
        raise EffiSegError(
            f"{videos[0]}: a video beside other pictures or videos, expected it alone; predict each apart"
        )
    if not videos[0].is_file():
        raise EffiSegError(f"{videos[0]}: not found, expected a video; check the path")
    return videos[0]


def check_output(out: Path, read: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse to write a video to `out`, if need be.

    Args:
        read: files that must stay as they are.
        overwrite: whether another file that exists may be replaced.

    Raises:
        EffiSegError: no container has its suffix, it is a folder or one of the files to read, or it exists and is not
            to be replaced.
    """
    if out.suffix.lower() not in ENCODINGS or out.is_dir():
        raise EffiSegError(f"--out {out}: expected a video to write, named {', '.join(ENCODINGS)}")
    if out.resolve() in {file.resolve() for file in read}:
        raise EffiSegError(f"--out {out}: is one of the files to read; choose another")
    if os.path.lexists(out) and not overwrite:
        raise EffiSegError(f"--out {out}: exists already; choose another, or give --overwrite to replace it")


def in_order(pictures: Sequence[Path]) -> list[Path]:
    """Pictures in the order of their names, where a number counts by its value: frame2 before frame10."""
    return sorted(pictures, key=lambda picture: [_number(part) for part in re.split(r"(\d+)", str(picture))])


def _number(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdecimal() else (0, part)
