"""Turn the raw data set into memory-mapped arrays, and measure what needs no network."""

from effiseg.base.config import load_config
from effiseg.base.files import write_json
from effiseg.cli import stage
from effiseg.data.dataset import open_dataset
from effiseg.data.prepared import Prepared
from effiseg.preparation.floors import FLOORS
from effiseg.preparation.prepare import prepare
from effiseg.runs.places import FLOORS as FLOORS_FILE
from effiseg.runs.places import PREPARED
from effiseg.tracking.tracker import track


def main() -> None:
    stage.no_arguments(__doc__)
    config = load_config()
    settings = config.data
    with track("prepare", open_dataset(settings.source).name) as tracker:
        tracker.params(settings.model_dump())
        prepare(settings, PREPARED)
        data = Prepared.open(PREPARED)
        floors = {name: floor(data).report() for name, floor in FLOORS.items()}
        write_json(FLOORS_FILE, floors)
        tracker.dataset(data.source, settings.root, data.digest, "study")
        tracker.tags({"data_digest": data.digest})
        tracker.metrics({f"{name}.miou": floor["miou"] for name, floor in floors.items()})
        tracker.artifact(PREPARED / "index.json")


if __name__ == "__main__":
    stage.run(main)
