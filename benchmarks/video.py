"""A whole video against the network by itself: what reading and writing cost beside it."""

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.compare import Result, summarise, time_in_turn
from benchmarks.rows import CPU, onnx_session
from benchmarks.setting import CLASSES, IMAGE_SIZE, row
from effiseg.data.dataset import open_dataset
from effiseg.deployment.predict import BATCH
from effiseg.deployment.predictor import Predictor
from effiseg.models import deploy
from effiseg.models.segformer import build_model
from effiseg.scenes.synthetic import synthesize
from effiseg.video.frames import open_video
from effiseg.video.predict import predict_video
from effiseg.video.write import write_video

SCENES, FRAMES = 2, 24
RATE = Fraction(25)


def video_rate() -> Iterator[Result]:
    """Frames per second of `predict` from one H.264 file to another, and of the same predictor on frames in memory."""
    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor(_Onnx(), IMAGE_SIZE, "squash", CPU)
        source, out = Path(folder, "in.mp4"), Path(folder, "out.mp4")
        _drive(Path(folder), source)
        space = open_dataset("cityscapes").space
        with open_video(source) as clip:
            pictures = [frame.picture for frame in clip.frames]
        assert len(pictures) == FRAMES

        def whole() -> None:
            with open_video(source) as clip:
                assert predict_video(predictor, space, clip, out).frames == FRAMES

        def network() -> None:
            for start in range(0, FRAMES, BATCH):
                predictor(pictures[start : start + BATCH])

        mine, theirs = time_in_turn(whole, network, CPU)
    note = (
        f"a video of {FRAMES} frames of {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}, B0 deployed, ONNX Runtime, float32; ours: "
        "`predict` from H.264 to H.264; other: the network by itself, the same frames in memory to class maps"
    )
    speeds = ([FRAMES / second for second in seconds] for seconds in (mine, theirs))
    yield summarise("video_rate", *speeds, unit="frames/s", floor=0.85, device=CPU, note=note, better="more")


class _Onnx(nn.Module):
    """The deployed baseline in ONNX Runtime: uint8 images to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.session = onnx_session(deploy(build_model(row("baseline").model, CLASSES)))

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(["logits"], {"images": images.numpy()})[0])


def _drive(folder: Path, path: Path) -> None:
    """A video in which generated scenes go by."""
    synthesize(folder / "raw", train=SCENES, val=1, height=IMAGE_SIZE[0], seed=0)
    scenes = [
        np.asarray(Image.open(file).convert("RGB")) for file in sorted(folder.glob("raw/leftImg8bit/train/*/*.png"))
    ]
    with write_video(path, IMAGE_SIZE, 1 / RATE, RATE, Fraction(1)) as add:
        for index in range(FRAMES):
            add(np.roll(scenes[index * SCENES // FRAMES], 4 * index, axis=1), index)
