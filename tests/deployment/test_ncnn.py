"""ncnn, an extra: what changes where it is not installed (nothing), and what it answers where it is."""

import json
import shutil
import sys

import pytest
import torch

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Norms
from effiseg.deployment import ncnn_file
from effiseg.deployment.edge import export_at_sizes, export_target
from effiseg.deployment.measure import forms_of, measure_forms
from effiseg.deployment.ncnn_file import INSTALL_NCNN, MISSING_NCNN, NcnnSegmenter, ncnn_installed
from effiseg.deployment.open import open_model
from effiseg.evaluation.evaluate import predict_classes
from effiseg.models import segformer
from tests.deployment.conftest import network

CPU = torch.device("cpu")
SIZE = (33, 64)
FILES = ["card.json", "model.ncnn.bin", "model.ncnn.param"]


@pytest.fixture
def absent(monkeypatch):
    """An environment without ncnn and pnnx."""
    for name in ("ncnn", "pnnx"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(scope="module")
def installed():
    if not ncnn_installed():
        pytest.skip(f"needs ncnn: {MISSING_NCNN}")


@pytest.fixture(scope="module")
def written(installed, model, card, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ncnn")
    return folder, export_target(model, card, data, folder, "ncnn", SIZE)


# --- without it -------------------------------------------------------------------------------------------------------


def test_without_it_an_export_is_one_error_with_what_installs_it(absent, model, card, data, tmp_path):
    with pytest.raises(EffiSegError, match=r"^ncnn is not installed; run `make setup-ncnn` \(elsewhere: `pip install "):
        export_target(model, card, data, tmp_path, "ncnn")
    assert not list(tmp_path.iterdir())


def test_without_it_files_of_an_export_are_the_same_error(absent, tmp_path):
    (tmp_path / "model.ncnn.param").touch()
    with pytest.raises(EffiSegError, match=r"^ncnn is not installed; run `make setup-ncnn`"):
        open_model(str(tmp_path), CPU)


def test_the_command_installs_what_the_extra_pins(repository):
    pins = (repository / "requirements-ncnn.in").read_text().splitlines()[1:]
    assert [pin.split("#")[0].strip() for pin in pins] == INSTALL_NCNN.split()[2:]


def test_what_was_not_exported_is_no_form(exported):
    assert "ncnn" not in [form.name for form in forms_of(exported.folder / "checkpoint", exported.folder, CPU)]


# --- with it ----------------------------------------------------------------------------------------------------------


def test_the_folder_holds_the_two_files_and_the_card(written, card):
    folder, _ = written
    assert sorted(path.name for path in folder.iterdir()) == FILES
    content = json.loads((folder / "card.json").read_text())
    assert (content["classes"], content["size"]) == (list(card.classes), list(SIZE))


def test_it_answers_as_the_trained_network(written, model, card):
    folder, parity = written
    assert (parity.file, parity.runtime, parity.pixels) == ("model.ncnn.param", "ncnn", 0)
    assert parity.logits < 1e-5
    images = torch.randint(0, 256, (3, 3, *SIZE), dtype=torch.uint8)
    with torch.no_grad():
        expected = model(images)
    opened, found = open_model(str(folder), CPU)
    assert found == card.model_copy(update={"size": SIZE})
    for given in (images, images.contiguous(memory_format=torch.channels_last)):  # as a decoded picture lies
        assert (opened(given) - expected).abs().max() < 1e-5 * expected.abs().max()
    classes = opened.classes(images)
    assert (classes.dtype, classes.shape) == (torch.uint8, (3, *SIZE))
    assert (classes != predict_classes(expected, SIZE)).float().mean() < 1e-3


def test_images_of_another_size_are_refused(written):
    opened = NcnnSegmenter(written[0] / "model.ncnn.param")
    with pytest.raises(EffiSegError, match=r"model\.ncnn\.param: found images of 64x64, expected 33x64; export it for"):
        opened(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


@pytest.mark.parametrize("norm", ["dyt", "dyl", "derf", "batchnorm"])
def test_every_norm_is_converted(installed, data, settings, card, tmp_path, norm):
    norms = Norms(patch_embedding=norm, block=norm, sequence_reduction=norm, stage_output=norm)
    settings = settings.model_copy(update={"norms": norms, "embedding": "bottleneck"})
    assert export_target(network(data, settings), card, data, tmp_path, "ncnn").pixels <= 1e-4


def test_what_pnnx_cannot_convert_is_told_with_its_message(installed, model, card, data, tmp_path, monkeypatch):
    monkeypatch.setattr(ncnn_file, "_attend", lambda block, x: type(block)._attend(block, x))
    with pytest.raises(
        EffiSegError, match=r"pnnx cannot convert .*unbind along batch axis 0 is not supported.*another"
    ):
        export_target(model, card, data, tmp_path, "ncnn")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_a_damaged_file_is_one_clear_error(written, tmp_path, name, content):
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EffiSegError, match=r"model\.ncnn\.param: ncnn cannot open it .*; export the row again"):
        NcnnSegmenter(tmp_path / "model.ncnn.param")


def test_what_ncnn_cannot_run_is_an_error_and_no_crash(written, tmp_path):
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "model.ncnn.param"
    path.write_text(path.read_text().replace(" out0", " other"))
    with pytest.raises(EffiSegError, match=r"model\.ncnn\.param: ncnn cannot run it \(status -\d+\)"):
        NcnnSegmenter(path)(torch.zeros(1, 3, *SIZE, dtype=torch.uint8))


def test_the_form_is_measured_at_one_size_and_compared_at_another(installed, exported, model, card, data, tmp_path):
    for name in ("model.onnx", "model_fp16.onnx", "model_int8.onnx"):
        (tmp_path / name).symlink_to(exported.folder / name)
    export_at_sizes(model, card, data, tmp_path / "ncnn", "ncnn", {(64, 96), data.size})
    forms = forms_of(exported.folder / "checkpoint", tmp_path, CPU)

    first, found = measure_forms([forms[0], forms[-1]], data.val, data.classes, size=(64, 96), repeats=2, batch_size=2)

    assert (found["form"], found["exact"], found["miou"]) == ("ncnn", True, first["miou"])
    assert found["latency_ms"] > 0 and found["peak_memory_mb"] > 0
    files = (tmp_path / "ncnn/64x96").iterdir()
    assert found["size_mb"] == pytest.approx(sum(file.stat().st_size for file in files) / 1e6, rel=0.01)


@pytest.mark.slow
def test_a_network_of_real_size_answers_as_trained(installed, data, settings, card, tmp_path, monkeypatch):
    monkeypatch.setitem(segformer.VARIANTS, "b0", {})  # transformers' own sizes are those of B0
    model = network(data, settings)
    assert sum(parameter.numel() for parameter in model.parameters()) > 3.7e6
    assert export_target(model, card, data, tmp_path, "ncnn", (128, 256)).pixels <= 1e-4
