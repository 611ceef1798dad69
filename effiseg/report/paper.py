"""What the EffiSeg paper (Kim, Kim, Oh, 2025) reports: Cityscapes, 512x1024, mIoU on labels shrunk to 1/4."""

from dataclasses import dataclass


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
