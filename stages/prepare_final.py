"""Turn a split that finished trainings are scored on into memory-mapped arrays, and measure what needs no network."""

from dataclasses import replace

from effiseg.base.config import load_config
from effiseg.base.files import write_json
from effiseg.cli import stage
from effiseg.preparation.floors import FLOORS
from effiseg.preparation.prepare import prepare_final
from effiseg.runs.places import FINALS, PREPARED
from effiseg.runs.places import FLOORS as FLOORS_FILE
from effiseg.runs.study import open_final, open_prepared
from effiseg.tracking.tracker import track


def main() -> None:
    split = stage.split_argument(__doc__)
    config = load_config()
    learned, out = open_prepared(config), FINALS / split
    with track("prepare_final", learned.source) as tracker:
        tracker.params(config.data.model_dump() | {"split": split})
        prepare_final(config.data, split, PREPARED, out)
        data = open_final(config, split)
        scored = replace(learned, val=data.val, label_sizes=data.label_sizes)
        floors = {name: floor(scored).report() for name, floor in FLOORS.items()}
        write_json(out / FLOORS_FILE, floors)
        tracker.dataset(data.source, config.data.root, data.digest, "final")
        tracker.metrics({f"{name}.miou": floor["miou"] for name, floor in floors.items()})
        tracker.artifact(out / "index.json")


if __name__ == "__main__":
    stage.run(main)
