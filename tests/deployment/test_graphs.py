"""Graphs that are kept: what is taken from them, and what is never."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from effiseg.deployment.graphs import from_kept_graph


class Scaled(nn.Module):
    """gain * (linear(x) - mean)."""

    def __init__(self, channels: int = 4, gain: int = 2, bias: bool = True) -> None:
        super().__init__()
        self.gain = gain
        self.linear = nn.Linear(3, channels)
        self.register_buffer("mean", torch.rand(channels), persistent=False)
        if not bias:
            nn.init.zeros_(self.linear.bias)


class Exporter:
    """Counts its calls. As the real one it leaves zeros out, and names weights as the module does."""

    def __init__(self, *, folded: bool = False, renamed: bool = False, unused: bool = False) -> None:
        self.calls, self.folded, self.renamed, self.unused = 0, folded, renamed, unused

    def __call__(self, model: Scaled) -> onnx.ModelProto:
        self.calls += 1
        weights = {"linear.weight": model.linear.weight, "linear.bias": model.linear.bias, "mean": model.mean}
        constants = {name: value.detach() for name, value in weights.items() if value.any()}
        constants["gain"] = torch.tensor([float(model.gain)])
        if self.folded:
            constants["val_1"] = model.gain * model.mean
        if self.renamed:
            constants["val_2"] = constants.pop("linear.weight")
        if self.unused:
            del constants["mean"]
        tensors = [numpy_helper.from_array(value.numpy(), name) for name, value in constants.items()]
        return onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], [], initializer=tensors))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "graphs"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_networks_of_one_structure_are_exported_once_and_keep_their_own_weights(folder):
    export = Exporter()
    for _ in range(3):
        model = Scaled()
        assert from_kept_graph(model, folder, export, ()) == Exporter()(model)
    assert export.calls == 1


@pytest.mark.parametrize(
    "other", [{"channels": 5}, {"gain": 3}, {"bias": False}], ids=["shape", "attribute", "bias of zeros"]
)
def test_another_structure_has_another_graph(folder, other):
    export = Exporter()
    for changes in ({}, other, {}):
        model = Scaled(**changes)
        assert from_kept_graph(model, folder, export, ()) == Exporter()(model)
    assert export.calls == 2


def test_other_settings_have_another_graph(folder):
    export = Exporter()
    for settings in (("logits",), ("classes", "logits")):
        from_kept_graph(Scaled(), folder, export, settings)
    assert export.calls == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "another structure's"])
def test_a_damaged_file_is_not_used_and_replaced(folder, damage):
    from_kept_graph(Scaled(gain=3), folder, Exporter(), ())
    (other,) = folder.iterdir()
    from_kept_graph(Scaled(), folder, Exporter(), ())
    (path,) = set(folder.iterdir()) - {other}
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[:-1],
            "bit": content[:-1] + bytes([content[-1] ^ 1]),
            "another structure's": other.read_bytes(),
        }[damage]
    )
    export = Exporter()
    for _ in range(2):
        model = Scaled()
        assert from_kept_graph(model, folder, export, ()) == Exporter()(model)
    assert export.calls == 1
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "exporter", [{"folded": True}, {"renamed": True}], ids=["computed from a weight", "of a weight by another name"]
)
def test_a_graph_that_would_not_do_for_other_weights_is_not_kept(folder, exporter):
    assert from_kept_graph(Scaled(), folder, Exporter(**exporter), ()) is None
    assert names(folder) == []


def test_a_weight_that_no_output_needs_is_not_in_the_graph(folder):
    export = Exporter(unused=True)
    for _ in range(2):
        model = Scaled()
        assert from_kept_graph(model, folder, export, ()) == Exporter(unused=True)(model)
    assert export.calls == 1


def test_weights_of_another_type_are_not_tried(folder):
    export = Exporter()
    assert from_kept_graph(Scaled().half(), folder, export, ()) is None
    assert export.calls == 0


def test_several_may_write_one_graph_at_once(folder):
    models = [Scaled() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda model: from_kept_graph(model, folder, Exporter(), ()), models))
    assert found == [Exporter()(model) for model in models]
    assert len(names(folder)) == 1
