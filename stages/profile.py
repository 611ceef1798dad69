"""Measure what a row's architecture costs to run. It reads the trained model's configuration alone, so that editing a
row's loss does not run it again."""

import argparse
from pathlib import Path

from effiseg.config import load_config
from effiseg.device import choose_device
from effiseg.evaluation.profile import profile
from effiseg.models.segformer import read_model_config
from effiseg.pipeline import cli, workspace
from effiseg.pipeline.tracking import track


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, help="a row of params.yaml's experiments")
    name = parser.parse_args().experiment
    config = load_config()
    group = config.stage_of(config.row(name).name)
    model, classes = read_model_config(Path("models", group, workspace.run_name(name, config.study.seeds[0]), "last"))
    sizes = [config.profile.size, config.data.size]
    with track(f"profile-{name}", config.data.source, tags={"experiment": name}) as tracker:
        costs = profile(model, classes, sizes, repeats=config.profile.repeats, device=choose_device())
        workspace.write_json(Path("profiles", group, f"{name}.json"), costs)
        tracker.params(model.model_dump())
        tracker.metrics({key: value for key, value in costs.items() if isinstance(value, float)})


if __name__ == "__main__":
    cli.run(main)
