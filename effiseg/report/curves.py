"""Figures of what changes over the epochs: training loss and mIoU."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from effiseg.report.results import Results
from effiseg.report.style import TEACHER, Look, footer, grid, looks, new_figure
from effiseg.runs.records import Metrics

_FEW = 16  # up to so many epochs each gets a marker


def training_loss(results: Results) -> Figure:
    """One panel per row: objectives are sums of different terms, so they share no scale."""
    panels = {name: [run.history for run in results.of(name)] for name in results.experiments}
    styles = looks(results.config)
    for run in results.teachers:
        if len(run.history):
            panels[run.experiment], styles[run.experiment] = [run.history], Look(TEACHER, "-")
    columns = min(4 if len(panels) > 6 else 3, len(panels))
    figure = new_figure(1.3 + 2.1 * -(-len(panels) // columns), "Training loss")
    for axes, (name, histories) in zip(grid(figure, len(panels), columns), panels.items(), strict=True):
        _draw(axes, histories, "loss", Look(styles[name].colour, "-"), name)
        axes.set_title(name, loc="left", color=styles[name].colour, fontweight="bold")
        axes.set_xlabel("epoch")
    figure.axes[0].set_ylabel("sum of the row's loss terms")
    spread = "; line: mean over the seeds, band: lowest to highest" if len(results.config.study.seeds) > 1 else ""
    footer(figure, results.data, f"rows minimise different sums: compare shapes, not heights{spread}")
    return figure


def miou_per_epoch(results: Results) -> Figure:
    """All rows in one panel, teachers and the colour floor as levels."""
    styles = looks(results.config)
    figure = new_figure(max(5.0, 2.2 + 0.2 * len(results.experiments)), "Validation mIoU per epoch")
    axes = figure.add_subplot()
    for name in results.experiments:
        _draw(axes, [run.history for run in results.of(name)], "miou", styles[name], name, scale=100)
    levels: list[tuple[str, Metrics, tuple[int, tuple[int, int]]]]
    levels = [(run.experiment, run.metrics, (0, (6, 3))) for run in results.teachers]
    levels.append(("colour lookup", results.floors.colour_lookup, (0, (1, 2))))
    for name, metrics, line in levels:
        axes.axhline(100 * metrics.miou, color=TEACHER, linestyle=line, linewidth=1.5, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("mIoU, %")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside right upper")
    spread = "line: mean over the seeds, band: lowest to highest; " if len(results.config.study.seeds) > 1 else ""
    footer(figure, results.data, f"{spread}at the labels' full resolution; teacher and floor: their final value")
    return figure


def _draw(axes: Axes, histories: list[pd.DataFrame], column: str, look: Look, label: str, scale: float = 1) -> None:
    epochs = pd.concat([frame.set_index("epoch")[column].dropna() for frame in histories]).groupby(level=0)
    mean, low, high = (scale * values for values in (epochs.mean(), epochs.min(), epochs.max()))
    marker = "o" if len(mean) <= _FEW else ""
    (line,) = axes.plot(mean.index, mean, color=look.colour, label=label, linewidth=1.8, marker=marker, markersize=3)
    line.set_linestyle(look.line)
    if len(histories) > 1:
        axes.fill_between(mean.index, low, high, color=look.colour, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
