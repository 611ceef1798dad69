"""Put what the deployed rows cost and answer into a table, a page and a figure."""

from pathlib import Path

from effiseg.config import load_config
from effiseg.deployment.report import build_deployment
from effiseg.pipeline import cli
from effiseg.pipeline.prepared import open_prepared
from effiseg.pipeline.tracking import track

OUT = Path("reports")


def main() -> None:
    cli.no_arguments(__doc__)
    config = load_config()
    data = open_prepared(config)
    with track("deployment", data.source, tags={"data_digest": data.digest}) as tracker:
        build_deployment(config, data, OUT)
        for name in ("deployment.csv", "deployment.md", "deployment.png", "predictions.png"):
            tracker.artifact(OUT / name)


if __name__ == "__main__":
    cli.run(main)
