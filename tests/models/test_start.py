"""A row's network before training: drawn, or of a checkpoint that must fit it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Row
from effiseg.models.segformer import Segmenter, build_model, save_model
from effiseg.models.start import start_model


@pytest.fixture
def row_from(make_config: Callable[..., Config]) -> Callable[..., Row]:
    """The baseline with this start and these settings of its model."""

    def make(start: dict[str, Any], **model: Any) -> Row:
        return make_config(experiments={"baseline": {"start": start, "model": model}}).row("baseline")

    return make


@pytest.fixture
def saved(model: Segmenter, tmp_path: Path) -> Path:
    """The checkpoint of a network whose every value is its own."""
    save_model(model, tmp_path / "last")
    return tmp_path / "last" / "model.safetensors"


def test_drawn_weights_are_those_of_the_global_seed_and_of_no_file(tiny: None, row_from, classes):
    row = row_from({"source": "drawn", "path": "unused"})
    torch.manual_seed(3)
    expected = build_model(row.model, classes).state_dict()
    torch.manual_seed(3)
    model, origin = start_model(row, classes)
    assert origin is None
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("of", ["file", "folder"])
def test_the_weights_of_a_file_or_its_folder_are_loaded_whole(row_from, model, saved, classes, pixels, of):
    row = row_from({"source": "file", "path": str(saved if of == "file" else saved.parent)})
    found, origin = start_model(row, classes)
    assert origin == saved
    expected, images = model.network.state_dict(), pixels(2, 3, 32, 64)
    assert found.network.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.network.state_dict().items())
    with torch.no_grad():
        assert torch.equal(found.eval()(images), model(images))


def test_the_digest_is_checked_when_given_and_told_when_not(row_from, saved, classes, capsys):
    digest, path = hashlib.sha256(saved.read_bytes()).hexdigest(), str(saved)
    start_model(row_from({"source": "file", "path": path}), classes)
    assert capsys.readouterr().out == f"{path}: sha256 {digest}\n"
    start_model(row_from({"source": "file", "path": path, "sha256": digest.upper()}), classes)
    assert capsys.readouterr().out == ""
    with pytest.raises(EffiSegError, match=rf"^start\.sha256: {path} has {digest}, expected {'0' * 64}; "):
        start_model(row_from({"source": "file", "path": path, "sha256": "0" * 64}), classes)


def test_a_file_that_is_not_there_and_a_folder_without_one_are_told(tiny: None, row_from, classes, tmp_path):
    for path, found in ((tmp_path / "nowhere.pth", "not there, so "), (tmp_path, "")):
        with pytest.raises(
            EffiSegError, match=rf"^start\.path: {path} is {found}neither a checkpoint nor a folder with m"
        ):
            start_model(row_from({"source": "file", "path": str(path)}), classes)


def test_a_checkpoint_of_another_network_is_refused(row_from, saved, classes):
    row = row_from({"source": "file", "path": str(saved)}, norms={"block": "dyl"})
    with pytest.raises(EffiSegError, match="does not fit the model; nothing was loaded") as caught:
        start_model(row, classes)
    assert str(caught.value).startswith(f"{saved}: ")
