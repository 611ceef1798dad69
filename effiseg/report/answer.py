"""What a study found, in sentences; marked as in `effiseg.report.words`."""

import math
from collections.abc import Mapping, Sequence

from effiseg.report.lengths import length_answer
from effiseg.report.results import BASELINE, Results
from effiseg.report.statistics import Difference
from effiseg.report.summary import RowSummary, View
from effiseg.report.tables import interval, percent, points
from effiseg.report.words import drawn, images_of

NEVER = 0.005  # IoU below which a class counts as not found

# by verdict: what the answer says of its rows, the most telling first
_VERDICTS = {
    "better": "Better than the baseline",
    "worse": "Worse than the baseline",
    "not distinguishable": "Not distinguishable from the baseline",
    "one seed": "Without a verdict, for want of a second seed",
    "no comparison": "Not compared: no seed in common with the baseline",
    "no result": "No result",
}


def answer(results: Results, summaries: Sequence[RowSummary]) -> list[str]:
    """What the study found: first the count of verdicts, then the rows of each, then the levels to compare with."""
    groups = {verdict: [row for row in summaries if row.verdict == verdict] for verdict in _VERDICTS}
    lines = [_headline(results, groups)]
    for verdict, rows in groups.items():
        if rows:
            gaining = sorted(rows, key=lambda row: 0 if math.isnan(row.delta.mean) else -row.delta.mean)
            lines.append(f"**{_VERDICTS[verdict]}:** {'; '.join(_gain(row) for row in gaining)}.")
    if partly := [row for row in summaries if row.seeds and row.missing]:
        lines.append(f"**Seeds without a result:** {'; '.join(_named(row) for row in partly)}.")
    if lost := _never_found(results, summaries):
        others = len(results.data.classes) - len(results.absent) - len(lost)
        lines.append(
            f"**Never found:** {', '.join(lost)}. Their IoU is below {100 * NEVER:g} % in every row, so that every Δ "
            f"comes from the other {others} classes."
        )
    levels = [f"the {row.experiment} {percent(row.miou)}" for row in summaries if row.verdict == BASELINE]
    levels += [f"the {run.experiment} {percent([run.metrics.miou])}" for run in results.teachers]
    levels += [f"answering each pixel by its colour alone {percent([results.floors.colour_lookup.miou])}"]
    lines.append(f"For scale, mIoU in percent: {', '.join(levels)}.")
    return lines


def answers(views: Mapping[str, View]) -> list[str]:
    """What the study found: `answer` of the validation split, and what the other splits say in short."""
    first, *finals = views.values()
    lines = [*answer(*first), *length_answer(*first)]
    for results, summaries in finals:
        levels = [f"the {row.experiment} {percent(row.miou)}" for row in summaries if row.verdict == BASELINE]
        lines.append(f"**On {results.split}**, {'; '.join([images_of(results), *levels])}.")
        groups = {verdict: [row for row in summaries if row.verdict == verdict] for verdict in _VERDICTS}
        told = [f"{_VERDICTS[verdict]}: {'; '.join(map(_gain, rows))}." for verdict, rows in groups.items() if rows]
        lines += [f"On {results.split}. {line}" for line in (*told, *length_answer(results, summaries))]
    return lines


def _never_found(results: Results, summaries: Sequence[RowSummary]) -> list[str]:
    best = {name: max(max(row.classes[name]) for row in summaries if row.seeds) for name in results.data.classes}
    return [name for name, iou in best.items() if iou < NEVER]  # NaN, of a class without labels, is not


def _headline(results: Results, groups: Mapping[str, list[RowSummary]]) -> str:
    judged = {verdict: rows for verdict in ("better", "worse", "not distinguishable") if (rows := groups[verdict])}
    count = sum(map(len, judged.values()))
    images = images_of(results, "validation ")
    if count:
        seeds = sorted({row.delta.seeds for rows in judged.values() for row in rows})
        over = " to ".join(str(seed) for seed in dict.fromkeys((seeds[0], seeds[-1])))
        found = ", ".join(f"{len(rows)} {verdict}" for verdict, rows in judged.items())
        return f"**Compared with the baseline over {over} seeds and {images}, of {count} rows: {found}.**"
    if groups["one seed"]:
        return (
            f"**One seed gives no verdict.** Each row was trained once and scored on {images}: the differences below "
            f"compare these trained networks, not the methods, and their intervals are over {drawn(results)} alone."
        )
    return f"**No row can be compared with a row named `{BASELINE}`**, so there is no verdict."


def _gain(row: RowSummary) -> str:
    if math.isnan(row.delta.mean):
        return _named(row)
    against = "" if row.reference == BASELINE else f" over {row.reference}"
    return f"{row.experiment} {points(row.delta.mean)} points{against} ({_evidence(row.delta)})"


def _evidence(delta: Difference) -> str:
    return f"95 % interval {interval(delta)}, {delta.seeds} seed{'s' if delta.seeds > 1 else ''}"


def _named(row: RowSummary) -> str:
    return f"{row.experiment} (seed {', '.join(map(str, row.missing))})" if row.missing else row.experiment
