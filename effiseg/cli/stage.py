"""How every stage script begins and ends: one line on standard error when something is wrong, and an honest status."""

import argparse
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from tqdm import tqdm

from effiseg.base.errors import EffiSegError, masked
from effiseg.cli.owner import end_with_owner
from effiseg.cli.stage_log import log_stage

DEBUG = "EFFISEG_DEBUG"
PATIENCE_SECONDS = 10.0  # of a process that fails, for the first one to say why; a launcher ends all when one ends


def run(main: Callable[[], None]) -> None:
    """Call `main` and leave with status 0 on success, 1 on an error, 130 or 143 when interrupted.

    The traceback is shown only with EFFISEG_DEBUG=1. However a stage ends, logs/stages.csv gets its line.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a locale may lack letters of a path
    signal.signal(signal.SIGTERM, _terminate)
    end_with_owner()
    gc.freeze()
    gc.enable()  # `stages` switches it off for the imports
    status: object = 1  # of an error that shows its traceback
    try:
        _call(main)
        status = 0
    except SystemExit as leaving:
        status = leaving.code
        raise
    finally:
        if is_first_process():
            log_stage(status)


def row_arguments(description: str, **options: str) -> argparse.Namespace:
    """--experiment and --seed, as dvc.yaml passes them to the stages of one row.

    Args:
        options: further arguments that may be left out, each with its help; empty where they are.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--experiment", required=True, help="a row of params.yaml's experiments")
    parser.add_argument("--seed", required=True, type=int)
    for name, meaning in options.items():
        parser.add_argument(f"--{name}", default="", help=meaning)
    return parser.parse_args()


def split_argument(description: str) -> str:
    """--split, as dvc.yaml passes it to the stages of one split."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--split", required=True, help="a split of data.final_on")
    return str(parser.parse_args().split)


def no_arguments(description: str) -> None:
    """Refuse any argument, and answer --help."""
    argparse.ArgumentParser(description=description).parse_args()


def is_first_process() -> bool:
    """Whether this is the one process that writes and logs, also under torchrun or accelerate."""
    return os.environ.get("RANK", "0") == "0"


def _call(main: Callable[[], None]) -> None:
    try:
        main()
    except KeyboardInterrupt:
        _leave("interrupted; the same command goes on from the last checkpoint, if there is one", 130)
    except EffiSegError as error:
        _leave(str(error), 1)
    except Exception as error:
        reason = " ".join(str(error).split())
        _leave(f"unexpected {type(error).__name__}: {reason} ({DEBUG}=1 shows the traceback)", 1)


def _leave(message: str, status: int) -> None:
    if os.environ.get(DEBUG) == "1" and sys.exc_info()[0] is not None:
        raise
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()  # the message gets a line of its own
    wrong = status == 1
    if wrong and not is_first_process():
        time.sleep(PATIENCE_SECONDS)  # the first process tells, and the launcher then ends this one
    if wrong or is_first_process():
        print(f"error: {masked(message)}", file=sys.stderr)
    sys.exit(status)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(143)
