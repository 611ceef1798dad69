"""Files for TensorRT: of one size, with nothing that it is known to refuse. No test here has TensorRT itself."""

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Norms
from effiseg.deployment import tensorrt
from effiseg.deployment.edge import export_target
from effiseg.deployment.onnx_file import write_float32
from effiseg.deployment.open import open_model
from effiseg.deployment.runtimes import OnnxSegmenter
from effiseg.evaluation.evaluate import predict_classes
from effiseg.models.deployed import deploy
from tests.deployment.conftest import network

SIZE = (33, 64)


@pytest.fixture(scope="module")
def written(model, card, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorrt")
    return folder, export_target(model, card, data, folder, "tensorrt", SIZE)


def refusals(nodes, inputs, outputs, opset=20):
    """What is refused of a graph of these nodes; inputs and outputs are (name, type, shape)."""
    values = [[helper.make_tensor_value_info(*each) for each in side] for side in (inputs, outputs)]
    constants = [helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 1, 4, 4])]
    graph = helper.make_graph(nodes, "g", *values, initializer=constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return list(tensorrt._refusals(helper.make_model(graph, opset_imports=opsets)))


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_folder_holds_the_file_and_the_command_for_it(written):
    folder, _ = written
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "trtexec.txt"]
    command = "trtexec --onnx=model.onnx --saveEngine=model.engine --fp16\n"
    assert (folder / "trtexec.txt").read_text() == command


def test_the_file_takes_one_image_of_one_size(written):
    graph = onnx.load(written[0] / "model.onnx").graph
    shapes = {
        value.name: (value.type.tensor_type.elem_type, [side.dim_value for side in value.type.tensor_type.shape.dim])
        for value in (*graph.input, *graph.output)
    }
    assert shapes["images"] == (TensorProto.UINT8, [1, 3, *SIZE])
    assert shapes["classes"] == (TensorProto.INT32, [1, *SIZE])
    assert shapes["logits"][0] == TensorProto.FLOAT


def test_it_answers_as_the_trained_network(written, model, card):
    folder, parity = written
    assert (parity.file, parity.runtime) == ("model.onnx", "ONNX Runtime")
    assert parity.logits < 1e-5
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    opened = OnnxSegmenter(folder / "model.onnx")
    with torch.no_grad():
        expected = model(images)
    assert (opened(images) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (opened.classes(images) != predict_classes(expected, SIZE)).float().mean() < 1e-3
    assert opened.card == card.model_copy(update={"size": SIZE})
    assert open_model(str(folder / "model.onnx"), torch.device("cpu"))[1].size == SIZE


@pytest.mark.parametrize("norm", ["dyt", "dyl", "derf", "batchnorm"])
def test_every_norm_has_operators_that_are_taken(data, settings, card, tmp_path, norm):
    norms = Norms(patch_embedding=norm, block=norm, sequence_reduction=norm, stage_output=norm)
    model = network(data, settings.model_copy(update={"norms": norms}))
    assert export_target(model, card, data, tmp_path, "tensorrt").pixels <= 1e-4


def test_a_size_below_32_is_refused(model, card, data, tmp_path):
    with pytest.raises(EffiSegError, match="--size 31 64: expected at least 32 pixels a side"):
        export_target(model, card, data, tmp_path, "tensorrt", (31, 64))
    assert not list(tmp_path.iterdir())


# --- the list ---------------------------------------------------------------------------------------------------------


def test_the_file_of_free_size_is_refused(model, card, tmp_path):
    write_float32(deploy(model), tmp_path / "model.onnx", card)
    found = list(tensorrt._refusals(onnx.load(tmp_path / "model.onnx")))
    assert "images has a free shape" in found
    assert "Cast from INT64 to UINT8" in found


FLOAT = ("x", TensorProto.FLOAT, [1, 1, 2, 2])
BYTES = ("x", TensorProto.UINT8, [1, 1, 2, 2])
RESIZE = {"coordinate_transformation_mode": "half_pixel", "mode": "linear"}


@pytest.mark.parametrize(
    ("node", "given", "kind", "expected"),
    [
        (helper.make_node("Relu", ["x"], ["y"]), FLOAT, TensorProto.FLOAT, []),
        (helper.make_node("Det", ["x"], ["y"]), FLOAT, TensorProto.FLOAT, ["the operator Det"]),
        (helper.make_node("Relu", ["x"], ["y"], domain="own"), FLOAT, TensorProto.FLOAT, ["the operator own.Relu"]),
        (helper.make_node("Identity", ["x"], ["y"]), BYTES, TensorProto.UINT8, ["Identity of UINT8"]),
        (helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT), BYTES, TensorProto.FLOAT, []),
        (
            helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT32),
            BYTES,
            TensorProto.INT32,
            ["Cast from UINT8 to INT32"],
        ),
        (helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **RESIZE), FLOAT, TensorProto.FLOAT, []),
        (
            helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **RESIZE | {"mode": "cubic"}),
            FLOAT,
            TensorProto.FLOAT,
            ["Resize with mode cubic"],
        ),
        (
            helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **RESIZE | {"antialias": 1}),
            FLOAT,
            TensorProto.FLOAT,
            ["Resize with antialias 1"],
        ),
    ],
)
def test_what_is_not_on_the_list_is_told(node, given, kind, expected):
    size = 4 if node.op_type == "Resize" else 2
    shape = [1, 1] if node.op_type == "Det" else [1, 1, size, size]
    found = refusals([node], [given], [("y", kind, shape)])
    assert [each for each in found if not each.startswith("Identity from")] == expected


def test_an_opset_that_is_too_new_is_told():
    found = refusals([helper.make_node("Relu", ["x"], ["y"])], [FLOAT], [("y", *FLOAT[1:])], opset=25)
    assert found == ["opset 25, expected 9 to 24"]


def test_a_refused_file_is_an_error(model, card, data, tmp_path, monkeypatch):
    monkeypatch.delitem(tensorrt.SUPPORTED, "Gelu")
    with pytest.raises(EffiSegError, match=r"model\.onnx for TensorRT: the operator Gelu; nothing was exported"):
        export_target(model, card, data, tmp_path, "tensorrt")
