"""Put what the deployed rows cost and answer into a table, a page and a figure."""

from effiseg.base.config import load_config
from effiseg.cli import stage
from effiseg.report.deployment import build_deployment
from effiseg.runs.places import REPORTS
from effiseg.runs.study import open_prepared
from effiseg.tracking.tracker import track


def main() -> None:
    stage.no_arguments(__doc__)
    config = load_config()
    data = open_prepared(config)
    with track("deployment", data.source, tags={"data_digest": data.digest}) as tracker:
        build_deployment(config, data, REPORTS)
        for name in ("deployment.csv", "deployment.md", "deployment.png", "predictions.png"):
            tracker.artifact(REPORTS / name)


if __name__ == "__main__":
    stage.run(main)
