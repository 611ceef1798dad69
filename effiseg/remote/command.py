"""What `python -m effiseg.remote` does."""

import argparse
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from effiseg.base.config import load_config
from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Prepared
from effiseg.remote.bring import bring
from effiseg.remote.plan import planned
from effiseg.remote.train import Trainings, alone
from effiseg.runs.places import PREPARED, Place

FOR_TRAINING = 0.9  # of --minutes; in the rest the last checkpoints and the archive are written


def train_packed(packed: Mapping[str, Any], arguments: argparse.Namespace, started: float) -> None:
    """Train, write or keep what is to be brought home, and leave with status 75 where more is to be done.

    Args:
        packed: what `pack` wrote down.
        started: when the command began, seconds since the epoch.

    Raises:
        EffiSegError: there is no such run or folder, the study cannot be kept there, another process works in this
            folder, or a training failed.
    """
    config, data = load_config(), Prepared.open(PREPARED)
    plan = planned(config)
    if unknown := [name for name in arguments.runs if name not in plan]:
        raise EffiSegError(f"run '{unknown[0]}': the study has none of that name; runs are: {', '.join(plan)}")
    wanted = arguments.runs or [name for name in plan if not _is_kept(name, arguments.keep)]
    option, out = ("--keep", arguments.keep) if arguments.keep else ("--out", arguments.out)
    if not out.parent.is_dir():
        raise EffiSegError(f"{option}: {out.parent} is no folder; make it, or name another")
    with alone() as lock:
        trainings = Trainings(config, data.digest, plan, packed, wanted, arguments.keep)
        trainings.run(arguments.parallel, started + 60 * FOR_TRAINING * arguments.minutes, lock)
        brought = _kept(plan, out) if arguments.keep else bring(config, data.digest, packed, out)
    print("\n".join([*trainings.told(), brought]))
    if failed := trainings.named("failed"):
        raise EffiSegError(
            f"failed: {', '.join(failed)}; the lines above tell why, logs/<run>.log more, and the same command tries "
            "again"
        )
    if trainings.named("unfinished", "waiting"):
        sys.exit(os.EX_TEMPFAIL)


def _kept(plan: Collection[str], folder: Path) -> str:
    kept = [name for name in plan if _is_kept(name, folder)]
    return (
        f"{folder}: {len(kept)} of {len(plan)} runs kept; bring it home, and there `python -m effiseg keep DIR --root "
        f"{folder.name}`"
    )


def _is_kept(name: str, folder: Path | None) -> bool:
    return folder is not None and Place.of(name, folder).record.exists()
