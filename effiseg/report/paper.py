"""What the EffiSeg paper (Kim, Kim, Oh, 2025) reports: Cityscapes, 512x1024, mIoU on labels shrunk to 1/4."""

from collections.abc import Iterator
from dataclasses import dataclass

from effiseg.base.config import Config
from effiseg.data.prepared import Prepared

IMAGES = 500  # of the validation split
SIZE = (512, 1024)  # of images, and of what FLOPs and FPS are counted on
LABELS = (1024, 2048)


def unlike_the_paper(data: Prepared, config: Config) -> list[str]:
    """In what a study on Cityscapes measures something else than the paper did; empty where it does not."""
    return [text for text in _differences(data, config) if text]


def _differences(data: Prepared, config: Config) -> Iterator[str]:
    yield config.data.validation
    if len(data.val) != IMAGES:
        yield f"{len(data.val)} validation images, and not all {IMAGES}"
    if any(config.row(name).start.source != "drawn" for name, _ in config.runs()):
        yield "first weights that are not drawn"
    for what, ours, theirs in (
        ("images", data.size, SIZE),
        ("labels", data.label_sizes[0], LABELS),
        ("costs", tuple(config.profile.size), SIZE),
    ):
        if ours != theirs:
            yield f"{what} at {ours[0]}x{ours[1]}, and not at {theirs[0]}x{theirs[1]}"


@dataclass(frozen=True)
class PaperRow:
    """One line of the paper's table.

    Attributes:
        miou: percent, on the quarter grid, one seed.
        params_m: millions.
        gflops: multiply-adds without attention, in G; the paper calls them FLOPs.
        fps: on an RTX 3090.
    """

    miou: float
    params_m: float
    gflops: float
    fps: float


PAPER_ROWS = {
    "baseline": PaperRow(62.56, 3.72, 13.74, 119.48),
    "tanh": PaperRow(60.10, 3.72, 13.74, 119.61),
    "tanh_linear": PaperRow(59.646, 3.72, 13.73, 126.22),
    "kd": PaperRow(68.25, 3.72, 13.74, 119.48),
    "dice_focal": PaperRow(62.15, 3.72, 13.74, 119.48),
    "teacher": PaperRow(76.49, 27.36, 114.09, 35.58),
}
