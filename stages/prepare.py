"""Turn the raw data set into memory-mapped arrays, and measure what needs no network."""

from pathlib import Path

from effiseg.config import load_config
from effiseg.data.prepare import prepare
from effiseg.data.prepared import Prepared
from effiseg.evaluation.floors import FLOORS
from effiseg.pipeline import cli, workspace
from effiseg.pipeline.tracking import track
from effiseg.report.figures import write_class_distribution


def main() -> None:
    cli.no_arguments(__doc__)
    config = load_config()
    settings = config.data
    with track("prepare", settings.source) as tracker:
        tracker.params(settings.model_dump())
        prepare(
            settings.source,
            Path(settings.root),
            workspace.PREPARED,
            size=(settings.size[0], settings.size[1]),
            held_out=settings.held_out,
            class_weights=settings.class_weights,
        )
        data = Prepared.open(workspace.PREPARED)
        floors = {name: floor(data).report() for name, floor in FLOORS.items()}
        workspace.write_json(workspace.FLOORS, floors)
        write_class_distribution(data, workspace.CLASS_DISTRIBUTION)
        tracker.dataset(data.source, settings.root, data.digest, "study")
        tracker.tags({"data_digest": data.digest})
        tracker.metrics({f"{name}.miou": floor["miou"] for name, floor in floors.items()})
        tracker.artifact(workspace.PREPARED / "index.json")
        tracker.artifact(workspace.CLASS_DISTRIBUTION)


if __name__ == "__main__":
    cli.run(main)
