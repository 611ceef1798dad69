"""Frames out: a video that is there whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_file
from effiseg.video.files import ENCODINGS
from effiseg.video.pyav import import_av

_BT709, _LIMITED = 1, 1  # ffmpeg's numbers; a file that does not tell its colours is shown in others by some players


@contextmanager
def write_video(
    path: Path, size: tuple[int, int], tick: Fraction, rate: Fraction, aspect: Fraction
) -> Iterator[Callable[[NDArray[np.uint8], int], None]]:
    """A function that adds a frame: RGB (H, W, 3), and when it is shown, in ticks.

    H.264 halves the colours' sides, so that a frame of an odd side gets its last line or column twice.

    Args:
        path: by whose suffix `ENCODINGS` says how it is written.
        size: (height, width) of the frames.
        tick: in seconds.
        rate: frames per second, on the average.
        aspect: a pixel's width over its height; FFV1 has no place for it.

    Raises:
        EffiSegError: `av` is not installed, or the file cannot be written.
    """
    av = import_av()
    encoding = ENCODINGS[path.suffix.lower()]
    even = encoding.pixels == "yuv420p"
    below, right = (side % 2 if even else 0 for side in size)
    try:
        with whole_file(path) as partial, av.open(str(partial.resolve()), "w", format=encoding.container) as output:
            stream = output.add_stream(encoding.codec, rate=rate, options=encoding.options)
            stream.pix_fmt, stream.height, stream.width = encoding.pixels, size[0] + below, size[1] + right
            stream.time_base = stream.codec_context.time_base = tick
            stream.codec_context.sample_aspect_ratio = aspect
            if even:
                context = stream.codec_context
                context.colorspace = context.color_primaries = context.color_trc = _BT709
                context.color_range = _LIMITED

            def add(pixels: NDArray[np.uint8], stamp: int) -> None:
                if below or right:
                    pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                if even:
                    frame = frame.reformat(format=encoding.pixels, dst_colorspace=_BT709, dst_color_range=_LIMITED)
                frame.time_base, frame.pts = tick, stamp
                output.mux(stream.encode(frame))

            yield add
            output.mux(stream.encode())  # what the encoder still holds
    except (av.FFmpegError, OSError) as error:
        raise EffiSegError(
            f"{path}: cannot be written ({error.strerror}); free space, or choose another folder"
        ) from None
