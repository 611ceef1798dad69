"""Train the teacher, or fetch its checkpoint, and measure it."""

from effiseg.config import load_config
from effiseg.data.prepared import Prepared
from effiseg.device import choose_device
from effiseg.pipeline import cli
from effiseg.pipeline.teacher import make_teacher
from effiseg.pipeline.workspace import PREPARED


def main() -> None:
    cli.no_arguments(__doc__)
    config = load_config()
    make_teacher(config, Prepared.open(PREPARED), choose_device())


if __name__ == "__main__":
    cli.run(main)
