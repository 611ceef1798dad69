"""Figures of what a row gains over the baseline: how sure that is, in which classes, and at what cost."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from effiseg.report.results import BASELINE, Results
from effiseg.report.statistics import Difference
from effiseg.report.style import Look, footer, largest_classes, left_out, looks, new_figure
from effiseg.report.summary import RowSummary
from effiseg.report.tables import interval, points
from effiseg.report.words import drawn

_VERDICT_COLOURS = {"better": "#0072B2", "worse": "#D55E00"}
_UNDECIDED = "#606060"
_LINE = 0.27  # inches, of a row's line


def gains(results: Results, summaries: Sequence[RowSummary]) -> Figure:
    """A forest plot: each row's gain with its interval and its seeds, the largest first."""
    rows = [row for row in summaries if row.experiment != BASELINE]
    rows = sorted(rows, key=lambda row: math.inf if math.isnan(row.delta.mean) else -row.delta.mean)
    figure = new_figure(1.1 + _LINE * len(rows), "Gain over the baseline, points of mIoU")
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        _draw_gain(axes, place, row, results)
    _zero_line(axes.axvline)
    axes.set_yticks(range(len(rows)), [row.experiment for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Δ mIoU, points")
    footer(
        figure,
        results.data,
        "line: 95 % interval; small dots: single seeds; filled: better or worse over several seeds\n"
        f"{_over(results, rows)}",
    )
    return figure


def _draw_gain(axes: Axes, place: int, row: RowSummary, results: Results) -> None:
    colour = _VERDICT_COLOURS.get(row.verdict, _UNDECIDED)
    words = row.verdict
    if not math.isnan(row.delta.mean):
        words = f"{points(row.delta.mean)} ({interval(row.delta)}) {row.verdict}"
        axes.plot([100 * row.delta.low, 100 * row.delta.high], [place, place], color=colour, linewidth=2)
        seeds = [100 * results.delta(run) for run in results.of(row.experiment) if run.seed in row.paired]
        axes.plot(seeds, [place + 0.22] * len(seeds), ".", color=colour, markersize=4)
        filled = colour if _leaves_zero_out(row.delta) else "white"
        axes.plot(100 * row.delta.mean, place, "o", color=colour, markerfacecolor=filled, markersize=7)
    axes.text(1.01, place, words, va="center", fontsize=8, color=colour, transform=axes.get_yaxis_transform())


def class_gains(results: Results, summaries: Sequence[RowSummary]) -> Figure:
    """A heat map of each row's gain in mIoU and in every class's IoU."""
    rows = _compared(summaries)
    found = [name for name in results.data.classes if name not in results.absent]
    classes = largest_classes(results.data, found)
    figure = new_figure(1.6 + _LINE * len(rows), "Gain over the baseline by class, points of IoU")
    if not rows or not classes:
        footer(figure, results.data, "nothing to compare with a baseline")
        return figure
    axes = figure.add_subplot()
    cells = [[row.delta, *(row.class_deltas[name] for name in classes)] for row in rows]
    values = np.array([[100 * cell.mean for cell in line] for line in cells])
    limit = max(np.abs(values).max(), 0.01)
    image = axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (line, column), value in np.ndenumerate(values):
        _label_cell(axes, line, column, cells[line][column], dark=abs(value) > 0.6 * limit)
    axes.axvline(0.5, color="white", linewidth=4, zorder=0.5)
    axes.set_xticks(range(len(classes) + 1), ["mIoU", *classes], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [row.experiment for row in rows])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, pad=0.01, aspect=30)
    note = f"bold in a frame: better or worse over several seeds{left_out(len(found) - len(classes), 'class')}"
    footer(figure, results.data, f"{note}\n{_over(results, rows)}")
    return figure


def _label_cell(axes: Axes, line: int, column: int, cell: Difference, dark: bool) -> None:
    colour = "white" if dark else "black"
    sure = _leaves_zero_out(cell)
    text = axes.text(column, line, points(cell.mean), ha="center", va="center", fontsize=6.5, color=colour)
    if sure:
        text.set_fontweight("bold")
        axes.add_patch(Rectangle((column - 0.46, line - 0.44), 0.92, 0.88, fill=False, edgecolor=colour, linewidth=1))


def cost_and_gain(results: Results, summaries: Sequence[RowSummary]) -> Figure:
    """What a training takes against what it gains; names stand at the right, tied to their points."""
    rows = _compared(summaries)
    figure = new_figure(max(4.5, 1.0 + 0.2 * len(rows)), "What a training takes, and what it gains")
    axes = figure.add_subplot()
    styles = looks(results.config)
    for row in rows:
        place, colour = (60 * row.device_hours, 100 * row.delta.mean), styles[row.experiment].colour
        axes.vlines(place[0], 100 * row.delta.low, 100 * row.delta.high, color=colour, alpha=0.5, linewidth=1.5)
        axes.plot(*place, "o", color=colour, markersize=6)
    for row in summaries:
        if row.experiment == BASELINE and row.seeds:
            axes.plot(60 * row.device_hours, 0, "D", color=styles[BASELINE].colour, markersize=7, label=BASELINE)
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1))
    _zero_line(axes.axhline)
    _name_points(axes, rows, styles)
    axes.set_xlabel("device minutes of one training")
    axes.set_xlim(left=0)
    axes.set_ylabel("Δ mIoU, points")
    devices = ", ".join(dict.fromkeys(row.device for row in summaries if row.seeds))
    footer(
        figure,
        results.data,
        f"bar: 95 % interval; a device minute is a minute of one process on {devices}\n{_over(results, rows)}",
    )
    return figure


def _name_points(axes: Axes, rows: Sequence[RowSummary], styles: dict[str, Look]) -> None:
    """Names in the order of their gains, evenly spread over the right edge, so that none covers another."""
    for place, row in enumerate(sorted(rows, key=lambda row: row.delta.mean)):
        colour = styles[row.experiment].colour
        axes.annotate(
            row.experiment,
            (60 * row.device_hours, 100 * row.delta.mean),
            (1.04, (place + 0.5) / len(rows)),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.35, "linewidth": 0.8, "relpos": (0, 0.5)},
        )


def _compared(summaries: Sequence[RowSummary]) -> list[RowSummary]:
    """The rows that have a difference from the baseline."""
    return [row for row in summaries if row.experiment != BASELINE and not math.isnan(row.delta.mean)]


def _leaves_zero_out(delta: Difference) -> bool:
    return delta.verdict in ("better", "worse")  # one seed is no evidence, whatever its interval


def _zero_line(draw: Callable[..., object]) -> None:
    draw(0, color="black", linewidth=1, linestyle="--")


def _over(results: Results, rows: Sequence[RowSummary]) -> str:
    """Over what the intervals are, for the footer."""
    seeds = sorted({row.delta.seeds for row in rows if row.delta.seeds})
    if not seeds:
        return "no row can be compared with the baseline"
    if seeds == [1]:
        return f"one seed: the intervals are over {drawn(results)} alone and compare two trained networks"
    return f"over {drawn(results)} and {' to '.join(str(s) for s in dict.fromkeys((seeds[0], seeds[-1])))} seeds"
