"""Train the teacher, or fetch its checkpoint, and measure it."""

from effiseg.config import load_config
from effiseg.device import choose_device
from effiseg.pipeline import cli
from effiseg.pipeline.prepared import open_prepared
from effiseg.pipeline.teacher import make_teacher


def main() -> None:
    cli.no_arguments(__doc__)
    config = load_config()
    make_teacher(config, open_prepared(config), choose_device())


if __name__ == "__main__":
    cli.run(main)
