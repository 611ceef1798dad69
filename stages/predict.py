"""Let the study's best row predict the validation pictures as they were taken, plainly and with options."""

from effiseg.base.config import load_config
from effiseg.base.device import choose_device, device_name
from effiseg.base.files import whole_folder, write_json
from effiseg.cli import stage
from effiseg.deployment.options import measure_options, show_scenes, validation_pairs
from effiseg.deployment.pictures import write_png
from effiseg.deployment.predictor import Predictor
from effiseg.models.deployed import deploy
from effiseg.runs.finished import best_run
from effiseg.runs.places import PREDICTIONS
from effiseg.runs.study import open_prepared
from effiseg.tracking.tracker import track


def main() -> None:
    stage.no_arguments(__doc__)
    config, device = load_config(), choose_device()
    data = open_prepared(config)
    run = best_run(config, data)
    pairs = validation_pairs(data, config.data)
    network = deploy(run.load().to(device))
    tags = {"experiment": run.card.experiment, "seed": run.card.seed, "data_digest": data.digest}
    with track("predict", data.source, tags=tags) as tracker, whole_folder(PREDICTIONS) as out:
        options = measure_options(network, run.card, pairs, device)
        write_json(out / "options.json", {"run": run.name, "device": device_name(device), "options": options})
        scenes = show_scenes(
            Predictor(network, run.card.size, run.card.fit, device), run.card.space, pairs, config.report.panels
        )
        write_png(scenes, out / "scenes.png")
        tracker.metrics({f"{each['option']}.miou": each["miou"] for each in options})  # type: ignore[misc]
        tracker.artifact(out / "scenes.png")


if __name__ == "__main__":
    stage.run(main)
