"""Figures of single samples: predictions side by side, and what the norms do to their inputs."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from effiseg.base.errors import EffiSegError
from effiseg.data.fit import placed
from effiseg.report.results import BASELINE, Norm, Results, Run
from effiseg.report.style import WIDTH, footer, grid, largest_classes, left_out, looks, new_figure, swatches
from effiseg.report.summary import RowSummary
from effiseg.report.tables import points
from effiseg.runs.records import REPAIR

Picture = NDArray[np.uint8]

_PANEL_COLUMNS = 4  # validation images side by side
_MOST_ROWS = 12  # shown in pictures; more would make them too long
_MOST_INCHES = 19.0  # of pictures below each other
_LABEL_WIDTH = 1.1  # inches, for the names of the rows
_NORM_COLUMNS = 4
_MOST_KINDS = 4  # arrangements of norms shown; more would not be read
_MOST_NAMED = 6  # rows in a block's heading
_NORM_NAMES = (
    *(f"stage{stage}.patch_embedding" for stage in (1, 2, 3, 4)),
    "stage1.block1.before_attention",
    "stage1.block1.sequence_reduction",
    "stage1.block1.before_mlp",
    "stage1.output",
)
_NORM_TITLES = {"layernorm": "LayerNorm", "dyt": "DyT", "dyl": "DyL", "derf": "Derf", "batchnorm": "BatchNorm"}


def panels(results: Results) -> Figure:
    """Validation images side by side; below each the truth and every row's prediction."""
    names = results.experiments[:_MOST_ROWS]
    runs = [results.of(name)[0] for name in names]
    indices = np.unique(np.linspace(0, len(results.data.val) - 1, results.config.report.panels).round().astype(int))
    tiles = _tiles(results, runs, indices)
    colours = {name: look.colour for name, look in looks(results.config).items()}
    columns = min(_PANEL_COLUMNS, len(indices))
    blocks = [range(start, min(start + columns, len(indices))) for start in range(0, len(indices), columns)]
    lines = len(tiles) * len(blocks)
    tallest = max(tile.shape[0] / tile.shape[1] for tile in tiles["truth"])
    line_height = min((WIDTH - _LABEL_WIDTH) / columns * tallest, _MOST_INCHES / lines)
    legend_height = _legend_height(results)
    figure = new_figure(1.05 * line_height * lines + legend_height, "Validation images and predictions", 0.015)
    cells = figure.add_gridspec(lines + 1, columns, height_ratios=[*[line_height] * lines, legend_height])
    for block, chosen in enumerate(blocks):
        for line, (name, images) in enumerate(tiles.items()):
            for column, i in enumerate(chosen):
                axes = figure.add_subplot(cells[block * len(tiles) + line, column])
                _show(axes, images[i], tiles["truth"][i])
                if column == 0:
                    _name_line(axes, name, colours.get(name, "#000000"))
    _legend(figure.add_subplot(cells[-1, :]), results)
    more = left_out(len(results.experiments) - len(names), "row")
    footer(figure, results.data, f"seed {runs[0].seed}, last epoch; black: void{more}")
    return figure


def extreme_images(results: Results, summaries: Sequence[RowSummary]) -> Figure:
    """For each row the image that gains most over the baseline and the one that loses most."""
    compared = [row for row in summaries if row.experiment != BASELINE and not np.isnan(row.image_deltas).all()]
    rows = compared[:_MOST_ROWS]
    title = "Where a row gains and loses most: image, truth, baseline, row"
    if not rows:
        figure = new_figure(2, title)
        footer(figure, results.data, "no row can be compared with the baseline")
        return figure
    styles = looks(results.config)
    tiles = [tile for row in rows for tile in _extremes(results, row)]
    tallest = max(truth.shape[0] / truth.shape[1] for _, _, truth in tiles)
    # few rows: the two images below each other; many: side by side and smaller
    columns = 4 if len(rows) <= _MOST_ROWS // 2 else 8
    lines = 8 * len(rows) // columns
    line_height = min((WIDTH - _LABEL_WIDTH) / columns * tallest + 0.25, _MOST_INCHES / lines)
    heights = [*[line_height] * lines, _legend_height(results)]
    figure = new_figure(sum(heights), title, 0.02)
    cells = figure.add_gridspec(lines + 1, columns, height_ratios=heights)
    for i, (heading, image, truth) in enumerate(tiles):
        axes = figure.add_subplot(cells[divmod(i, columns)])
        _show(axes, image, truth)
        axes.set_title(heading, loc="left", fontsize=7, pad=2)
        if i % 8 == 0:
            _name_line(axes, rows[i // 8].experiment, styles[rows[i // 8].experiment].colour)
    _legend(figure.add_subplot(cells[-1, :]), results)
    note = "points of the image's own mIoU against the baseline, mean over the seeds that both have, the first is shown"
    footer(figure, results.data, f"{note}\nlast epoch; black: void{left_out(len(compared) - len(rows), 'row')}")
    return figure


def _extremes(results: Results, row: RowSummary) -> Iterator[tuple[str, Picture, Picture]]:
    """Eight tiles with heading and truth: photograph, truth, baseline and row of the row's best image and its worst."""
    indices = np.array([np.nanargmax(row.image_deltas), np.nanargmin(row.image_deltas)])
    runs = [run for name in (BASELINE, row.experiment) for run in results.of(name) if run.seed == row.paired[0]]
    lines = _tiles(results, runs, indices)
    for i, (word, index) in enumerate(zip(("best", "worst"), indices, strict=True)):
        heading = f"{word}: {points(row.image_deltas[index])}, {results.data.val.names[index]}"
        truth = lines["truth"][i]
        yield from ((heading if line == "image" else "", images[i], truth) for line, images in lines.items())


def _name_line(axes: Axes, name: str, colour: str) -> None:
    axes.set_ylabel(name, rotation=0, ha="right", va="center", color=colour, fontweight="bold")


def _legend_height(results: Results) -> float:
    return 0.2 * math.ceil(len(largest_classes(results.data, results.data.classes)) / 7) + 0.2


def _legend(axes: Axes, results: Results) -> None:
    axes.set_axis_off()
    axes.legend(handles=swatches(results), loc="center", ncols=7, fontsize=8, handlelength=1.2)


def _tiles(results: Results, runs: list[Run], indices: NDArray[np.intp]) -> dict[str, list[Picture]]:
    """Per line of the figure the RGB images (H, W, 3): photographs at the training size, the others as labels are."""
    data, split = results.data, results.data.val
    labels = [np.asarray(split.labels[int(i)]) for i in indices]
    shapes = [(label.shape[0], label.shape[1]) for label in labels]
    pictures = []
    for i, shape in zip(indices, shapes, strict=True):
        height, width = placed(shape, data.size, data.fit)
        pictures.append(np.asarray(split.images[i])[:, :height, :width].transpose(1, 2, 0))
    palette = np.array([*data.colours, (0, 0, 0)], dtype=np.uint8)  # the last: void

    def coloured(classes: NDArray[Any]) -> Picture:
        return palette[classes.clip(max=data.num_classes)]

    names = [split.names[i] for i in indices]
    predictions = {run.experiment: list(map(coloured, run.predictions(names, shapes))) for run in runs}
    return {"image": pictures, "truth": list(map(coloured, labels)), **predictions}


def _show(axes: Axes, image: Picture, truth: Picture) -> None:
    """An image in the shape of its truth."""
    axes.imshow(image, aspect="auto")
    axes.set_box_aspect(truth.shape[0] / truth.shape[1])
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def norm_scatter(results: Results) -> Figure:
    """Inputs of the norms against their outputs, one block per arrangement of norms."""
    groups = _arrangements(results)
    shown = list(groups.items())[:_MOST_KINDS]
    lines = [math.ceil(len(norms) / _NORM_COLUMNS) for _, norms in shown]
    figure = new_figure(
        0.9 + sum(0.4 + 2.0 * count for count in lines), "What the norms do: input to the right, output upwards"
    )
    colours = looks(results.config)
    parts = figure.subfigures(len(shown), 1, height_ratios=lines, squeeze=False)[:, 0]
    for part, (rows, norms) in zip(parts, shown, strict=True):
        named = ", ".join(rows[:_MOST_NAMED])
        if len(rows) > _MOST_NAMED:
            named += f" and {len(rows) - _MOST_NAMED} more"
        part.suptitle(named, x=0.01, ha="left", fontsize=11, color=colours[rows[0]].colour)
        _scatter(part, norms, colours[rows[0]].colour)
    more = left_out(len(groups) - len(shown), "arrangement")
    seed = results.config.study.seeds[0]
    footer(figure, results.data, f"sampled elements after training, seed {seed}, first row of each block{more}")
    return figure


def _arrangements(results: Results) -> dict[tuple[str, ...], dict[str, Norm]]:
    """Rows grouped by which norm stands where, the baseline's group first, with the norms of the group's first row."""
    groups: dict[tuple[str, ...], list[str]] = {}
    chosen: dict[tuple[str, ...], dict[str, Norm]] = {}
    for name in sorted(results.experiments, key=lambda name: name != BASELINE):
        run = results.of(name)[0]
        norms = run.norms()
        selected = {place: norms[place] for place in _NORM_NAMES if place in norms}
        if not selected:
            raise EffiSegError(f"{run.place.scores / 'norms.npz'}: holds none of the norms shown; {REPAIR}")
        kinds = tuple(norm.kind for norm in norms.values())
        groups.setdefault(kinds, []).append(name)
        chosen.setdefault(kinds, selected)
    return {tuple(rows): chosen[kinds] for kinds, rows in groups.items()}


def _scatter(part: SubFigure, norms: dict[str, Norm], colour: str) -> None:
    for axes, (name, norm) in zip(grid(part, len(norms), _NORM_COLUMNS), norms.items(), strict=True):
        axes.scatter(norm.inputs, norm.outputs, s=5, color=colour, alpha=0.4, linewidths=0)
        axes.set_title(f"{name}\n{_NORM_TITLES.get(norm.kind, norm.kind)}", fontsize=8)
        axes.tick_params(labelsize=7)
