"""One run in a process of its own: `python -m effiseg.remote.worker <row>-<seed> --until SECONDS`."""

import argparse
import json
import os
import sys
from contextlib import nullcontext

from effiseg.cli import stage
from effiseg.remote.host import PACKED


def main() -> None:
    """Train the run where it is not trained, and score it where it is a teacher."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--until", type=float, required=True, help="when it stops in time, seconds since the epoch")
    arguments = parser.parse_args()
    # imported late: whoever started this may end meanwhile, which `stage.run` has begun to watch
    from effiseg.base.config import load_config
    from effiseg.data.prepared import Prepared
    from effiseg.remote.plan import is_trained
    from effiseg.runs.places import PREPARED, Place
    from effiseg.runs.scoring import score_run
    from effiseg.runs.training import train_run
    from effiseg.training.callbacks import PausedError

    config, data, place = load_config(), Prepared.open(PREPARED), Place.of(arguments.run)
    row, packed = config.row(place.row), json.loads(PACKED.read_text(encoding="utf-8"))
    try:
        if place.name not in packed["trained"] and not is_trained(config, place, data.digest):
            place.metrics.unlink(missing_ok=True)  # of other weights
            train_run(
                config,
                row,
                place.seed,
                data,
                log=lambda *_: nullcontext(lambda *_: None),
                commit=packed["commit"],
                until=arguments.until,
            )
        if row.name in config.study.teachers:
            score_run(config, row, place, data)
    except PausedError:
        sys.exit(os.EX_TEMPFAIL)


if __name__ == "__main__":
    stage.run(main)
