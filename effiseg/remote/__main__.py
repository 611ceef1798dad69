"""`python -m effiseg.remote`, in the folder that the archive of `effiseg pack` holds: trains what is left to train.

Exit status: 0 all is trained, 75 there is more to do and the same command goes on, 1 a training failed or none began.
"""

import argparse
import math
import time
from pathlib import Path

from effiseg.remote.host import enter


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m effiseg.remote", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="<row>-<seed>: only these, and what they read")
    parser.add_argument("--minutes", type=_minutes, default=math.inf, help="end after so many, with what is done")
    parser.add_argument("--parallel", type=_count, default=1, metavar="N", help="trainings at once (1)")
    home = parser.add_mutually_exclusive_group()
    home.add_argument("--out", type=Path, default=Path("runs.tar"), help="the archive for `effiseg unpack` (runs.tar)")
    home.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="in place of an archive of weights: score each run too, and add its scores to this folder, for `effiseg "
        "keep DIR --root FOLDER`",
    )
    return parser.parse_args()


def _minutes(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


if __name__ == "__main__":
    started, arguments = time.time(), parse()
    packed = enter()
    from effiseg.cli import stage
    from effiseg.remote.command import train_packed

    stage.run(lambda: train_packed(packed, arguments, started))
