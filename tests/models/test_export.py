"""The ONNX file against the network that it was written from."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from effiseg.base.errors import EffiSegError
from effiseg.deployment.graph_export import export_onnx
from effiseg.models.deployed import deploy
from effiseg.models.segformer import build_model

pytestmark = pytest.mark.usefixtures("tiny")

SIZES = [(1, 64, 96), (3, 64, 128), (2, 97, 130), (1, 33, 47)]
ROWS = {
    "layernorm": pytest.param({}, marks=pytest.mark.slow),
    "mixture": {"patch_embedding": "dyt", "block": "dyl", "sequence_reduction": "derf", "stage_output": "dyl"},
}


def run(file: Path, images: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": images.numpy()})
    return logits


@pytest.mark.parametrize("norms", ROWS.values(), ids=ROWS)
def test_the_file_gives_the_logits_of_the_trained_form_at_any_size(
    tmp_path, settings_with, shaken, classes, pixels, norms
):
    model = shaken(build_model(settings_with(**norms), classes)).eval()
    file = tmp_path / "model.onnx"
    export_onnx(deploy(model), file)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]  # self-contained, and nothing left over
    onnx.checker.check_model(file, full_check=True)
    for size in SIZES:
        images = pixels(size[0], 3, *size[1:])
        with torch.no_grad():
            expected = model(images).numpy()
        found = run(file, images)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_failed_export_leaves_nothing_behind(tmp_path, model, monkeypatch):
    class Program:
        def save(self, path: Path, **_: object) -> None:
            path.write_bytes(b"half")
            raise OSError("the disk is full")

    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Program())
    with pytest.raises(OSError, match="full"):
        export_onnx(deploy(model), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["nowhere/model.onnx", "."])
def test_a_path_that_cannot_be_written_is_told_before_the_work(tmp_path, model, path):
    with pytest.raises(EffiSegError, match="expected the path of a file in a folder that exists"):
        export_onnx(deploy(model), tmp_path / path)
