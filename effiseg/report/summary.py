"""summary.csv and classes.csv: what each row gains over the baseline, how sure that is, and what it costs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
import pandas as pd

from effiseg.report.results import BASELINE, Results
from effiseg.report.statistics import Bootstrap, Difference, Floats, influences, ious, regions

SUMMARY_COLUMNS = (
    "experiment",
    "dataset",
    "seeds",
    "miou_mean",
    "miou_std",
    "delta_mean",
    "delta_low",
    "delta_high",
    "verdict",
    "train_minutes",
    "peak_memory_mb",
    "images_per_second",
    "device_hours",
    "device",
    "missing_seeds",
    "split",
)
LENGTH_COLUMNS = ("experiment", "seed", "epochs", "thread_minutes", "split", "miou")
CLASS_COLUMNS = (
    "experiment",
    "class",
    "seeds",
    "iou_mean",
    "iou_std",
    "delta_mean",
    "delta_low",
    "delta_high",
    "verdict",
    "split",
)


ALIKE = 0.15  # by which share of the minutes two trainings may differ and still have taken as long


@dataclass(frozen=True)
class RowSummary:
    """One row over its seeds; scores are fractions, NaN where there is nothing to average.

    Attributes:
        seeds, missing, paired: seeds with a result, without one, and those that `reference` has too.
        miou, classes: of each seed; `classes` by class name.
        reference: the row that it is compared with, see `Results.reference`.
        delta, class_deltas: against it, over the seeds that both have.
        as_long: a row that differs from the baseline in its length alone and took as many minutes, if there is one.
        as_long_delta: against it.
        image_deltas: the same of each validation image's own mIoU, without an interval; NaN without a comparison.
        train_minutes, peak_memory_mb, images_per_second, device_hours: means over the seeds, of one training; device
            hours are wall-clock hours times processes.
        thread_minutes: see `Results.minutes`.
    """

    experiment: str
    seeds: list[int]
    missing: list[int]
    paired: list[int]
    miou: list[float]
    classes: dict[str, list[float]]
    reference: str
    delta: Difference
    class_deltas: dict[str, Difference]
    as_long: str
    as_long_delta: Difference
    image_deltas: Floats
    train_minutes: float
    peak_memory_mb: float
    images_per_second: float
    device_hours: float
    thread_minutes: float
    device: str

    @property
    def verdict(self) -> str:
        """What is to be said of the row in a word or two."""
        if not self.seeds:
            return "no result"
        return BASELINE if self.experiment == BASELINE else self.delta.verdict


class View(NamedTuple):
    """What was measured of one split, and what it says row by row."""

    results: Results
    summaries: list[RowSummary]


def views(results: Results) -> dict[str, View]:
    """By split: the validation split first, then those of data.final_on."""
    return {each.split: View(each, summarise(each)) for each in [results, *results.finals.values()]}


def summarise(results: Results) -> list[RowSummary]:
    """All rows of the study, in the order of params.yaml; rows without a result too."""
    images = len(results.data.val)
    counts = {
        name: {run.seed: regions(run.confusion(results.data)) for run in results.of(name)} for name in results.rows
    }
    others = {name: counts.get(results.reference(name), {}) for name in results.rows}
    added = [
        _gains(influences, runs, others[name]) for name, runs in counts.items() if runs.keys() & others[name].keys()
    ]
    bootstrap = Bootstrap(results.recordings.blocks(np.hstack([np.empty((images, 0)), *added])))
    scores = {
        name: {seed: bootstrap.replicate(of_images) for seed, of_images in runs.items()}
        for name, runs in counts.items()
    }
    summaries = []
    for name in results.rows:
        runs, reference, as_long = results.of(name), results.reference(name), _as_long(results, name)
        deltas, (as_long_delta, *_) = (
            bootstrap.differences(scores[name], scores.get(other, {}), results.data.num_classes)
            for other in (reference, as_long)
        )
        paired = [run.seed for run in runs if run.seed in others[name]]
        image_deltas = _gains(_own_miou, counts[name], others[name]) if paired else np.full(images, math.nan)
        summaries.append(
            RowSummary(
                experiment=name,
                seeds=[run.seed for run in runs],
                missing=[seed for row, seed in results.missing if row == name],
                paired=paired,
                miou=[run.metrics.miou for run in runs],
                classes={key: [run.metrics.iou[key] for run in runs] for key in results.data.classes},
                reference=reference,
                delta=deltas[0],
                class_deltas=dict(zip(results.data.classes, deltas[1:], strict=True)),
                as_long=as_long,
                as_long_delta=as_long_delta,
                image_deltas=image_deltas,
                train_minutes=average([run.info.train_minutes for run in runs]),
                peak_memory_mb=average([run.info.peak_memory_mb for run in runs]),
                images_per_second=average([run.info.images_per_second for run in runs]),
                device_hours=average([run.device_minutes / 60 for run in runs]),
                thread_minutes=results.minutes(name),
                device=" and ".join(dict.fromkeys(run.info.device for run in runs)),
            )
        )
    return summaries


def _as_long(results: Results, row: str) -> str:
    """Of the rows that differ from the baseline in their length alone that which took as long as `row` does, or none.

    What is compared at equal length already says nothing new here.
    """
    minutes = {name: results.minutes(name) for name in results.experiments}
    baselines = [name for name in results.baselines if name != results.reference(row) and name in minutes]
    if row in results.baselines or row not in minutes or not baselines or not minutes[row] > 0:
        return ""
    nearest = min(baselines, key=lambda name: abs(minutes[name] - minutes[row]))
    return nearest if abs(minutes[nearest] / minutes[row] - 1) <= ALIKE else ""


def _gains(measure: Callable[[Floats], Floats], row: Mapping[int, Floats], baseline: Mapping[int, Floats]) -> Floats:
    """Row minus baseline of what is measured of every image, mean over the seeds that both have."""
    return np.mean([measure(row[seed]) - measure(baseline[seed]) for seed in row if seed in baseline], axis=0)


def _own_miou(counts: Floats) -> Floats:
    return ious(counts)[:, 0]


def summary_table(results: Results, summaries: Sequence[RowSummary]) -> pd.DataFrame:
    """One line per row, at full precision; scores and differences are fractions."""
    lines = [
        {
            "experiment": row.experiment,
            "dataset": results.dataset,
            "seeds": len(row.seeds),
            "miou_mean": average(row.miou),
            "miou_std": spread(row.miou),
            **_interval(row.delta),
            "verdict": row.verdict,
            "train_minutes": row.train_minutes,
            "peak_memory_mb": row.peak_memory_mb,
            "images_per_second": row.images_per_second,
            "device_hours": row.device_hours,
            "device": row.device,
            "missing_seeds": " ".join(map(str, row.missing)),
            "split": results.split,
        }
        for row in summaries
    ]
    return pd.DataFrame(lines, columns=list(SUMMARY_COLUMNS))


def length_table(results: Results) -> pd.DataFrame:
    """One line per training: how long it was, and what it reached; `experiment` is the row without regard to length."""
    lines = [
        {
            "experiment": family,
            "seed": run.seed,
            "epochs": run.info.epochs,
            "thread_minutes": run.thread_minutes,
            "split": results.split,
            "miou": run.metrics.miou,
        }
        for family, rows in results.families.items()
        for row in rows
        for run in results.of(row)
    ]
    return pd.DataFrame(lines, columns=list(LENGTH_COLUMNS))


def class_summary_table(results: Results, summaries: Sequence[RowSummary]) -> pd.DataFrame:
    """One line per row and class that has a result, at full precision."""
    lines = [
        {
            "experiment": row.experiment,
            "class": name,
            "seeds": len(row.seeds),
            "iou_mean": average(values),
            "iou_std": spread(values),
            **_interval(row.class_deltas[name]),
            "verdict": BASELINE if row.experiment == BASELINE else row.class_deltas[name].verdict,
            "split": results.split,
        }
        for row in summaries
        if row.seeds
        for name, values in row.classes.items()
    ]
    return pd.DataFrame(lines, columns=list(CLASS_COLUMNS))


def _interval(difference: Difference) -> dict[str, float]:
    return {"delta_mean": difference.mean, "delta_low": difference.low, "delta_high": difference.high}


def average(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return mean(values) if values else math.nan


def spread(values: Sequence[float]) -> float:
    """The sample standard deviation; NaN of fewer than two values."""
    known = not any(math.isnan(value) for value in values)
    return stdev(values) if known and len(values) > 1 else math.nan
