"""Tells whoever started a stage how far its training is, by a small file."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from effiseg.base.files import write_text

PROGRESS = "EFFISEG_PROGRESS"  # the file to write; nobody watches where it is not set

OnLog = Callable[[dict[str, float], int], None]


def with_progress(on_log: OnLog, steps: int, batch_size: int) -> OnLog:
    """`on_log` that also writes {"step", "steps", "images_per_second"} into the file that EFFISEG_PROGRESS names.

    Args:
        steps: of the whole training. batch_size: images per step.
    """
    if PROGRESS not in os.environ:
        return on_log
    path, first = Path(os.environ[PROGRESS]), (0, time.monotonic())

    def log(metrics: dict[str, float], step: int) -> None:
        nonlocal first
        now = time.monotonic()
        if not first[0]:
            first = (step, now)  # the first log's wait holds the start-up, and a resumed training begins anywhere
        seconds = now - first[1]
        speed = (step - first[0]) * batch_size / seconds if seconds else 0.0
        write_text(path, json.dumps({"step": step, "steps": steps, "images_per_second": speed}))
        on_log(metrics, step)

    return log
