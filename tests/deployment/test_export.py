"""The exported files: complete, equal to the trained network, and telling where they came from."""

import json

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, SegformerForSemanticSegmentation, pipeline

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Norms
from effiseg.deployment.checkpoint import open_checkpoint, write_checkpoint
from effiseg.deployment.export import EXACT, REDUCED, export_files
from effiseg.deployment.onnx_file import write_float32, write_int8
from effiseg.deployment.open import open_model
from effiseg.deployment.predictor import Predictor
from effiseg.deployment.runtimes import OnnxSegmenter, openvino_installed
from effiseg.evaluation.evaluate import predict_classes
from effiseg.models.deployed import deploy
from effiseg.models.segformer import LABELS_KEY, load_model
from tests.deployment.conftest import CALIBRATION, network

FILES = ["model.onnx", "model_fp16.onnx", "model_int8.onnx"]
SIZES = [(1, 64, 96), (3, 33, 47), (2, 97, 130)]


def test_the_folder_holds_what_is_documented_and_nothing_else(exported):
    assert sorted(path.name for path in exported.folder.iterdir()) == ["checkpoint", *FILES]
    assert {path.name for path in (exported.folder / "checkpoint").iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }


def test_the_folder_itself_names_the_model(exported, card):
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    answers = []
    for path in (exported.folder, exported.folder / "checkpoint"):
        network, found = open_model(str(path), torch.device("cpu"))
        assert found == card
        answers.append(network(images))
    assert torch.equal(*answers)


def test_parity_is_told_of_every_file(exported):
    expected = [("checkpoint", "torch"), *((name, "ONNX Runtime") for name in FILES)]
    expected += [("model.onnx", "OpenVINO")] if openvino_installed() else []
    assert [(parity.file, parity.runtime) for parity in exported.parities] == expected
    for parity in exported.parities:
        assert parity.pixels <= REDUCED.get(parity.file, EXACT)
        if parity.file not in REDUCED:
            assert parity.logits < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_the_onnx_file_gives_logits_and_class_map_at_any_size(exported, model, size):
    images = torch.randint(0, 256, (size[0], 3, *size[1:]), dtype=torch.uint8)
    opened = OnnxSegmenter(exported.folder / "model.onnx")
    with torch.no_grad():
        expected = model(images)

    found = opened(images)

    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    classes = opened.classes(images)
    assert (classes.dtype, classes.shape) == (torch.uint8, (size[0], *size[1:]))
    assert (classes != predict_classes(expected, size[1:])).float().mean() < 1e-3


@pytest.mark.parametrize(
    "norms",
    [
        {},
        pytest.param({"patch_embedding": "dyt", "block": "dyl"}, marks=pytest.mark.slow),
        pytest.param(dict.fromkeys(Norms.model_fields, "batchnorm"), marks=pytest.mark.slow),
    ],
    ids=["layernorm", "dyt and dyl", "batchnorm"],
)
def test_a_file_from_a_kept_graph_is_the_exported_one(data, settings, card, tmp_path, monkeypatch, norms):
    settings = settings.model_copy(update={"norms": settings.norms.model_copy(update=norms)})
    first = network(data, settings.model_copy(update={"mean": [0.5, 0.4, 0.3]}))
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.mul_(1.5)
    second = deploy(network(data, settings))
    write_float32(deploy(first), tmp_path / "first.onnx", card, graphs=tmp_path / "graphs")
    with monkeypatch.context() as patch:
        patch.delattr(torch.onnx, "export")
        write_float32(second, tmp_path / "kept.onnx", card, graphs=tmp_path / "graphs")
    write_float32(second, tmp_path / "direct.onnx", card)

    assert (tmp_path / "kept.onnx").read_bytes() == (tmp_path / "direct.onnx").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_every_onnx_file_is_valid_and_carries_the_card(exported, card, name):
    onnx.checker.check_model(exported.folder / name, full_check=True)
    assert OnnxSegmenter(exported.folder / name).card == card
    properties = {entry.key: entry.value for entry in onnx.load(exported.folder / name).metadata_props}
    assert json.loads(properties["effiseg.classes"]) == list(card.classes)
    assert json.loads(properties["effiseg.licence"]) == "research-only"


def test_reduced_files_are_smaller(exported):
    sizes = [(exported.folder / name).stat().st_size for name in FILES]
    weights = sum(
        onnx.numpy_helper.to_array(tensor).nbytes
        for tensor in onnx.load(exported.folder / "model.onnx").graph.initializer
    )
    # of so small a network much of the file is the graph itself
    assert sizes[1] < sizes[0] - 0.3 * weights


@pytest.mark.parametrize("name", FILES)
def test_no_onnx_file_tells_where_it_was_made(exported, repository, name):
    content = (exported.folder / name).read_bytes()
    assert str(repository).encode() not in content
    assert b"site-packages" not in content


def test_only_convolutions_are_quantised(exported):
    graph = onnx.load(exported.folder / "model_int8.onnx").graph
    quantised = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    users = {node.op_type for node in graph.node if quantised & set(node.input)}

    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert convolutions and all(node.input[1] in quantised for node in convolutions)
    assert not users & {"Gemm", "MatMul", "Softmax", "LayerNormalization"}


def test_the_8_bit_scales_come_from_training_images_alone(exported, card, tmp_path):
    train, val = exported.data.train, exported.data.val
    assert len(train.asked) == CALIBRATION

    write_int8(exported.folder / "model.onnx", tmp_path / "again.onnx", card, train.images[train.asked])
    write_int8(exported.folder / "model.onnx", tmp_path / "val.onnx", card, val.images[:CALIBRATION] // 8)

    written = (exported.folder / "model_int8.onnx").read_bytes()
    assert (tmp_path / "again.onnx").read_bytes() == written
    assert (tmp_path / "val.onnx").read_bytes() != written


def test_plain_transformers_opens_a_row_of_layernorms(exported, model, data, card):
    folder = exported.folder / "checkpoint"
    picture = Image.fromarray(np.ascontiguousarray(data.val.images[0].transpose(1, 2, 0)))
    ours = Predictor(model, card.size, card.fit, torch.device("cpu"))([picture])[0]

    processor = AutoImageProcessor.from_pretrained(folder)
    plain = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    with torch.no_grad():
        outputs = plain(**processor(images=picture, return_tensors="pt"))
    (theirs,) = processor.post_process_semantic_segmentation(outputs, [(picture.height, picture.width)])
    assert (theirs.numpy() == ours).mean() > 0.999

    masks = pipeline("image-segmentation", model=str(folder))(picture)
    for mask in masks:
        index = card.classes.index(mask["label"])
        assert ((np.asarray(mask["mask"]) > 0) == (ours == index)).mean() > 0.999


def test_a_row_of_other_norms_opens_by_load_model(data, settings, card, tmp_path):
    norms = Norms(patch_embedding="dyt", block="dyl", sequence_reduction="derf", stage_output="layernorm")
    model = network(data, settings.model_copy(update={"norms": norms}))
    write_checkpoint(model, tmp_path / "checkpoint", card)

    opened, found = open_checkpoint(tmp_path / "checkpoint")

    images = torch.from_numpy(data.val.images[:2].copy())
    with torch.no_grad():
        assert torch.equal(opened(images), model(images))
        assert torch.equal(load_model(tmp_path / "checkpoint")(images), model(images))
    assert found == card


def test_a_file_that_answers_otherwise_is_an_error(card, data, settings, tmp_path):
    odd = network(data, settings)
    odd.mean.add_(60)  # no checkpoint can tell: the configuration says otherwise

    with pytest.raises(EffiSegError, match=r"checkpoint in torch: .*% of the pixels of 5 validation images differ"):
        export_files(odd, card, data, tmp_path, calibration=1)


@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_a_damaged_onnx_file_is_one_clear_error(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(EffiSegError, match=r"model\.onnx: ONNX Runtime cannot open it .*; export the row again"):
        OnnxSegmenter(tmp_path / "model.onnx")


def test_a_missing_onnx_file_is_one_clear_error(tmp_path):
    with pytest.raises(EffiSegError, match=r"model\.onnx: not found; write it with"):
        OnnxSegmenter(tmp_path / "model.onnx")


def test_an_onnx_file_of_others_is_refused(exported, tmp_path):
    model = onnx.load(exported.folder / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "theirs.onnx")
    with pytest.raises(EffiSegError, match=r"theirs\.onnx: not a file that this version of EffiSeg exported \(space: "):
        OnnxSegmenter(tmp_path / "theirs.onnx")


def test_a_checkpoint_without_a_card_is_refused(exported, tmp_path):
    config = json.loads((exported.folder / "checkpoint/config.json").read_text())
    del config["effiseg_card"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((exported.folder / "checkpoint/model.safetensors").read_bytes())
    with pytest.raises(EffiSegError, match="a trained model that was not exported; name it as"):
        open_checkpoint(tmp_path)


def test_a_model_folder_as_the_training_left_it_answers_too(exported, card, tmp_path):
    config = json.loads((exported.folder / "checkpoint/config.json").read_text())
    del config["effiseg_card"]
    config[LABELS_KEY] = card.model_dump(mode="json", include={"space", "size", "fit"})
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((exported.folder / "checkpoint/model.safetensors").read_bytes())
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    (network, found), (exported_network, _) = (
        open_model(str(path), torch.device("cpu")) for path in (tmp_path, exported.folder)
    )
    assert (found.space, found.size, found.fit, found.name) == (card.space, card.size, card.fit, str(tmp_path))
    assert torch.equal(network(images), exported_network(images))
    with pytest.raises(EffiSegError, match="a trained model that was not exported; name it as"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("space", ["{}", '"moon"', "[", '{"name": "moon", "entries": []}'])
def test_a_card_whose_classes_are_damaged_is_refused(card, space):
    fields = card.to_metadata() | {"effiseg.space": space}
    with pytest.raises(EffiSegError, match="x: not a file that this version of EffiSeg exported"):
        type(card).from_metadata(fields, "x")
