"""Rows that were trained for several lengths: what each gains, at equal length and in equal time."""

from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, ScalarFormatter

from effiseg.report.results import BASELINE, Results
from effiseg.report.style import footer, looks, new_figure
from effiseg.report.summary import RowSummary, View, average
from effiseg.report.tables import NONE, Table, interval, number, percent, points

_TICKS = (1, 2, 3, 5)  # times powers of ten, on an axis of minutes
_BESIDE = 1.04


def lengths(results: Results) -> dict[str, list[str]]:
    """The families that have results of several lengths, by their names: rows, shortest first."""
    done = set(results.experiments)
    families = {name: [row for row in rows if row in done] for name, rows in results.families.items()}
    return {name: rows for name, rows in families.items() if len(rows) > 1}


def length_lines(results: Results, summaries: Sequence[RowSummary]) -> Table:
    """What each length of a row reaches, and gains over the baseline that was trained as long."""
    header = ["row", "epochs", "thread minutes", "mIoU", "Δ mIoU, as many epochs", "verdict", "Δ mIoU, as many minutes"]
    by_name, lines = {row.experiment: row for row in summaries}, []
    for family, rows in lengths(results).items():
        for row in (by_name[name] for name in rows):
            lines.append(
                [
                    family,
                    _epochs(results, row.experiment),
                    number(row.thread_minutes),
                    percent(row.miou),
                    NONE if family == BASELINE else f"{points(row.delta.mean)} ({interval(row.delta)})",
                    BASELINE if family == BASELINE else row.verdict,
                    _in_equal_time(row),
                ]
            )
    return Table(header, lines)


def length_answer(results: Results, summaries: Sequence[RowSummary]) -> list[str]:
    """How gains change with the length of training, and what is left of them in equal time; a sentence for each row."""
    by_name, told = {row.experiment: row for row in summaries}, []
    for family, rows in lengths(results).items():
        compared = [row for row in (by_name[name] for name in rows) if row.delta.mean == row.delta.mean]
        if family in results.baselines or not compared:
            continue
        steps = ", ".join(
            f"{points(row.delta.mean)} after {_epochs(results, row.experiment)} epochs" for row in compared
        )
        longest = compared[-1]
        in_time = ""
        if longest.as_long:
            delta = longest.as_long_delta
            in_time = (
                f"; against a baseline trained for as many minutes {points(delta.mean)} ({interval(delta)}: "
                f"{delta.verdict})"
            )
        told.append(f"**{family} over the length of training**: {steps}{in_time}.")
    return told


def _in_equal_time(row: RowSummary) -> str:
    if not row.as_long:
        return NONE
    delta = row.as_long_delta
    return f"{points(delta.mean)} ({interval(delta)}) {delta.verdict}"


def _epochs(results: Results, row: str) -> str:
    return "/".join(str(epochs) for epochs in sorted({run.info.epochs for run in results.of(row)}))


def gain_over_length(views: Mapping[str, View]) -> Figure:
    """For each split a line of three panels: mIoU and gain over the epochs, and mIoU over the time spent."""
    figure = new_figure(0.6 + 3.2 * len(views), "mIoU and gain over the length of training")
    first = next(iter(views.values())).results
    for line, (split, (results, summaries)) in enumerate(views.items()):
        panels = [figure.add_subplot(len(views), 3, 3 * line + column) for column in (1, 2, 3)]
        by_name, styles = {row.experiment: row for row in summaries}, looks(results.config)
        for family, names in lengths(results).items():
            rows, look = [by_name[name] for name in names], styles[family]
            epochs = [mean(run.info.epochs for run in results.of(row.experiment)) for row in rows]
            minutes = [row.thread_minutes for row in rows]
            for axes, places in ((panels[0], epochs), (panels[2], minutes)):
                heights = [100 * average(row.miou) for row in rows]
                axes.plot(places, heights, "o", color=look.colour, linestyle=look.line, markersize=4, label=family)
                for place, row in zip(places, rows, strict=True):
                    axes.plot(
                        [place] * len(row.miou), [100 * miou for miou in row.miou], ".", color=look.colour, alpha=0.4
                    )
            if family not in results.baselines:
                beside = _BESIDE ** len(panels[1].lines)  # so that bars of one length stand side by side
                _gain(panels[1], [beside * place for place in epochs], rows, look.colour)
        panels[1].axhline(0, color="black", linewidth=1, linestyle="--")
        trained = {run.info.epochs for rows in lengths(results).values() for row in rows for run in results.of(row)}
        _name_axes(panels, split, sorted(trained), several=len(views) > 1)
    figure.axes[0].legend(loc="lower right", fontsize=8)
    count = len(first.config.study.seeds)
    footer(figure, first.data, f"mean over {count} seed{'s' if count > 1 else ''}, dots: each; bar: 95 % interval")
    return figure


def _gain(axes: Axes, epochs: Sequence[float], rows: Sequence[RowSummary], colour: str) -> None:
    means, lows, highs = (
        [100 * value for value in values]
        for values in zip(*((row.delta.mean, row.delta.low, row.delta.high) for row in rows), strict=True)
    )
    axes.vlines(epochs, lows, highs, color=colour, alpha=0.5, linewidth=2)
    axes.plot(epochs, means, "o-", color=colour, markersize=5)


def _name_axes(panels: Sequence[Axes], split: str, epochs: Sequence[int], *, several: bool) -> None:
    titles = ("mIoU", "gain over the baseline of that length", "mIoU in equal time")
    for axes, title, label in zip(panels, titles, ("epochs", "epochs", "thread minutes of one training"), strict=True):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(epochs) if label == "epochs" else LogLocator(subs=_TICKS))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(f"{split}: {title}" if several else title, loc="left")
        axes.set_xlabel(label)
    panels[0].set_ylabel("mIoU, %")
    panels[1].set_ylabel("Δ mIoU, points")
