"""What both pages say in words. `code`, **bold** and *italics* are marked as in Markdown."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from effiseg.data.prepared import Prepared
from effiseg.report.blocks import Population
from effiseg.report.paper import unlike_the_paper
from effiseg.report.results import BASELINE, Results, Run
from effiseg.report.tables import dimensions

LOSS_RESOLUTION = {
    "label": "label (the logits are upsampled to the training labels' size)",
    "quarter": "quarter (the training labels are shrunk to the logits' 1/4 grid)",
}


class _Wording(NamedTuple):
    """What is said of the intervals: what they draw, what they hold for, and how often they err without an effect."""

    drawn: str
    holds_for: str
    errs: str = "one in twenty does so by chance"


_LOOSE = "about one in ten does so by chance, since few blocks make a loose interval"
_WORDINGS: dict[Population, _Wording] = {
    "images": _Wording("the validation images", "new images of this kind"),
    "this recording": _Wording("blocks of neighbouring frames", "more of this one recording, no other street", _LOOSE),
    "these recordings": _Wording("blocks of neighbouring frames", "more of these recordings, no other street", _LOOSE),
    "new recordings": _Wording("whole recordings", "new recordings of this kind"),
}


def final_scores(results: Results) -> str:
    """What stands behind the scores on a split of data.final_on."""
    return (
        f"In percent of the {images_of(results)} of {results.split} after the last epoch. Nothing was chosen by them: "
        "the best epoch is that of the validation split."
    )


LENGTHS = (
    "Rows that differ in nothing but how long they train. At equal length each row is compared with the baseline that "
    "trained for as many epochs; in equal time with that whose training takes as many minutes, where there is one. The "
    "minutes are the epochs times the least that an epoch took in any training of the row, since what else a machine "
    "does only adds to them; `lengths.csv` has those of each training."
)


def drawn(results: Results) -> str:
    """What the intervals of the study are over, besides the trainings."""
    return _WORDINGS[results.recordings.population].drawn


def images_of(results: Results, kind: str = "") -> str:
    """How many images are scored, and of how many recordings."""
    images, recordings = len(results.data.val), len(results.recordings.frames)
    if results.recordings.population == "images":
        return f"{images} {kind}images"
    return f"{images} {kind}images of {'one recording' if recordings == 1 else f'{recordings} recordings'}"


def header(results: Results) -> dict[str, str]:
    """What every number of the study has in common."""
    data = results.data
    return {
        "data set": dataset_title(results),
        "data digest": f"`{data.digest[:12]}`",
        "images": f"{len(data.train.names)} to train on, {len(data.val.names)} to validate on",
        "size": f"trained at {dimensions(data.size)}, scored against labels {_label_sizes(data)}",
        "epochs": _shared(results, lambda run: str(run.info.epochs)),
        "loss resolution": _shared(results, lambda run: LOSS_RESOLUTION[_resolution(results, run)]),
        "seeds": ", ".join(str(seed) for seed in results.config.study.seeds),
        "trained on": _shared(results, lambda run: f"{run.info.device}, {run.info.precision}"),
        "headline": "last epoch, mIoU over the classes that the validation labels hold, at their full resolution",
    }


def dataset_title(results: Results) -> str:
    """The data set in words, and what was learned and scored where it is not train and val."""
    data, settings = results.data, results.config.data
    title = f"{data.source} ({data.title})" if data.generated else data.title
    said = f"{title}, {settings.validation}" if settings.validation else title
    return f"{said} (training images, not its validation split)" if settings.held_out else said


def _label_sizes(data: Prepared) -> str:
    """At which size labels are scored, in words."""
    if len(data.label_sizes) == 1:
        return f"at {dimensions(data.label_sizes[0])}"
    smallest, largest = (choose(data.label_sizes, key=math.prod) for choose in (min, max))
    fit = "their shape kept" if data.fit == "pad" else "squashed to one shape in training"
    return f"at their own sizes, {dimensions(smallest)} to {dimensions(largest)} ({fit})"


def _resolution(results: Results, run: Run) -> str:
    return results.config.row(run.experiment).loss.resolution


def _shared(results: Results, value_of: Callable[[Run], str]) -> str:
    """A value that all runs have in common, or else each value with the rows that have it."""
    rows: dict[str, dict[str, None]] = {}
    for run in results.runs:
        rows.setdefault(value_of(run), {})[run.experiment] = None
    if len(rows) == 1:
        return next(iter(rows))
    return "; ".join(f"{value}: {', '.join(names)}" for value, names in rows.items())


def comparability(results: Results) -> str:
    """Whether the figures may stand beside the paper's; empty where they may."""
    if results.data.paper:
        others = unlike_the_paper(results.data, results.config)
        return f"**Not comparable** with the paper's table: {'; '.join(others)}." if others else ""
    scenes = "These are generated scenes, not photographs. " if results.data.generated else ""
    return f"{scenes}The figures are **not comparable** with the paper's Cityscapes table."


def differences(results: Results) -> dict[str, str]:
    """By row: the keys of params.yaml in which it differs."""

    def settings(row: str) -> str:
        found = [f"`{key}: {value}`" for key, value in _flat(results.config.experiments[row])]
        return ", ".join(found) or "nothing: the settings of params.yaml as they stand"

    return {row: settings(row) for row in results.rows}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def cost_notes(results: Results) -> str:
    """What the counts and speeds are of, and where they were measured."""
    machines = dict.fromkeys(f"{profile.device}, {profile.precision}" for profile in results.profiles.values())
    if not machines:
        return "No row was profiled: its parameters, multiply-adds and speed are not known."
    return (
        f"Multiply-adds are of one image at {dimensions(results.config.profile.size)}. GMACs: with attention; "
        "the paper's count leaves attention out. Both stand for the published order of operations; what really runs is "
        "the same function in a cheaper order, in training (`as trained`) and with everything folded that is linear "
        "(`deployed`), which gives the same answers in fewer operations. "
        f"Speed: one image at a time on {'; '.join(machines)}; latency is the median and the 95th percentile. "
        "Rows of the same architecture are the same computation, so their speed is one measurement, pooled (median)."
    )


def reading(results: Results) -> list[str]:
    """What a reader must know to judge the numbers."""
    seeds, wording = len(results.config.study.seeds), _WORDINGS[results.recordings.population]
    if seeds == 1:
        evidence = (
            "**One seed** shows what a row can reach and how large effects are ordered. It does not show that a "
            "difference is the row's doing: SegFormer commonly moves by 1 to 2 points of mIoU from seed to seed, so a "
            f"smaller Δ is no finding. Its interval is over {drawn(results)} alone: it compares these two trained "
            "networks, not the methods. `study.seeds: [0, 1, 2]` gives a verdict."
        )
    else:
        evidence = (
            f"**± is the sample standard deviation over {seeds} seeds**, not an error of the mean. **The interval** "
            f"holds the difference with 95 % confidence for new trainings and {wording.holds_for}: a paired bootstrap "
            f"over {wording.drawn}, widened by the spread over seeds (Student's t). *better* and *worse* mean that it "
            f"leaves 0 out; of rows without any effect, {wording.errs}."
        )
    points = [
        evidence,
        "**The floors need no network**: always answering the class with the most training pixels, and answering each "
        "pixel by its colour alone. What a row reaches above the colour lookup is shape and context.",
        "**¼ grid** is the paper's protocol: labels sampled on the logits' grid, so that nothing finer is scored.",
        "**mIoU is a mean over classes**, so a rare class weighs as much as a frequent one; see the class table before "
        "reading much into one number.",
    ]
    if BASELINE not in results.experiments:
        points.append(f"**There is no row named `{BASELINE}` in this study**, so there is no Δ.")
    return points


def provenance(results: Results) -> dict[str, str]:
    """Where the numbers come from."""
    distilled = {*results.config.study.distillation, *results.config.study.assisted}
    teachers = "; ".join(_teacher(results, run) for run in results.teachers)
    return {
        "git commit": _shared(results, lambda run: run.info.git_commit or "unknown (not in a git repository)"),
        "data digest": f"`{results.data.digest}`",
        "first weights": _first_weights(results),
        "teacher": teachers or "none: this study has no teacher",
        "distilled rows": ", ".join(row for row in results.experiments if row in distilled)
        or f"none{'; the teacher is shown for comparison' if teachers else ''}",
    }


def _first_weights(results: Results) -> str:
    """Where rows began: how many were drawn, and from what the others started, on which terms."""
    started: dict[str, dict[str, None]] = {}
    for run in results.runs:
        if run.info.origin:
            terms = f" (licence: {run.info.licence})" if run.info.licence else ""
            started.setdefault(f"{run.info.origin}{terms}", {})[run.experiment] = None
    drawn = [row for row in results.experiments if not any(row in rows for rows in started.values())]
    parts = [f"drawn: {', '.join(drawn)}"] if drawn and started else ["drawn, in every row"] if drawn else []
    return "; ".join([*parts, *(f"from {origin}: {', '.join(rows)}" for origin, rows in started.items())])


def _teacher(results: Results, run: Run) -> str:
    row = results.config.row(run.experiment)
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (row.model.mean, row.model.std))
    weights = f"weights from `{run.info.origin}`" if run.info.origin else "drawn"
    trained = f"trained for {run.info.epochs} epochs" if run.info.epochs else "not trained here"
    return (
        f"`{run.experiment}`, SegFormer-{row.model.variant.upper()}, {weights}, {trained}, digest "
        f"`{run.info.weights_digest}`, input normalisation mean ({mean}), std ({std})"
    )
