"""Generate the embedded data set of street scenes."""

from effiseg.base.config import load_config
from effiseg.base.files import whole_folder
from effiseg.cli import stage
from effiseg.data.dataset import open_dataset
from effiseg.runs.places import GENERATED, is_generated
from effiseg.scenes.synthetic import synthesize
from effiseg.tracking.tracker import track


def main() -> None:
    stage.no_arguments(__doc__)
    config = load_config()
    settings = config.synthesize.model_dump()
    if not is_generated(config.data.root):
        print(f"data.root is {config.data.root}: no scenes are generated")
        with whole_folder(GENERATED):
            return
    with track("synthesize", open_dataset(config.data.source).name) as tracker:
        tracker.params(settings)
        with whole_folder(GENERATED) as out:
            synthesize(out, **settings)


if __name__ == "__main__":
    stage.run(main)
