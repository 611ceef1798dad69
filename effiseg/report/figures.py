"""All figures of the report. A new one is a function and one entry of `FIGURES`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from effiseg.report.classes import class_distribution, class_iou_radar
from effiseg.report.curves import miou_per_epoch, training_loss
from effiseg.report.evidence import class_gains, cost_and_gain, gains
from effiseg.report.lengths import gain_over_length, lengths
from effiseg.report.results import Results
from effiseg.report.samples import extreme_images, norm_scatter, panels
from effiseg.report.style import plain_style, save
from effiseg.report.summary import RowSummary, View
from effiseg.report.words import LENGTHS


@dataclass(frozen=True)
class Drawing:
    """A figure and what the page says of it."""

    heading: str
    says: str
    draw: Callable[[Results, Sequence[RowSummary]], Figure]
    pictures: bool = False  # whether it shows images and predictions, which a kept study has none of
    finals: bool = False  # whether it is drawn of the splits of data.final_on too


# in the order of the page
FIGURES: dict[str, Drawing] = {
    "gains": Drawing(
        "How sure each gain is",
        "Each row's difference from the baseline with its 95 % interval. An interval that holds 0 says that the data "
        "cannot tell the row from the baseline.",
        gains,
        finals=True,
    ),
    "class_gains": Drawing(
        "Which classes gain",
        "The same difference for every class. With many cells some leave 0 out by chance: look for whole lines and "
        "columns.",
        class_gains,
        finals=True,
    ),
    "class_iou_radar": Drawing(
        "IoU per class",
        "How well each row finds each class, over the outline of the baseline.",
        lambda results, _: class_iou_radar(results),
    ),
    "miou_per_epoch": Drawing(
        "mIoU over the epochs",
        "Validation mIoU while training. Curves that still rise say that the schedule was short.",
        lambda results, _: miou_per_epoch(results),
    ),
    "training_loss": Drawing(
        "Training loss",
        "The objective of each row over the epochs.",
        lambda results, _: training_loss(results),
    ),
    "cost_and_gain": Drawing(
        "What it costs",
        "Training time of a row against its gain: what lies higher gains more, what lies to the left is cheaper.",
        cost_and_gain,
    ),
    "extreme_images": Drawing(
        "Where it helps and where it hurts",
        "For each row the validation image that gains most against the baseline and the one that loses most. They are "
        "extremes, chosen after the fact, and no evidence of what is typical.",
        extreme_images,
        pictures=True,
    ),
    "panels": Drawing(
        "Predictions side by side",
        "Validation images, evenly spaced over the split, whatever the rows make of them.",
        lambda results, _: panels(results),
        pictures=True,
    ),
    "norm_scatter": Drawing(
        "What the norms do",
        "Inputs of the norms against their outputs in the trained networks.",
        lambda results, _: norm_scatter(results),
    ),
    "class_distribution": Drawing(
        "The data",
        "Share of the pixels of each class in the training and the validation labels.",
        lambda results, _: class_distribution(results.data),
    ),
}


class Drawn(NamedTuple):
    """A figure that was written, and what the page says of it."""

    path: Path
    heading: str
    says: str


def write_figures(views: Mapping[str, View], folder: Path) -> list[Drawn]:
    """Draw every figure for which there is what it shows as <name>.png into `folder`, which must exist."""
    first, *finals = views.values()
    with plain_style():
        return [
            Drawn(save(figure, folder / f"{name}.png"), heading, says)
            for name, heading, says, figure in _figures(views, first, finals)
        ]


def _figures(views: Mapping[str, View], first: View, finals: Sequence[View]) -> Iterator[tuple[str, str, str, Figure]]:
    """Those of the validation split, after each the same of the others where it is one for every split."""
    for name, drawing in FIGURES.items():
        if drawing.pictures and not first.results.pictures:
            continue
        yield name, drawing.heading, drawing.says, drawing.draw(*first)
        for final in finals if drawing.finals else ():
            split = final.results.split
            yield f"{name}_{split}", f"{drawing.heading}, on {split}", drawing.says, drawing.draw(*final)
    if any(lengths(view.results) for view in views.values()):
        yield "lengths", "Over the length of training", LENGTHS, gain_over_length(views)
