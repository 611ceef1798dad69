"""Where the work runs, and how exactly."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch.amp import is_autocast_available

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of malloc.h
_KEPT_BYTES = 2**30


def choose_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """The device as a reader of the report would name it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast switched off, which runs matrix products in half precision; a device that knows none is left alone."""
    return torch.autocast(device.type, enabled=False) if is_autocast_available(device.type) else nullcontext()


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """On a GPU, work that gives the same digits every time, wherever torch has a way that does; a CPU always does."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first matrix product runs
    torch.use_deterministic_algorithms(True, warn_only=True)  # the sum of the loss, which no gradient needs, has none
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one.

    By default it returns large blocks to the system at once, and faulting their pages in again costs a training on the
    CPU about a tenth of its time. Its peak stays as it is. Under other C libraries nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.libc_ver()[0] == "glibc" else None
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
