"""`python -m effiseg weights`: what a checkpoint of anybody is."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from effiseg.base.errors import EffiSegError
from effiseg.models.segformer import build_model, save_model
from effiseg.models.tell import tell
from tests.settings import CITYSCAPES

SHIPPED = Path(__file__).parents[2] / "weights/teacher-b2.safetensors"


@pytest.fixture(scope="module")
def b0(shipped):
    torch.manual_seed(0)
    return build_model(shipped.model, CITYSCAPES.classes)


def test_a_model_folder(b0, tmp_path: Path):
    save_model(b0, tmp_path / "m")
    told = tell(str(tmp_path / "m"))
    assert (told.variant, told.classes, told.missing, told.encoder, told.others) == ("b0", 19, [], True, [])
    assert told.names == list(CITYSCAPES.classes)
    assert "on disk" in told.layout
    assert told.lines()[0].endswith("whole network, B0, transformers' layout of versions 4, and on disk")
    assert "start: {source: file, part: network, ...}" in told.lines()[-1]


def test_a_row_of_other_norms_and_embeddings_is_whole_too(shipped, tmp_path: Path):
    norms = shipped.model.norms.model_copy(update={"block": "dyl", "patch_embedding": "dyt"})
    settings = shipped.model.model_copy(update={"norms": norms, "embedding": "bottleneck"})
    save_model(build_model(settings, CITYSCAPES.classes), tmp_path / "m")
    told = tell(str(tmp_path / "m"))
    assert (told.variant, told.missing, told.others) == ("b0", [], [])


def test_the_shipped_teacher():
    told = tell(str(SHIPPED))
    assert (told.variant, told.classes, told.missing) == ("b2", 19, [])


def test_an_encoder_with_imagenets_classifier(b0, tmp_path: Path):
    encoder = {name: tensor for name, tensor in b0.network.state_dict().items() if name.startswith("segformer.")}
    save_file(
        encoder | {"classifier.weight": torch.ones(1000, 256), "classifier.bias": torch.ones(1000)}, tmp_path / "x"
    )
    told = tell(str(tmp_path / "x"))
    assert (told.variant, told.classes, told.encoder) == ("b0", 1000, True)
    assert all(name.startswith("decode_head.") for name in told.missing)
    assert "encoder, without a whole decode head, B0" in told.lines()[0]
    assert "part: encoder" in told.lines()[-1]


def test_what_is_no_segformer_is_refused(tmp_path: Path):
    save_file({"conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)}, tmp_path / "resnet.safetensors")
    with pytest.raises(EffiSegError, match=r"no SegFormer: none of its 2 tensors has a known name \(conv1\.weight, fc"):
        tell(str(tmp_path / "resnet.safetensors"))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(EffiSegError, match="neither safetensors nor what torch"):
        tell(str(tmp_path / "text.pth"))
    with pytest.raises(EffiSegError, match="not there"):
        tell(str(tmp_path / "nowhere.pth"))


def test_a_tensor_of_another_shape_is_told_and_what_can_be_started_from(b0, tmp_path: Path):
    tensors = dict(b0.network.state_dict())
    fine = tensors["decode_head.linear_fuse.weight"]
    tensors["decode_head.linear_fuse.weight"] = fine[:-1].contiguous()
    save_file(tensors, tmp_path / "head.safetensors")
    told = tell(str(tmp_path / "head.safetensors"))
    assert (told.misshaped, told.encoder) == (["decode_head.linear_fuse.weight"], True)
    assert "encoder, without a whole decode head, B0" in told.lines()[0]
    assert "part: encoder" in told.lines()[-1]
    key = "segformer.stages.0.blocks.0.mlp.fc1.weight"
    tensors |= {"decode_head.linear_fuse.weight": fine, key: tensors[key][:-1].contiguous()}
    save_file(tensors, tmp_path / "encoder.safetensors")
    lines = tell(str(tmp_path / "encoder.safetensors")).lines()
    assert "parts, B0" in lines[0]
    assert f"of another shape than B0's: {key}" in lines
    assert lines[-1] == "no row can start from it: its encoder is not whole"


def test_values_that_are_not_finite_are_told_with_the_file(b0, tmp_path: Path):
    tensors = {name: value.clone() for name, value in b0.network.state_dict().items()}
    tensors["decode_head.classifier.bias"][0] = torch.nan
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(EffiSegError, match=r"nan\.safetensors: .*not finite"):
        tell(str(tmp_path / "nan.safetensors"))
