"""Checkpoint files: which are read, which are refused, and that none of them runs code."""

import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from effiseg.base.errors import EffiSegError
from effiseg.base.origins import digest
from effiseg.weights.files import read_tensors

TENSORS = {"norm1.weight": torch.arange(3.0), "norm1.bias": torch.zeros(3)}
META = {"epoch": 3, "best": np.float64(0.7), "seen": np.int64(5), "classes": ("road",), "optimizer": {"state": {}}}


def same(found: dict[str, Tensor]) -> bool:
    return found.keys() == TENSORS.keys() and all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        OrderedDict(TENSORS) | {"epoch": 3},
        {"state_dict": TENSORS} | META,
        {"model": TENSORS} | META,
        {"model_state_dict": TENSORS} | META,
        {"checkpoint": {"state_dict": OrderedDict(TENSORS)}, "meta": META},
        {name: torch.nn.Parameter(tensor) for name, tensor in TENSORS.items()},
    ],
    ids=["bare", "ordered", "state_dict", "model", "model_state_dict", "nested", "parameters"],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_containers_are_unwrapped(tmp_path: Path, content: Any, suffix: str, new_format: bool) -> None:
    path = tmp_path / f"x.{suffix}"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    assert same(read_tensors(path))


@pytest.mark.parametrize("name", ["x.safetensors", "x.bin", "x"])
def test_safetensors_are_told_by_content(tmp_path: Path, name: str) -> None:
    save_file(TENSORS, tmp_path / name)
    assert same(read_tensors(tmp_path / name))


class Trap:
    """Leaves a file behind if unpickling runs it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, new_format: bool) -> None:
    path, trace = tmp_path / "x.pth", tmp_path / "trace"
    torch.save({"state_dict": TENSORS, "hook": Trap(trace)}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(EffiSegError, match=r"\((?:posix|nt)\), and loading that would run code .* re-save") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_a_plain_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "x.pkl", tmp_path / "trace"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps(Trap(trace), protocol=protocol))
        with pytest.raises(EffiSegError):
            read_tensors(path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [torch.nn.Linear(2, 2), {"a": TENSORS, "norm": torch.nn.LayerNorm(3)}])
def test_whole_modules_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(
        EffiSegError, match=r"\(torch\.nn\.modules\.\S+\), and .* would run code from the file; re-save"
    ):
        read_tensors(tmp_path / "x.pth")


def saved(kind: str) -> bytes:
    path = Path(f"{kind}.tmp")
    if kind == "safetensors":
        save_file({"a": torch.ones(5000)}, path)
    else:
        torch.save({"a": torch.ones(5000)}, path, _use_new_zipfile_serialization=kind == "zip")
    return path.read_bytes()


@pytest.mark.parametrize("size", [5, 30, 200, 3000, 15000])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_cut_files_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, size: int) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    path.write_bytes(saved(kind)[:size])
    with pytest.raises(EffiSegError, match=rf"^{re.escape(str(path))}: .*expected") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n <!DOCTYPE html><html>Google Drive - Quota exceeded</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "neither safetensors nor"),
        (bytes(range(256)) * 9, "neither safetensors nor"),
        (b"PK\x03\x04" + bytes(500), "damaged or cut off"),
        (b"\x80\x02" + b"junk" * 99, "damaged or cut off"),
        (b"\xff" * 8 + b'{"a": 1}', "cannot be read: .*eader"),
    ],
)
def test_other_files_are_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(EffiSegError, match=message) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [3, [torch.ones(1)], {}, {"epoch": 1}, {"student": TENSORS}, {"a": torch.eye(2).to_sparse()}]
)
def test_a_file_without_named_tensors_says_what_it_holds(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.pth")
    found = ", ".join(content) if isinstance(content, dict) and content else type(content).__name__
    with pytest.raises(EffiSegError, match=rf"no named tensors \(found {found}\); expected a state dict"):
        read_tensors(tmp_path / "x.pth")


def test_missing_file_and_folder_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(EffiSegError, match=r"nothere.pth: cannot be read: No such file"):
        read_tensors(tmp_path / "nothere.pth")
    with pytest.raises(EffiSegError, match=r"cannot be read: Is a directory"):
        read_tensors(tmp_path)


def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "x.pt"))
    with pytest.raises(EffiSegError, match="would run code"):
        read_tensors(tmp_path / "x.pt")


def test_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert digest(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_reading_leaves_the_file_alone(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x")
    read_tensors(tmp_path / "x")["norm1.weight"].zero_()
    assert torch.equal(load_file(tmp_path / "x")["norm1.weight"], TENSORS["norm1.weight"])


def test_an_archive_whose_bytes_changed_is_refused_though_torch_would_read_it(tmp_path: Path):
    path = tmp_path / "x.pth"
    torch.save({"weight": torch.arange(5000.0)}, path)
    content = bytearray(path.read_bytes())
    place = content.find(torch.arange(2000.0, 2016.0).numpy().tobytes())
    content[place : place + 64] = bytes(64)
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["weight"][2000] == 0
    with pytest.raises(EffiSegError, match=r"x\.pth: is damaged or cut off \(BadZipFile\)"):
        read_tensors(path)


def test_an_archive_without_checksums_is_read(tmp_path: Path):
    path = tmp_path / "x.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(TENSORS, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(read_tensors(path))
