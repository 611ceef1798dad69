"""Put every result into tables and figures."""

from pathlib import Path

from effiseg.config import load_config
from effiseg.pipeline import cli
from effiseg.pipeline.tracking import track
from effiseg.report.build import build_report

OUT = Path("reports")


def main() -> None:
    cli.no_arguments(__doc__)
    config = load_config()
    with track("report", config.data.source) as tracker:
        summary = build_report(config, Path(), OUT)
        tracker.metrics(summary.metrics)
        for name in ("index.html", "comparison.csv", "comparison.md", "summary.csv", "classes.csv"):
            tracker.artifact(OUT / name)
        tracker.artifact(OUT / "figures", "figures")


if __name__ == "__main__":
    cli.run(main)
