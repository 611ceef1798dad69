"""Put every result into tables and figures."""

from pathlib import Path

from effiseg.base.config import load_config
from effiseg.cli import stage
from effiseg.data.dataset import open_dataset
from effiseg.report.build import build_report
from effiseg.runs.places import REPORTS
from effiseg.tracking.tracker import track


def main() -> None:
    stage.no_arguments(__doc__)
    config = load_config()
    with track("report", open_dataset(config.data.source).name) as tracker:
        summary = build_report(config, Path(), REPORTS)
        tracker.metrics(summary.metrics)
        for name in ("index.html", "comparison.csv", "comparison.md", "summary.csv", "classes.csv", "lengths.csv"):
            tracker.artifact(REPORTS / name)
        tracker.artifact(REPORTS / "figures", "figures")
        tracker.note(summary.note)


if __name__ == "__main__":
    stage.run(main)
