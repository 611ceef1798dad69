"""Train one row with one seed, or fetch its weights. `teach`, `distill` and `distill_assisted` run it too."""

from effiseg.base.config import load_config
from effiseg.cli import stage
from effiseg.runs.study import open_prepared
from effiseg.runs.tracked_training import train_tracked


def main() -> None:
    arguments = stage.row_arguments(__doc__)
    config = load_config()
    train_tracked(config, config.row(arguments.experiment), arguments.seed, open_prepared(config))


if __name__ == "__main__":
    stage.run(main)
