"""Train one row with one seed. The stages `train` and `distill` both run it: distilled rows need the teacher."""

from effiseg.config import load_config
from effiseg.data.prepared import Prepared
from effiseg.models.segformer import load_model
from effiseg.pipeline import cli
from effiseg.pipeline.training import tracked_training
from effiseg.pipeline.workspace import PREPARED, TEACHER, run_name


def main() -> None:
    arguments = cli.row_arguments(__doc__)
    config = load_config()
    row = config.row(arguments.experiment)
    tracked_training(
        config,
        row,
        arguments.seed,
        Prepared.open(PREPARED),
        name=run_name(row.name, arguments.seed),
        group=config.stage_of(row.name),
        teacher=load_model(TEACHER) if row.loss.needs_teacher else None,
    )


if __name__ == "__main__":
    cli.run(main)
