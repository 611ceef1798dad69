"""comparison.md: the tables with what a reader must know to judge them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from effiseg.report.collect import BASELINE, Results, Run
from effiseg.report.summary import RowSummary
from effiseg.report.tables import (
    NONE,
    class_table,
    cost_table,
    dimensions,
    main_table,
    markdown,
    paper_table,
    speed_table,
    training_table,
)

SOURCES = {"synthetic": "synthetic (generated street scenes)", "cityscapes": "Cityscapes", "camvid": "CamVid"}
LOSS_RESOLUTION = {
    "label": "label (the logits are upsampled to the training labels' size)",
    "quarter": "quarter (the training labels are shrunk to the logits' 1/4 grid)",
}


def page(results: Results, summaries: Sequence[RowSummary]) -> str:
    """The whole of comparison.md."""
    sections = [
        f"# EffiSeg: comparison on {dataset_title(results)}",
        _header(results),
        _comparability(results),
        "## Scores",
        "In percent of the validation split after the **last epoch**, mean over the seeds (± sample standard "
        "deviation). The best epoch is chosen on the same validation split and is therefore optimistic; it only stands "
        "beside. Δ mIoU is the gain over the baseline, paired by seed, in points, with its 95 % interval.",
        main_table(results, summaries),
        *_paper(results),
        "## What the rows change",
        _differences(results),
        "## IoU per class",
        _absent(results),
        class_table(results),
        "## Cost",
        _cost_notes(results),
        cost_table(results),
        *_speeds(results),
        "## What training took",
        "Means over the seeds, of one training. A device hour is an hour of wall-clock time of one process.",
        training_table(summaries),
        "## How to read it",
        _reading(results),
        "## Provenance",
        _provenance(results),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _header(results: Results) -> str:
    data = results.data
    lines = {
        "data set": dataset_title(results),
        "data digest": f"`{data.digest[:12]}`",
        "images": f"{len(data.train.names)} to train on, {len(data.val.names)} to validate on",
        "size": f"trained at {dimensions(data.size)}, scored against labels at {dimensions(data.full_size)}",
        "epochs": _shared(results, lambda run: str(run.info.epochs)),
        "loss resolution": _shared(results, lambda run: LOSS_RESOLUTION[_resolution(results, run)]),
        "seeds": ", ".join(str(seed) for seed in results.config.study.seeds),
        "trained on": _shared(results, lambda run: f"{run.info.device}, {run.info.precision}"),
        "headline": "last epoch, mIoU over the classes that the validation labels hold, at their full resolution",
    }
    return markdown(["", ""], [[key, value] for key, value in lines.items()]).replace("---:", "---")


def dataset_title(results: Results) -> str:
    """The data set in words, and what was held out of its training images."""
    title, validation = SOURCES[results.data.source], results.config.data.validation
    return f"{title}, {validation} (training images, not its validation split)" if validation else title


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


def _comparability(results: Results) -> str:
    if results.data.source == "cityscapes":
        return ""
    scenes = "These are generated scenes, not photographs. " if results.data.source == "synthetic" else ""
    return f"> {scenes}The figures are **not comparable** with the paper's Cityscapes table."


def _paper(results: Results) -> list[str]:
    if results.data.source != "cityscapes":
        return []
    return [
        "## Beside the paper",
        "The paper scores on the **quarter grid** (labels shrunk to 1/4), so our quarter-grid mIoU stands beside "
        "its own. It trains for 200 epochs with one seed, counts multiply-adds without attention as FLOPs, and "
        f"measures FPS on an RTX 3090 at 512x1024; ours are from {results.teacher_profile.device} at "
        f"{dimensions(results.config.profile.size)}.",
        paper_table(results),
    ]


def _differences(results: Results) -> str:
    def settings(row: str) -> str:
        found = [f"`{key}: {value}`" for key, value in _flat(results.config.experiments[row])]
        return ", ".join(found) or "nothing: the settings of params.yaml as they stand"

    return "\n".join(f"- **{row}**: {settings(row)}" for row in results.experiments)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _absent(results: Results) -> str:
    found = "every class"
    if results.absent:
        found = f"no pixel of {', '.join(results.absent)}: '{NONE}', and left out of every mean"
    return f"In percent, last epoch, mean over the seeds. The validation labels hold {found}."


def _cost_notes(results: Results) -> str:
    profiles = [*results.profiles.values(), results.teacher_profile]
    machines = dict.fromkeys(f"{profile.device}, {profile.precision}" for profile in profiles)
    return (
        f"Multiply-adds are of one image at {dimensions(results.config.profile.size)}. GMACs: with attention; "
        "the paper's count leaves attention out. Both stand for the published order of operations; what really runs is "
        "the same function in a cheaper order, in training (`as trained`) and with everything folded that is linear "
        "(`deployed`), which gives the same answers in fewer operations. "
        f"Speed: one image at a time on {'; '.join(machines)}; latency is the median and the 95th percentile. "
        "Rows of the same architecture are the same computation, so their speed is one measurement, pooled (median)."
    )


def _speeds(results: Results) -> list[str]:
    sizes = dict.fromkeys(tuple(speed.size) for speed in results.teacher_profile.speeds)
    return [text for size in sizes for text in (f"At {dimensions(size)}:", speed_table(results, list(size)))]


def _reading(results: Results) -> str:
    seeds = len(results.config.study.seeds)
    if seeds == 1:
        evidence = (
            "**One seed** shows what a row can reach and how large effects are ordered. It does not show that a "
            "difference is the row's doing: SegFormer commonly moves by 1 to 2 points of mIoU from seed to seed, so a "
            "smaller Δ is no finding. Its interval is over the validation images alone: it compares these two trained "
            "networks, not the methods. `study.seeds: [0, 1, 2]` gives a verdict."
        )
    else:
        evidence = (
            f"**± is the sample standard deviation over {seeds} seeds**, not an error of the mean. **The interval** "
            "holds the difference with 95 % confidence over new trainings and new images of this kind: a paired "
            "bootstrap over the validation images, widened by the spread over seeds (Student's t). *better* and "
            "*worse* mean that it leaves 0 out; of rows without any effect, one in twenty does so by chance."
        )
    points = [
        evidence,
        "**The floors need no network**: always answering the class with the most training pixels, and answering each "
        "pixel by its colour alone. What a row reaches above the colour lookup is shape and context.",
        "**¼ grid** is the paper's protocol: labels sampled on the logits' grid, so that nothing finer is scored.",
        "**mIoU is a mean over classes**, so a rare class weighs as much as the road; see the class table before "
        "reading much into one number.",
    ]
    if BASELINE not in results.experiments:
        points.append(f"**There is no row named `{BASELINE}` in this study**, so there is no Δ.")
    return "\n".join(f"- {point}" for point in points)


def _provenance(results: Results) -> str:
    teacher = results.teacher
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (teacher.mean, teacher.std))
    lines = {
        "git commit": _shared(results, lambda run: run.info.git_commit or "unknown (not in a git repository)"),
        "data digest": f"`{results.data.digest}`",
        "teacher": f"SegFormer-{teacher.variant.upper()}, source `{teacher.source}`, digest `{teacher.digest}`, "
        f"input normalisation mean ({mean}), std ({std})",
        "distilled rows": ", ".join(row for row in results.experiments if results.config.stage_of(row) == "distill")
        or "none; the teacher is shown for comparison",
    }
    return "\n".join(f"- {key}: {value}" for key, value in lines.items())
