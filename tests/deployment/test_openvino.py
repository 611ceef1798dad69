"""OpenVINO, an extra: what changes where it is not installed (nothing), and what it answers where it is."""

import sys

import pytest
import torch

from effiseg.base.errors import EffiSegError
from effiseg.deployment.measure import forms_of
from effiseg.deployment.open import RUNTIMES, open_model
from effiseg.deployment.runtimes import INSTALL_OPENVINO, OnnxSegmenter, OpenvinoSegmenter, openvino_installed
from effiseg.evaluation.evaluate import predict_classes

CPU = torch.device("cpu")


@pytest.fixture
def absent(monkeypatch):
    """An environment without OpenVINO."""
    monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.fixture
def installed():
    """Not `importorskip`, which would import it with what reports to Google."""
    if not openvino_installed():
        pytest.skip(f"needs `{INSTALL_OPENVINO}`")


@pytest.fixture
def opened(installed, exported):
    return OpenvinoSegmenter(exported.folder / "model.onnx")


def pictures(count, height, width):
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


# --- without it -------------------------------------------------------------------------------------------------------


def test_without_it_the_form_is_left_out(absent, exported):
    assert "openvino" not in [form.name for form in forms_of(exported.folder / "checkpoint", exported.folder, CPU)]


def test_without_it_the_runtime_is_one_error_with_the_command_that_installs_it(absent, exported):
    with pytest.raises(EffiSegError, match=r"^openvino is not installed; run `pip install openvino==[0-9.]+`$"):
        open_model(str(exported.folder), CPU, "openvino")


def test_the_command_installs_what_the_extra_pins(repository):
    pins = (repository / "requirements-openvino.in").read_text().splitlines()[1:]
    assert [pin.split("#")[0].strip() for pin in pins] == [INSTALL_OPENVINO.removeprefix("pip install ")]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["mine-3", "models:/mine@best"])
def test_a_runtime_for_what_is_no_exported_file_is_refused(runtime, name):
    kind = RUNTIMES[runtime].file.rpartition(".")[2]
    message = rf"--runtime {runtime}: --model {name} is no exported folder or \.{kind} file"
    with pytest.raises(EffiSegError, match=message):
        open_model(name, CPU, runtime)


def test_a_folder_without_the_file_is_refused(exported):
    with pytest.raises(EffiSegError, match=r"checkpoint/model\.onnx: not found; write it with"):
        open_model(str(exported.folder / "checkpoint"), CPU, "onnx")


def test_a_folder_and_its_file_are_one_model(exported, card):
    images = pictures(1, 64, 96)
    (folder, found), (file, _) = (
        open_model(str(path), CPU, "onnx") for path in (exported.folder, exported.folder / "model.onnx")
    )
    assert isinstance(folder, OnnxSegmenter) and found == card
    assert torch.equal(folder(images), file(images))


# --- with it ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 64, 96), (3, 33, 47)])
def test_it_answers_as_the_trained_network_at_any_size(opened, model, card, size):
    images = pictures(*size)
    with torch.no_grad():
        expected = model(images)

    assert (opened(images) - expected).abs().max() < 1e-5 * expected.abs().max()
    classes = opened.classes(images)
    assert (classes.dtype, classes.shape) == (torch.uint8, (size[0], *size[1:]))
    assert (classes != predict_classes(expected, size[1:])).float().mean() < 1e-3
    assert opened.card == card


def test_it_is_compiled_once_for_each_size_in_float32_with_torchs_threads(opened):
    for images in (pictures(1, 64, 96), pictures(3, 64, 96), pictures(1, 32, 32)):
        opened(images)
    assert sorted(opened.compiled) == [("logits", (32, 32)), ("logits", (64, 96))]
    for compiled in opened.compiled.values():
        assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
        assert compiled.get_property("INFERENCE_NUM_THREADS") == torch.get_num_threads()


def test_it_reports_to_nobody(opened):
    assert sys.modules["openvino_telemetry"] is None


def test_it_refuses_what_is_in_8_bits_for_another_runtime(installed, exported):
    with pytest.raises(EffiSegError, match=r"model_int8\.onnx: in 8 bits for ONNX Runtime, expected model\.onnx"):
        OpenvinoSegmenter(exported.folder / "model_int8.onnx")


@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_a_damaged_file_is_one_clear_error(installed, tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(EffiSegError, match=r"model\.onnx: OpenVINO cannot open it .*; export the row again"):
        OpenvinoSegmenter(tmp_path / "model.onnx")
