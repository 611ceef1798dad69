"""Generate the embedded data set of street scenes."""

from effiseg.config import load_config
from effiseg.data.synthetic import synthesize
from effiseg.pipeline import cli
from effiseg.pipeline.tracking import track
from effiseg.pipeline.workspace import GENERATED, whole_folder


def main() -> None:
    cli.no_arguments(__doc__)
    config = load_config()
    settings = config.synthesize.model_dump()
    with track("synthesize", config.data.source) as tracker:
        tracker.params(settings)
        with whole_folder(GENERATED) as out:
            synthesize(out, **settings)


if __name__ == "__main__":
    cli.run(main)
