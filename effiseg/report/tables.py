"""The tables: comparison.csv at full precision, and its sisters rounded for reading, which both pages show."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

import pandas as pd

from effiseg.report.paper import PAPER_ROWS, PaperRow
from effiseg.report.results import BASELINE, Results, Run
from effiseg.report.statistics import Difference
from effiseg.report.summary import RowSummary
from effiseg.runs.records import FORMS, Metrics, Profile, Speed

COLUMNS = (
    "experiment",
    "seed",
    "dataset",
    "miou",
    "miou_quarter",
    "pixel_accuracy",
    "params_m",
    "gmacs",
    "gmacs_paper",
    "fps",
    "latency_ms",
    "delta_miou",
    "train_minutes",
    "miou_best",
    "best_epoch",
    "gmacs_exact",
    "latency_p95_ms",
    "device",
    "precision",
    "images_per_second",
    "peak_memory_mb",
    "profile_device",
    "profile_precision",
    "gmacs_deployed",
    "fps_deployed",
    "latency_deployed_ms",
)
COUNTS = ("params_m", "gmacs", "gmacs_paper", "gmacs_exact", "gmacs_deployed")
NONE = "–"


@dataclass(frozen=True)
class Table:
    """A table for reading.

    Attributes:
        references: lines below the others that are no rows of the study: the teacher and the floors.
    """

    header: list[str]
    lines: list[list[str]]
    references: list[list[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """As Markdown."""
        return markdown(self.header, [*self.lines, *self.references])


def comparison(results: Results) -> pd.DataFrame:
    """One line per row and seed, then the teachers and the floors; cells where nothing applies are empty."""
    lines = [_run_cells(results, run) | {"delta_miou": results.delta(run)} for run in results.runs]
    lines += [_run_cells(results, teacher) for teacher in results.teachers]
    lines += [{"experiment": name} | _scores(floor) for name, floor in results.floors]
    frame = pd.DataFrame(lines, columns=list(COLUMNS)).assign(dataset=results.dataset)
    return frame.astype({"seed": "Int64", "best_epoch": "Int64"})


def _run_cells(results: Results, run: Run) -> dict[str, object]:
    scores_and_costs = {
        "experiment": run.experiment,
        "seed": run.seed,
        **_scores(run.metrics),
        **_costs(results, results.profiles.get(run.experiment)),
    }
    if not run.info.epochs:  # fetched
        return scores_and_costs
    training = {"best_epoch", "train_minutes", "device", "precision", "images_per_second", "peak_memory_mb"}
    return scores_and_costs | {"miou_best": run.metrics.miou_best, **run.info.model_dump(include=training)}


def _scores(metrics: Metrics) -> dict[str, object]:
    return metrics.model_dump(include={"miou", "miou_quarter", "pixel_accuracy"})


def _costs(results: Results, profile: Profile | None) -> dict[str, object]:
    if profile is None:
        return {}
    return {
        **profile.model_dump(include=set(COUNTS)),
        **_headline_speed(results, profile, "trained").model_dump(exclude={"form", "size"}),
        "fps_deployed": _headline_speed(results, profile, "deployed").fps,
        "latency_deployed_ms": _headline_speed(results, profile, "deployed").latency_ms,
        "profile_device": profile.device,
        "profile_precision": profile.precision,
    }


def _headline_speed(results: Results, profile: Profile, form: str) -> Speed:
    speed = profile.at(results.config.profile.size, form)
    assert speed is not None  # checked when it was read
    return speed


def main_table(results: Results, summaries: Sequence[RowSummary]) -> Table:
    """Scores per row, mean over the seeds; the teacher and the floors stand below."""
    header = [
        "row", "mIoU", "Δ mIoU", "95 % interval", "verdict", "mIoU ¼ grid", "pixel accuracy", "best mIoU", "best epoch",
        "seeds",
    ]  # fmt: skip
    scored: dict[str, Metrics] = {}
    for run in results.teachers:
        scored[f"{run.experiment} ({results.config.row(run.experiment).model.variant})"] = run.metrics
    scored |= {f"floor: {name.replace('_', ' ')}": floor for name, floor in results.floors}
    references = []
    for name, metrics in scored.items():
        scores = [percent([value]) for value in (metrics.miou, metrics.miou_quarter, metrics.pixel_accuracy)]
        references.append([f"*{name}*", scores[0], *[NONE] * 3, *scores[1:], *[NONE] * 3])
    lines = [_main_line(results, row) for row in summaries]
    if any(row.reference != BASELINE for row in summaries):  # told where it is not the same for all
        header.append("against")
        lines = [
            [*line, NONE if row.experiment == BASELINE else row.reference]
            for line, row in zip(lines, summaries, strict=True)
        ]
        references = [[*line, NONE] for line in references]
    return Table(header, lines, references)


def _main_line(results: Results, row: RowSummary) -> list[str]:
    runs = results.of(row.experiment)
    metrics = [run.metrics for run in runs]
    epochs = sorted({run.info.best_epoch for run in runs}) or [0]
    deltas = [results.delta(run) for run in runs if run.seed in row.paired]
    return [
        row.experiment,
        percent(row.miou),
        *([NONE, NONE] if row.experiment == BASELINE else [percent(deltas, sign="+"), interval(row.delta)]),
        row.verdict,
        percent(m.miou_quarter for m in metrics),
        percent(m.pixel_accuracy for m in metrics),
        percent(m.miou_best for m in metrics),
        NONE if not runs else str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}",
        seeds_of(row),
    ]


def seeds_of(row: RowSummary) -> str:
    """How many seeds have a result, and which have none."""
    missing = f" (none of seed {', '.join(map(str, row.missing))})" if row.missing else ""
    return f"{len(row.seeds)}{missing}"


def class_table(results: Results) -> Table:
    """IoU per class and row, mean over the seeds."""
    references: dict[str, Metrics] = {f"*{run.experiment}*": run.metrics for run in results.teachers}
    references |= {f"*{name.replace('_', ' ')}*": floor for name, floor in results.floors}
    lines = [
        [
            name,
            *(percent((run.metrics.iou[name] for run in results.of(row)), spread=False) for row in results.experiments),
            *(percent([metrics.iou[name]]) for metrics in references.values()),
        ]
        for name in results.data.classes
    ]
    return Table(["class", *results.experiments, *references], lines)


def cost_table(results: Results) -> Table:
    """Parameters and multiply-adds per row; none where it was not profiled."""
    header = ["row", "params (M)", "GMACs", "GMACs, paper's count", "GMACs, as trained", "GMACs, deployed"]
    lines = [
        [name, *(number(getattr(profile, key)) if profile else NONE for key in COUNTS)]
        for name, profile in _all_profiles(results).items()
    ]
    return Table(header, lines)


def speed_tables(results: Results) -> dict[str, Table]:
    """By the size of the input: how fast each row runs, in both forms."""
    profiles = results.profiles.values()
    sizes = dict.fromkeys(tuple(speed.size) for profile in profiles for speed in profile.speeds)
    return {dimensions(size): _speed_table(results, list(size)) for size in sizes}


def _speed_table(results: Results, size: list[int]) -> Table:
    header = ["row"]
    for form in FORMS:
        name = "as trained" if form == "trained" else form
        header += [f"FPS, {name}", f"latency, {name} (ms)", f"p95, {name} (ms)"]
    lines = [
        [name, *(cell for form in FORMS for cell in _speed_cells(profile.at(size, form) if profile else None))]
        for name, profile in _all_profiles(results).items()
    ]
    return Table(header, lines)


def _all_profiles(results: Results) -> dict[str, Profile | None]:
    rows = {name: results.profiles.get(name) for name in results.experiments}
    return rows | {f"*{run.experiment}*": results.profiles.get(run.experiment) for run in results.teachers}


def _speed_cells(speed: Speed | None) -> list[str]:
    if speed is None:
        return [NONE] * 3
    return [number(speed.fps), number(speed.latency_ms), number(speed.latency_p95_ms)]


def training_table(summaries: Sequence[RowSummary]) -> Table:
    """What one training of each row takes, mean over the seeds, beside what it gains."""
    lines = []
    for row in summaries:
        costs = (row.train_minutes, 60 * row.device_hours, row.images_per_second, row.peak_memory_mb)
        gain = NONE if row.experiment == BASELINE else points(row.delta.mean)
        lines.append([row.experiment, *(number(cost) for cost in costs), gain])
    return Table(["row", "minutes", "device minutes", "images per second", "peak memory, MB", "Δ mIoU"], lines)


def paper_table(results: Results) -> Table:
    """Our rows beside the paper's, both on the quarter grid that the paper evaluates on."""
    header = ["row", "mIoU ¼ grid", "paper", "params (M)", "paper", "GMACs, paper's count", "paper", "FPS", "paper"]
    lines = []
    for name in results.experiments:
        ours = _paper_columns(results, (run.metrics for run in results.of(name)), results.profiles.get(name))
        lines.append([name, *_side_by_side(ours, PAPER_ROWS.get(name))])
    for run in results.teachers:
        ours = _paper_columns(results, [run.metrics], results.profiles.get(run.experiment))
        lines.append([f"*{run.experiment}*", *_side_by_side(ours, PAPER_ROWS.get(run.experiment))])
    return Table(header, lines)


def _paper_columns(results: Results, metrics: Iterable[Metrics], profile: Profile | None) -> list[str]:
    if profile is None:
        return [percent(m.miou_quarter for m in metrics), NONE, NONE, NONE]
    costs = (profile.params_m, profile.gmacs_paper, _headline_speed(results, profile, "trained").fps)
    return [percent(m.miou_quarter for m in metrics), *(number(cost) for cost in costs)]


def _side_by_side(ours: list[str], paper: PaperRow | None) -> list[str]:
    theirs = [f"{value:g}" for value in (paper.miou, paper.params_m, paper.gflops, paper.fps)] if paper else [NONE] * 4
    return [cell for pair in zip(ours, theirs, strict=True) for cell in pair]


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    rows = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def percent(values: Iterable[float], *, sign: str = "", spread: bool = True) -> str:
    """Fractions as the mean in percent, with ± the sample standard deviation when there are several."""
    values = [100 * value for value in values]
    if not values or any(math.isnan(value) for value in values):
        return NONE
    deviation = f" ± {stdev(values):.2f}" if spread and len(values) > 1 else ""
    return f"{mean(values):{sign}.2f}{deviation}"


def points(fraction: float) -> str:
    """A difference as points of mIoU, with its sign."""
    return NONE if math.isnan(fraction) else f"{100 * fraction:+.2f}"


def interval(difference: Difference) -> str:
    """The 95 % interval in points."""
    if math.isnan(difference.low):
        return NONE
    return f"{points(difference.low)} to {points(difference.high)}"


def number(value: float) -> str:
    """A quantity with two decimals."""
    return NONE if math.isnan(value) else f"{value:.2f}"


def dimensions(size: Sequence[int]) -> str:
    """[96, 192] -> 96x192."""
    return "x".join(str(side) for side in size)
