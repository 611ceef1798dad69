"""A clip in, a coloured video out: reader, network and writer side by side."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from effiseg.data.labels import LabelSpace
from effiseg.deployment.pictures import coloured
from effiseg.deployment.predict import BATCH
from effiseg.deployment.predictor import Predictor
from effiseg.video.frames import Clip, Frame
from effiseg.video.side_by_side import side_by_side
from effiseg.video.write import write_video

_AHEAD = 2 * BATCH  # frames that wait for the network, and for the writer
_OPACITY = 0.6  # of the colours over the frame, as over pictures


@dataclass(frozen=True)
class Pace:
    """How fast a video was predicted.

    Attributes:
        frames: how many.
        seconds: from the first frame to the whole file.
        network: seconds of them from pictures to class maps.
    """

    frames: int
    seconds: float
    network: float

    def told(self) -> str:
        """The rates, in words."""
        whole, network = self.frames / self.seconds, self.frames / self.network
        return (
            f"{self.frames} frame{'s' if self.frames != 1 else ''} in {self.seconds:.1f} s, {whole:.2f} frames per "
            f"second (the network by itself {network:.2f})"
        )


def predict_video(predictor: Predictor, space: LabelSpace, clip: Clip, out: Path) -> Pace:
    """Predict every frame and write the video, whole or not at all.

    Raises:
        EffiSegError: a frame cannot be read, or the video cannot be written.
    """
    count, network = 0, 0.0
    start = time.perf_counter()

    def work(frames: list[Frame]) -> Iterator[tuple[Frame, NDArray[Any]]]:
        nonlocal network
        begun = time.perf_counter()
        maps = predictor([frame.picture for frame in frames])
        network += time.perf_counter() - begun
        return zip(frames, maps, strict=True)

    with (
        write_video(out, clip.size, clip.tick, clip.rate, clip.aspect) as add,
        tqdm(total=clip.count, desc="predict", unit="frame", leave=False) as bar,
    ):

        def write(job: tuple[Frame, NDArray[Any]]) -> None:
            nonlocal count
            frame, found = job
            add(painted(frame.picture, found, space), frame.stamp)
            count += 1
            bar.update()

        side_by_side(clip.frames, work, write, batch=BATCH, ahead=_AHEAD)
    return Pace(count, time.perf_counter() - start, network)


def painted(picture: Image.Image, classes: NDArray[Any], space: LabelSpace) -> NDArray[np.uint8]:
    """The colours of trainIds (H, W) over a picture, as RGB (H, W, 3): a predicted picture without its legend."""
    return np.asarray(Image.blend(picture, coloured(classes, space.colours), _OPACITY))
