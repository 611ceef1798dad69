"""All figures of the report. A new one is a function of the results and one line in `FIGURES`."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from effiseg.data.prepared import Prepared
from effiseg.report.classes import class_distribution, class_iou_radar
from effiseg.report.collect import Results
from effiseg.report.curves import miou_per_epoch, training_loss
from effiseg.report.samples import norm_scatter, panels
from effiseg.report.style import plain_style, save

FIGURES: dict[str, Callable[[Results], Figure]] = {
    "class_distribution": lambda results: class_distribution(results.data),
    "training_loss": training_loss,
    "miou_per_epoch": miou_per_epoch,
    "class_iou_radar": class_iou_radar,
    "norm_scatter": norm_scatter,
    "panels": panels,
}


def write_class_distribution(data: Prepared, path: Path) -> Path:
    """Draw the one figure that needs no results."""
    with plain_style():
        return save(class_distribution(data), path)


def write_figures(results: Results, folder: Path) -> list[Path]:
    """Draw every figure as <name>.png into `folder`, which must exist."""
    with plain_style():
        return [save(draw(results), folder / f"{name}.png") for name, draw in FIGURES.items()]
