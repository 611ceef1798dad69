"""Where the work runs, and how exactly."""

import ctypes
import platform
from contextlib import AbstractContextManager, nullcontext

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


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one.

    By default it returns large blocks to the system at once, and faulting their pages in again costs a training on the
    CPU about a tenth of its time. Its peak stays as it is. Under other C libraries nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.libc_ver()[0] == "glibc" else None
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
