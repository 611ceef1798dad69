"""Train one row with one seed. The stages `train` and `distill` both run it: distilled rows need the teacher."""

from effiseg.config import load_config
from effiseg.models.deployed import deploy
from effiseg.models.segformer import load_model
from effiseg.pipeline import cli
from effiseg.pipeline.prepared import open_prepared
from effiseg.pipeline.training import tracked_training
from effiseg.pipeline.workspace import TEACHER, run_name


def main() -> None:
    arguments = cli.row_arguments(__doc__)
    config = load_config()
    row = config.row(arguments.experiment)
    tracked_training(
        config,
        row,
        arguments.seed,
        open_prepared(config),
        name=run_name(row.name, arguments.seed),
        group=config.stage_of(row.name),
        teacher=deploy(load_model(TEACHER)) if row.loss.needs_teacher else None,
    )


if __name__ == "__main__":
    cli.run(main)
