"""Writes the report: tables, figures and pages."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from effiseg.base.config import Config
from effiseg.report.answer import answers
from effiseg.report.collect import collect
from effiseg.report.figures import write_figures
from effiseg.report.html import html
from effiseg.report.page import page
from effiseg.report.results import Results
from effiseg.report.summary import class_summary_table, length_table, summary_table, views
from effiseg.report.tables import comparison, main_table
from effiseg.runs.records import Metrics


@dataclass(frozen=True)
class ReportSummary:
    """What tracking shows of a report.

    Attributes:
        metrics: "<experiment>-<seed>.<score>" -> final value, of rows, teacher and floors ("largest_class.miou"), and
            "<experiment>.<column>" -> value of the row in summary.csv; of a final one "<experiment>.<split>.<column>".
        figures: the written figures.
        note: the answer and the table of rows, in Markdown.
    """

    metrics: dict[str, float]
    figures: list[Path]
    note: str


def build_report(config: Config, root: Path, out: Path) -> ReportSummary:
    """Read the study's results below `root` and write what dvc.yaml declares of the report into the folder `out`.

    What else lies in `out` stays; when anything goes wrong, the old report stays too.

    Raises:
        EffiSegError: a result is missing, damaged or does not belong to the others.
    """
    found = views(collect(config, root))
    results, summaries = next(iter(found.values()))
    out.mkdir(parents=True, exist_ok=True)
    # inside, so that the last steps are renames within one file system
    with TemporaryDirectory(dir=out, prefix=".partial-") as scratch:
        new = Path(scratch)
        (new / "figures").mkdir(parents=True)
        tables = {
            "comparison": comparison(results),
            "summary": pd.concat([summary_table(*view) for view in found.values()]),
            "classes": pd.concat([class_summary_table(*view) for view in found.values()]),
            "lengths": pd.concat([length_table(view.results) for view in found.values()]),
        }
        for name, table in tables.items():
            table.to_csv(new / f"{name}.csv", index=False, lineterminator="\n")
        (new / "comparison.md").write_text(page(found), encoding="utf-8", newline="\n")
        figures = write_figures(found, new / "figures")
        (new / "index.html").write_text(html(found, figures), encoding="utf-8", newline="\n")
        for part in new.iterdir():
            _replace(out / part.name, part)
    metrics = _final_metrics(results) | _row_metrics(tables["summary"], results.split)
    note = "\n\n".join([*answers(found), main_table(results, summaries).markdown()])
    return ReportSummary(metrics, [out / "figures" / figure.path.name for figure in figures], note)


def _replace(old: Path, new: Path) -> None:
    if old.is_dir():
        shutil.rmtree(old)
    new.replace(old)


def _row_metrics(summary: pd.DataFrame, split: str) -> dict[str, float]:
    columns = ("miou_mean", "miou_std", "delta_mean", "delta_low", "delta_high")
    return {
        f"{row.experiment}.{key if row.split == split else f'{row.split}.{key}'}": getattr(row, key)
        for row in summary.itertuples()
        for key in columns
    }


def _final_metrics(results: Results) -> dict[str, float]:
    sources: dict[str, Metrics] = {run.place.name: run.metrics for run in results.runs}
    sources |= {run.place.name: run.metrics for run in results.teachers} | dict(results.floors)
    return {
        f"{name}.{score}": value
        for name, metrics in sources.items()
        for score in ("miou", "miou_quarter", "pixel_accuracy")
        if not math.isnan(value := getattr(metrics, score))
    }
