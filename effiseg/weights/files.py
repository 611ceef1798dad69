"""Checkpoint files of anybody, read without running their code."""

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from effiseg.base.errors import EffiSegError

_LISTED = 10  # names in a message; the rest is counted

# checkpoints put the model's tensors below one of these, next to the epoch, the optimiser and the like
_CONTAINERS = ("state_dict", "model_state_dict", "model", "checkpoint", "state_dict_ema", "ema_state_dict", "model_ema")

# torch's own list of allowed types lacks numpy's scalars, which many training scripts save as `best_score`
_numpy_scalar = np.float64(0).__reduce__()[0]
_NUMPY_SCALARS: list[Any] = [
    np.dtype,
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"},
    (_numpy_scalar, "numpy.core.multiarray.scalar"),  # numpy 1
    (_numpy_scalar, "numpy._core.multiarray.scalar"),  # numpy 2
]
_REFUSED = re.compile(
    r"(?:GLOBAL|module) (?P<what>\S+) (?:was not an allowed|is blocked)|unrecognized function"
    r"|Can only (?:build|create)|TorchScript"
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a checkpoint file, on the CPU, under the names they have there.

    The format is told by the content, whatever the suffix. Nothing in the file is executed.

    Args:
        path: safetensors, or what torch.save wrote: a state dict, or a mapping with one at one of
            `_CONTAINERS`, nested or not.

    Raises:
        EffiSegError: the file is missing, damaged, not a checkpoint, or could only be read by running code from it.
    """
    try:
        content = load_file(path) if _is_safetensors(path) else _load_pickle(path)
    except (OSError, SafetensorError) as error:
        raise EffiSegError(f"{path}: cannot be read: {_line(error)}; expected a complete checkpoint file") from error
    tensors = {name: value for name, value in _unwrap(content).items() if _is_plain(value)}
    if not tensors:
        found = listed(content) if isinstance(content, Mapping) and content else type(content).__name__
        raise EffiSegError(
            f"{path}: holds no named tensors (found {found}); expected a state dict, alone or under one of "
            f"{', '.join(_CONTAINERS)}"
        )
    return tensors


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins as safetensors do; raises where it begins as no checkpoint does."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[8:9] == b"{":  # after the header's length
        return True
    if not head:
        raise EffiSegError(f"{path}: is empty; expected a checkpoint: fetch it again")
    if head.lstrip().startswith(b"<"):
        raise EffiSegError(
            f"{path}: is a web page (starts with {head.split()[0][:40].decode(errors='replace')!r}), expected a "
            "checkpoint; the download was answered with an error or login page: fetch the file in a browser"
        )
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        raise EffiSegError(
            f"{path}: is neither safetensors nor what torch.save writes (starts with {head[:8]!r}); "
            "expected a checkpoint: fetch it again"
        )
    return False


def _load_pickle(path: Path) -> Any:
    try:
        _refuse_damaged(path)
        # an open file: of a path, torch believes the suffix
        with path.open("rb") as file, torch.serialization.safe_globals(_NUMPY_SCALARS):
            return torch.load(file, weights_only=True, map_location="cpu")
    except OSError:
        raise
    except Exception as error:  # a damaged pickle stream can fail with any type
        refused = _REFUSED.search(str(error)) if isinstance(error, pickle.UnpicklingError | RuntimeError) else None
        if refused:
            what = f" ({refused['what']})" if refused["what"] else ""
            raise EffiSegError(
                f"{path}: holds more than tensors and plain data{what}, and loading that would run code from the file; "
                "re-save its state dict alone, best as safetensors, where you trust it"
            ) from error
        raise EffiSegError(
            f"{path}: is damaged or cut off ({type(error).__name__}); expected a whole checkpoint: fetch it again"
        ) from error


def _refuse_damaged(path: Path) -> None:
    """torch reads the parts of its archives without looking at their checksums, which some writers leave at 0."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as part:
                while entry.CRC and part.read(1 << 20):
                    pass  # raises BadZipFile at the end


def _unwrap(content: Any) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        return {}
    inner = next((content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping)), None)
    return content if inner is None else _unwrap(inner)


def _is_plain(value: Any) -> bool:
    """A tensor with its values in it: not sparse, not quantised, not saved without data."""
    is_dense = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized
    return is_dense and value.device.type == "cpu"


def listed(names: Iterable[Any]) -> str:
    """The first of the names, and how many more there are: for a message."""
    shown = list(map(str, names))
    more = len(shown) - _LISTED
    return ", ".join(shown[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _line(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
