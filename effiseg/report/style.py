"""How all figures look: one colour and line per row, one footer, one way to save."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from effiseg.base.config import Config
from effiseg.data.labels import Colour
from effiseg.data.prepared import Prepared
from effiseg.report.results import Results

# matplotlib's names, or an offset and a pattern of strokes and gaps
Line = Literal["-", "--", ":", "-."] | tuple[int, tuple[int, ...]]

DPI = 110
WIDTH = 10.0  # inches, of every figure
TEACHER = "#7F7F7F"
_MOST_CLASSES = 40  # that a figure names
_MOST_NAMES = 12  # in a footer
_GAP = 0.08  # inches between the canvas and its title or footer

# Okabe and Ito's palette, which colour-blind readers can tell apart; two of Tol's are in place of its too pale yellow
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#882255", "#999933")
_LINES: tuple[Line, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "image.interpolation": "auto",
}


@dataclass(frozen=True)
class Look:
    """How one row is drawn, in every figure."""

    colour: str
    line: Line


def looks(config: Config) -> dict[str, Look]:
    """The look of each row by its place in params.yaml, so that leaving a row out recolours no other."""
    return {
        name: Look(_COLOURS[i % len(_COLOURS)], _LINES[i // len(_COLOURS) % len(_LINES)])
        for i, name in enumerate(config.experiments)
    }


@contextmanager
def plain_style() -> Iterator[None]:
    """matplotlib's defaults with ours on top, whatever the user's matplotlibrc says."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def new_figure(height: float, title: str, padding: float = 0.04) -> Figure:
    """An empty figure of the common width; `padding` in inches stands around each panel."""
    layout = ConstrainedLayoutEngine(w_pad=padding, h_pad=padding, wspace=padding / 2, hspace=padding / 2)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout=layout)
    # title and footer stand outside the canvas, where no legend can meet them; `save` fits the picture around them
    figure.text(0.01, 1 + _GAP / height, title, va="bottom", fontsize=13, fontweight="bold")
    return figure


def footer(figure: Figure, data: Prepared, note: str = "") -> None:
    """Say below the figure what data it shows."""
    scenes = " (generated scenes)" if data.generated else ""
    text = f"{note}\n" if note else ""
    text += f"data set: {data.source}{scenes}, digest {data.digest[:12]}"
    figure.text(0.01, -_GAP / figure.get_figheight(), text, va="top", fontsize=8, color="#606060")


def left_out(count: int, of: str) -> str:
    """What to add to a footer where a figure does not show everything."""
    ending = ("es" if of.endswith("s") else "s") if count > 1 else ""
    return f"; {count} more {of}{ending} not shown" if count > 0 else ""


def some(names: Sequence[str]) -> str:
    """Names as a footer has room for them."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def largest_classes(data: Prepared, names: Sequence[str]) -> list[str]:
    """As many of these classes as a figure can name, in their order: those with the most training pixels."""
    pixels = dict(zip(data.classes, data.pixel_counts["train"], strict=True))
    chosen = set(sorted(names, key=lambda name: -pixels[name])[:_MOST_CLASSES])
    return [name for name in names if name in chosen]


def grid(figure: FigureBase, count: int, columns: int, **options: object) -> list[Axes]:
    """`count` axes in lines of `columns`; the options go to each of them."""
    lines = -(-count // columns)
    return [figure.add_subplot(lines, columns, i + 1, **options) for i in range(count)]


def swatches(results: Results) -> list[Patch]:
    """A legend of the data set's classes, or of as many as a figure can name, in its colours."""
    data = results.data
    colours = dict(zip(data.classes, data.colours, strict=True))
    return [Patch(facecolor=hexadecimal(colours[name]), label=name) for name in largest_classes(data, data.classes)]


def hexadecimal(colour: Colour) -> str:
    """An RGB colour as matplotlib takes it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG that depends on nothing but what is drawn."""
    figure.savefig(path, bbox_inches="tight", pad_inches=0.12, metadata={"Software": None})
    return path
