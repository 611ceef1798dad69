"""Frames in: of a video, or of a camera's pictures, upright and in order."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from effiseg.base.errors import EffiSegError
from effiseg.data.images import BadFile, read_image
from effiseg.video.pyav import import_av

RATE = Fraction(25)  # frames per second where nobody tells
_SLACK = 0.5  # seconds by which a Matroska file may end before it says
_TURNED = {  # degrees against the clock -> how a frame is turned
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    -180: Image.Transpose.ROTATE_180,
    -90: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class Frame:
    """A picture of a video.

    Attributes:
        name: of the frame, for people.
        picture: RGB, upright.
        stamp: when it is shown, in the clip's ticks after the first one; each is larger than the one before.
    """

    name: str
    picture: Image.Image
    stamp: int


@dataclass(frozen=True)
class Clip:
    """Frames to predict, and what is known before they are read.

    Attributes:
        frames: to be read once, by one thread at a time.
        size: (height, width) of each, in pixels.
        tick: what stamps count, in seconds.
        rate: frames per second, on the average.
        aspect: a pixel's width over its height.
        count: how many frames there are, as far as the file tells; None where it does not.
    """

    frames: Iterator[Frame]
    size: tuple[int, int]
    tick: Fraction
    rate: Fraction
    aspect: Fraction
    count: int | None


def open_pictures(pictures: Sequence[Path], rate: Fraction) -> Clip:
    """Pictures as frames, `rate` a second.

    Raises:
        EffiSegError: the first one cannot be read; in `frames`, another cannot, or is of another size.
    """
    first, frames = _with_first(_read(pictures))
    return Clip(_of_one_size(frames), _size(first), 1 / rate, rate, Fraction(1), len(pictures))


@contextmanager
def open_video(path: Path) -> Iterator[Clip]:
    """A video's frames, turned as the file says.

    Raises:
        EffiSegError: `av` is not installed, or the file is no video, in a codec that nobody decodes, or cut off; in
            `frames`, it is damaged or cut off, or a frame is of another size than the first.
    """
    av = import_av()
    try:
        # an absolute path is taken for no protocol; a list of addresses that is named as a video reaches nothing
        container = av.open(str(path.resolve()), metadata_errors="ignore", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError) as error:
        raise EffiSegError(
            f"{path}: no video that ffmpeg reads, or it is cut off ({error.strerror}); copy it again"
        ) from None
    with container:
        cover = av.stream.Disposition.attached_pic  # of a song
        streams = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not streams:
            raise EffiSegError(f"{path}: holds no pictures, as of sound alone; give a video")
        stream = streams[0]
        if stream.codec_context is None:
            raise EffiSegError(f"{path}: in a codec that ffmpeg does not know here, expected H.264 say; convert it")
        _check_whole(path, container, stream)
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.guessed_rate or RATE
        seconds = Fraction(container.duration or 0, av.time_base)
        step = max(1, round(1 / (rate * stream.time_base)))
        with closing(_decoded(path, container, stream, step)) as decoded:  # before the container is
            (first, turned), frames = _with_first(decoded)
            aspect = Fraction(stream.sample_aspect_ratio or 1)
            yield Clip(
                _of_one_size(frame for frame, _ in frames),
                _size(first),
                stream.time_base,
                rate,
                1 / aspect if abs(turned) == 90 else aspect,
                stream.frames or round(seconds * rate) or None,
            )


def _check_whole(path: Path, container: Any, stream: Any) -> None:
    """Refuse an MP4 that ends before its own index does; ffmpeg itself takes one that is cut between two frames."""
    if "mp4" not in container.format.name:
        return
    ends = [entry.pos + entry.size for entry in stream.index_entries]
    there = sum(end <= path.stat().st_size for end in ends)
    if there < len(ends):
        raise _damaged(path, there, f"the file ends before {len(ends)}, which its index tells")


def _read(pictures: Sequence[Path]) -> Iterator[Frame]:
    for stamp, path in enumerate(pictures):
        try:
            yield Frame(str(path), read_image(path), stamp)
        except BadFile as error:
            raise EffiSegError(f"{path}: {error}; without it there is no video") from None


def _decoded(path: Path, container: Any, stream: Any, step: int) -> Generator[tuple[Frame, int], None, None]:
    """Frames, and by how many degrees each was turned against the clock; `step` is a frame's usual time, in ticks."""
    av = import_av()
    count, first, stamp, end = 0, 0, -1, Fraction(0)
    try:
        for packet in container.demux():  # of all streams, since the longest tells whether the file is whole
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream_index != stream.index:
                continue
            frames = packet.decode()
            if packet.is_corrupt or any(frame.is_corrupt for frame in frames):
                raise _damaged(path, count, "data are missing or wrong")
            for frame in frames:
                if not count:
                    first = frame.pts or 0
                # a raw stream has no times, and those of a bad one turn back
                stamp = max(stamp + 1, stamp + step if frame.pts is None else frame.pts - first) if count else 0
                count += 1
                picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
                turned = frame.rotation if frame.rotation in _TURNED else 0
                upright = picture.transpose(_TURNED[turned]) if turned else picture
                yield Frame(f"{path}, frame {count}", upright, stamp), turned
    except av.FFmpegError as error:
        raise _damaged(path, count, error.strerror) from None
    promised = Fraction(container.duration or 0, av.time_base)
    if not count or ("matroska" in container.format.name and end + _SLACK < promised):
        raise _damaged(path, count, f"it ends after {float(end):.1f} of {float(promised):.1f} seconds")


def _damaged(path: Path, count: int, reason: str) -> EffiSegError:
    return EffiSegError(f"{path}: damaged after {count} frames ({reason}); copy it again, or cut it there")


def _with_first(items: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
    """The first item, and all of them."""
    first = next(items)
    return first, chain([first], items)


def _of_one_size(frames: Iterator[Frame]) -> Iterator[Frame]:
    size: tuple[int, int] | None = None
    for frame in frames:
        size = size or frame.picture.size
        if frame.picture.size != size:
            found, wanted = (f"{width}x{height}" for width, height in (frame.picture.size, size))
            raise EffiSegError(f"{frame.name}: {found}, but the first frame is {wanted}; a video has one size")
        yield frame


def _size(frame: Frame) -> tuple[int, int]:
    return frame.picture.height, frame.picture.width
