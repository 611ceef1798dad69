"""Measure what a row's architecture costs to run. It reads the trained model's configuration, not its weights."""

from effiseg.base.config import load_config
from effiseg.base.device import choose_device
from effiseg.cli import stage
from effiseg.deployment.profile import profile
from effiseg.models.segformer import read_model_config
from effiseg.runs.places import Place
from effiseg.runs.records import Profile, write_record
from effiseg.runs.tracked import track_place


def main() -> None:
    arguments = stage.row_arguments(__doc__)
    config = load_config()
    place = Place(arguments.experiment, arguments.seed)
    model, classes = read_model_config(place.last)
    sizes = [config.profile.size, config.data.size]
    with track_place(place) as tracker:
        costs = profile(model, classes, sizes, repeats=config.profile.repeats, device=choose_device())
        record = Profile.model_validate(costs)
        write_record(place.profile, record)
        tracker.metrics(record.numbers(config.profile.size))


if __name__ == "__main__":
    stage.run(main)
