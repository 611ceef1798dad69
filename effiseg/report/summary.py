"""summary.csv and classes.csv: what each row gains over the baseline, how sure that is, and what it costs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
import pandas as pd

from effiseg.report.collect import BASELINE, Results
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
)
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
)


@dataclass(frozen=True)
class RowSummary:
    """One row over its seeds; scores are fractions, NaN where there is nothing to average.

    Attributes:
        seeds, missing, paired: seeds with a result, without one, and those that the baseline has too.
        miou, classes: of each seed; `classes` by class name.
        delta, class_deltas: against the baseline, over the seeds that both have.
        image_deltas: the same of each validation image's own mIoU, without an interval; NaN without a comparison.
        train_minutes, peak_memory_mb, images_per_second, device_hours: means over the seeds, of one training;
            device hours are wall-clock hours times processes.
    """

    experiment: str
    seeds: list[int]
    missing: list[int]
    paired: list[int]
    miou: list[float]
    classes: dict[str, list[float]]
    delta: Difference
    class_deltas: dict[str, Difference]
    image_deltas: Floats
    train_minutes: float
    peak_memory_mb: float
    images_per_second: float
    device_hours: float
    device: str

    @property
    def verdict(self) -> str:
        """What is to be said of the row in a word or two."""
        if not self.seeds:
            return "no result"
        return BASELINE if self.experiment == BASELINE else self.delta.verdict


def summarise(results: Results) -> list[RowSummary]:
    """All rows of the study, in the order of params.yaml; rows without a result too."""
    images = len(results.data.val)
    counts = {
        name: {run.seed: regions(run.confusion(results.data)) for run in results.of(name)} for name in results.rows
    }
    baseline = counts.get(BASELINE, {})
    added = [_gains(influences, runs, baseline) for runs in counts.values() if runs.keys() & baseline.keys()]
    bootstrap = Bootstrap(results.recordings.blocks(np.hstack([np.empty((images, 0)), *added])))
    scores = {
        name: {seed: bootstrap.replicate(of_images) for seed, of_images in runs.items()}
        for name, runs in counts.items()
    }
    summaries = []
    for name in results.rows:
        runs = results.of(name)
        deltas = bootstrap.differences(scores[name], scores.get(BASELINE, {}), results.data.num_classes)
        paired = [run.seed for run in runs if run.seed in baseline]
        image_deltas = _gains(_own_miou, counts[name], baseline) if paired else np.full(images, math.nan)
        hours = [run.info.train_minutes / 60 * run.info.processes for run in runs]
        summaries.append(
            RowSummary(
                experiment=name,
                seeds=[run.seed for run in runs],
                missing=[seed for row, seed in results.missing if row == name],
                paired=paired,
                miou=[run.metrics.miou for run in runs],
                classes={key: [run.metrics.iou[key] for run in runs] for key in results.data.classes},
                delta=deltas[0],
                class_deltas=dict(zip(results.data.classes, deltas[1:], strict=True)),
                image_deltas=image_deltas,
                train_minutes=average([run.info.train_minutes for run in runs]),
                peak_memory_mb=average([run.info.peak_memory_mb for run in runs]),
                images_per_second=average([run.info.images_per_second for run in runs]),
                device_hours=average(hours),
                device=" and ".join(dict.fromkeys(run.info.device for run in runs)),
            )
        )
    return summaries


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
        }
        for row in summaries
    ]
    return pd.DataFrame(lines, columns=list(SUMMARY_COLUMNS))


def class_summary_table(summaries: Sequence[RowSummary]) -> pd.DataFrame:
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
