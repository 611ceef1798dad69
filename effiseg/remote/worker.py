"""One run in a process of its own: `python -m effiseg.remote.worker <row>-<seed> --until SECONDS`."""

import argparse
import json
import os
import shutil
import sys
import time
from contextlib import nullcontext

from effiseg.cli import stage
from effiseg.remote.host import PACKED


def main() -> None:
    """Train the run where it is not trained, and score it where that is to be done (`plan.to_score`) and is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--until", type=float, required=True, help="when it stops in time, seconds since the epoch")
    parser.add_argument("--everywhere", action="store_true", help="score it, teacher or not, on every split")
    arguments = parser.parse_args()
    # imported late: whoever started this may end meanwhile, which `stage.run` has begun to watch
    from effiseg.base.config import load_config
    from effiseg.data.prepared import Prepared
    from effiseg.keep import is_scored
    from effiseg.remote.plan import is_trained, to_score
    from effiseg.runs.places import FINALS, PREPARED, Place
    from effiseg.runs.scoring import score_run
    from effiseg.runs.training import train_run
    from effiseg.training.callbacks import PausedError

    config, data, place = load_config(), Prepared.open(PREPARED), Place.of(arguments.run)
    row, packed = config.row(place.row), json.loads(PACKED.read_text(encoding="utf-8"))
    has_worked = False
    try:
        if place.name not in packed["trained"] and not is_trained(config, place, data.digest):
            for folder in (place.scores, place.folder / FINALS):
                shutil.rmtree(folder, ignore_errors=True)  # of other weights
            place.metrics.unlink(missing_ok=True)
            train_run(
                config,
                row,
                place.seed,
                data,
                log=lambda *_: nullcontext(lambda *_: None),
                commit=packed["commit"],
                until=arguments.until,
            )
            has_worked = True
        for each in to_score(config, place, arguments.everywhere):
            if is_scored(each):
                continue
            if has_worked and time.time() > arguments.until:
                raise PausedError
            score_run(config, row, each, Prepared.open_final(FINALS / each.split) if each.split else data)
            has_worked = True
    except PausedError:
        sys.exit(os.EX_TEMPFAIL)


if __name__ == "__main__":
    stage.run(main)
