"""Figures of the classes: how many pixels each has, and how well each row finds it."""

import math
from statistics import mean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from effiseg.data.prepared import Prepared
from effiseg.report.results import BASELINE, Results
from effiseg.report.style import (
    Look,
    footer,
    grid,
    hexadecimal,
    largest_classes,
    left_out,
    looks,
    new_figure,
    some,
)

_MOST_CHARTS = 18  # six lines of radar charts; the heat map shows all rows
_CLOCKWISE = {"projection": "polar", "theta_offset": math.pi / 2, "theta_direction": -1}


def class_distribution(data: Prepared) -> Figure:
    """Share of the labelled pixels per class, in the data set's colours."""
    figure = new_figure(4.6, "Pixels per class")
    axes = figure.add_subplot()
    names = largest_classes(data, data.classes)
    shown = [data.classes.index(name) for name in names]
    colours = [hexadecimal(data.colours[i]) for i in shown]
    places = np.arange(len(names))
    notes, lowest = [], math.inf
    for split, shift, hatch in (("train", -0.2, ""), ("val", 0.2, "//////")):
        counts = np.asarray(data.pixel_counts[split], dtype=np.float64)
        shares = 100 * counts[shown] / max(counts.sum(), 1)
        axes.bar(places + shift, shares, 0.4, color=colours, edgecolor="white" if hatch else colours, hatch=hatch)
        axes.bar(places + shift, shares, 0.4, color="none", edgecolor="#404040", linewidth=0.6)
        void = data.void_pixels[split]
        notes.append(f"{split} {100 * void / max(void + counts.sum(), 1):.1f} %")
        _mark_absent(axes, places[shares == 0] + shift)
        lowest = min(lowest, *shares[shares > 0], math.inf)
    if lowest < math.inf:
        axes.set_yscale("log")
        axes.set_ylim(bottom=lowest / 2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("share of labelled pixels, %")
    axes.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.grid(axis="x", visible=False)
    keys = {"train": "", "val": "//////"}
    axes.legend(
        handles=[Patch(facecolor="#909090", edgecolor="white", hatch=hatch, label=key) for key, hatch in keys.items()],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
    )
    more = left_out(len(data.classes) - len(names), "class")
    footer(figure, data, f"void pixels, which count nowhere: {', '.join(notes)}{more}")
    return figure


def _mark_absent(axes: Axes, places: np.ndarray) -> None:
    for place in places:
        axes.text(
            place, 0.02, "none", rotation=90, ha="center", va="bottom", fontsize=7, transform=axes.get_xaxis_transform()
        )


def class_iou_radar(results: Results) -> Figure:
    """One radar chart per row, each over the outline of the baseline (the first row where there is none)."""
    found = [name for name in results.data.classes if name not in results.absent]
    shown = largest_classes(results.data, found)
    rows = results.experiments
    reference = BASELINE if BASELINE in rows else rows[0]
    different = [row for row in rows if row != reference]
    others = different[:_MOST_CHARTS] or [reference]
    columns = min(3, len(others))
    figure = new_figure(0.3 + (2.9 if columns == 3 else 4.0) * -(-len(others) // columns), "IoU per class, %")
    if not shown:
        footer(figure, results.data, "the validation labels hold no class")
        return figure
    styles = looks(results.config)
    values = {row: [100 * mean(run.metrics.iou[name] for run in results.of(row)) for name in shown] for row in rows}
    rim = max(20, 20 * math.ceil(max(max(line) for line in values.values()) / 20))
    for axes, row in zip(grid(figure, len(others), columns, **_CLOCKWISE), others, strict=True):
        if row != reference:
            _polygon(axes, values[reference], Look("#404040", "--"))
        _polygon(axes, values[row], Look(styles[row].colour, "-"), filled=True)
        axes.set_title(row, color=styles[row].colour, fontweight="bold", pad=17)
        _label_spokes(axes, shown, rim)
    dashed = f"; dashed: {reference}" if reference not in others else ""
    missing = f"; absent from the validation labels: {some(results.absent)}" if results.absent else ""
    more = left_out(len(different) - _MOST_CHARTS, "row") + left_out(len(found) - len(shown), "class")
    footer(figure, results.data, f"last epoch, mean over the seeds; rim: {rim} %{dashed}{missing}{more}")
    return figure


def _polygon(axes: Axes, values: list[float], look: Look, filled: bool = False) -> None:
    angles = np.linspace(0, 2 * math.pi, len(values), endpoint=False)
    closed = np.append(angles, angles[0]), np.append(values, values[0])
    axes.plot(*closed, linestyle=look.line, color=look.colour, linewidth=1.6 if filled else 1.1)
    if filled:
        axes.fill(*closed, color=look.colour, alpha=0.15, linewidth=0)


def _label_spokes(axes: Axes, names: list[str], rim: int) -> None:
    angles = np.linspace(0, 2 * math.pi, len(names), endpoint=False)
    axes.set_xticks(angles, [])
    for angle, name in zip(angles, names, strict=True):
        # names lean outwards from the rim, so that neighbours never meet
        side = "center" if math.isclose(math.sin(angle), 0, abs_tol=0.1) else "left" if math.sin(angle) > 0 else "right"
        height = "center" if side != "center" else "bottom" if math.cos(angle) > 0 else "top"
        axes.text(angle, 1.04 * rim, name, ha=side, va=height, fontsize=8)
    axes.set_ylim(0, rim)
    axes.set_yticks(range(20, rim, 20))
    axes.tick_params(axis="y", labelsize=7, labelcolor="#606060")
