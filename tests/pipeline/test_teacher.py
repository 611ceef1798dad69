"""The teacher from a checkpoint: fetched, loaded strictly, measured, and only then written."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from transformers import SegformerForSemanticSegmentation

from effiseg.config import Config
from effiseg.data.prepared import Prepared
from effiseg.errors import EffiSegError
from effiseg.evaluation.evaluate import evaluate
from effiseg.models.segformer import load_model, transformers_config
from effiseg.models.weights import digest
from effiseg.pipeline.teacher import HISTORY, METRICS, MODELS, PROFILE, make_teacher
from tests.models.test_weight_layouts import original

CPU = torch.device("cpu")
WRITTEN = ("models", "results", "history", "profiles")

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def stories() -> None:
    """None are told for these tests: they need no study."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow store for all of these tests, as making one takes seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    yield uri
    mlflow.set_tracking_uri(before)


@pytest.fixture
def folder(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, in place of the repository."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make(folder: Path, make_config: Callable[..., Config], data: Prepared) -> Make:
    """Runs the stage with these settings of the teacher, and returns the working directory."""

    def run(**teacher: Any) -> Path:
        config = make_config(teacher={"variant": "b0", "min_miou": 0.0, "source": "file", "sha256": ""} | teacher)
        make_teacher(config, data, CPU)
        return folder

    return run


@pytest.fixture
def network_of(make_config: Callable[..., Config], data: Prepared) -> Callable[..., SegformerForSemanticSegmentation]:
    """transformers' own SegFormer with random weights; void is the class behind the others, where asked for."""

    def build(variant: str = "b0", *, void: bool = False) -> SegformerForSemanticSegmentation:
        model = make_config(teacher={"variant": variant}).teacher.model()
        classes = [*data.classes, "void"] if void else data.classes
        return SegformerForSemanticSegmentation(transformers_config(model, classes)).eval()

    return build


@pytest.fixture
def checkpoint(folder: Path, network_of: Callable[..., SegformerForSemanticSegmentation]) -> Path:
    """A B0 as transformers saves it."""
    network_of().save_pretrained(folder / "source")
    return folder / "source" / "model.safetensors"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@torch.no_grad()
def assert_same_function(
    network: SegformerForSemanticSegmentation,
    data: Prepared,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
) -> None:
    """The teacher answers as the network does on pixels normalised beforehand, void left out."""
    images = torch.tensor(data.val.images[:2])
    channels = torch.tensor([mean, std]).view(2, 1, 3, 1, 1)
    expected = network((images / 255 - channels[0]) / channels[1]).logits[:, : data.num_classes]
    torch.testing.assert_close(load_model(MODELS / "last")(images), expected, atol=1e-4, rtol=1e-4)


def assert_refused(make: Make, match: str, **teacher: Any) -> str:
    """One line that says why, and none of the stage's outputs."""
    with pytest.raises(EffiSegError, match=match) as caught:
        make(**teacher)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert not any(path.is_file() for name in WRITTEN for path in Path(name).rglob("*"))
    assert not MODELS.exists()
    return message


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_transformers_checkpoint_becomes_the_teacher(
    make: Make, network_of: Callable[..., SegformerForSemanticSegmentation], folder: Path, data: Prepared
):
    network = network_of("b2")
    network.save_pretrained(folder / "source")
    make(variant="b2", path=str(folder / "source" / "model.safetensors"))
    assert_same_function(network, data)
    assert read(METRICS)["params_m"] == pytest.approx(27.361235)


def test_an_original_checkpoint_with_a_void_output_becomes_the_teacher(
    make: Make, network_of: Callable[..., SegformerForSemanticSegmentation], folder: Path, data: Prepared
):
    network = network_of(void=True)
    tensors = {f"module.{name}": tensor for name, tensor in original(network).items()}
    assert "module.block1.0.attn.kv.weight" in tensors
    assert tensors["module.linear_pred.weight"].shape[0] == 20
    torch.save({"epoch": 3, "state_dict": tensors}, folder / "model.pth")
    make(path=str(folder / "model.pth"), mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])
    assert_same_function(network, data, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    assert (read(METRICS)["mean"], read(METRICS)["std"]) == ([0, 0, 0], [1, 1, 1])


def test_what_is_recorded_is_what_was_measured(make: Make, checkpoint: Path, data: Prepared, capsys):
    make(path=str(checkpoint))
    assert digest(checkpoint) in capsys.readouterr().out  # to be put into teacher.sha256
    metrics, weights = read(METRICS), MODELS / "last" / "model.safetensors"
    report = evaluate(load_model(MODELS / "last"), data.val, data.classes, batch_size=4, device=CPU).report()
    assert {name: metrics[name] for name in ("miou", "miou_quarter", "pixel_accuracy")} == {
        name: report[name] for name in ("miou", "miou_quarter", "pixel_accuracy")
    }
    assert {name: value for name, value in metrics["iou"].items() if value is not None} == {
        name: value for name, value in report["iou"].items() if value == value
    }
    assert (metrics["digest"], metrics["source"], metrics["variant"]) == (digest(weights), "file", "b0")
    assert metrics["mean"] == [0.485, 0.456, 0.406]
    assert metrics["std"] == [0.229, 0.224, 0.225]
    costs = read(PROFILE)
    forms = [(speed["form"], speed["size"]) for speed in costs["speeds"]]
    assert forms == [(form, size) for size in ([64, 128], [32, 64]) for form in ("trained", "deployed")]
    assert {key: metrics[key] for key in ("params_m", "gmacs", "gmacs_paper")} == {
        key: costs[key] for key in ("params_m", "gmacs", "gmacs_paper")
    }
    history = read(HISTORY.with_suffix(".json"))
    assert (history["origin"], history["sha256"]) == (str(checkpoint), digest(checkpoint))
    assert (history["data_digest"], history["epochs"]) == (data.digest, None)
    assert HISTORY.with_suffix(".csv").read_text() == "epoch,step,loss,lr,miou,miou_quarter,pixel_accuracy\n"


def test_a_second_teacher_replaces_the_first(
    make: Make,
    network_of: Callable[..., SegformerForSemanticSegmentation],
    checkpoint: Path,
    folder: Path,
    data: Prepared,
):
    make(path=str(checkpoint))
    first = read(METRICS)["digest"]
    network = network_of()
    network.save_pretrained(folder / "other")
    make(path=str(folder / "other" / "model.safetensors"))
    assert_same_function(network, data)
    assert read(METRICS)["digest"] != first


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_teacher_below_the_bound_is_refused_and_nothing_is_written(make: Make, checkpoint: Path):
    message = assert_refused(make, r"teacher\.min_miou: .* expected at least 0\.5", path=str(checkpoint), min_miou=0.5)
    assert "mIoU 0.0" in message
    (run,) = mlflow.search_runs(
        experiment_names=["effiseg"], order_by=["start_time DESC"], max_results=1, output_format="list"
    )
    assert (run.info.run_name, run.info.status) == ("teacher", "FAILED")


def test_a_folder_that_transformers_wrote_becomes_the_teacher(make: Make, checkpoint: Path):
    make(path=str(checkpoint.parent))
    assert read(HISTORY.with_suffix(".json"))["origin"] == str(checkpoint)


def test_a_checkpoint_of_another_variant_is_refused_with_names(make: Make, checkpoint: Path):
    message = assert_refused(make, "does not fit the model, nothing was loaded", variant="b2", path=str(checkpoint))
    assert message.startswith(str(checkpoint))
    assert "missing (segformer.stages.0.blocks.2." in message
    assert "patch_embeddings.proj.weight: found [32, 3, 7, 7] float32, expected [64, 3, 7, 7] float32" in message


def test_a_missing_file_is_refused(make: Make, folder: Path):
    assert_refused(make, r"teacher\.path: .*nowhere\.pth is neither a checkpoint nor", path=str(folder / "nowhere.pth"))
    assert_refused(make, r"nor a folder with model\.safetensors or pytorch_model\.bin", path=str(folder))


def test_a_file_with_another_digest_is_refused(make: Make, checkpoint: Path):
    found = digest(checkpoint)
    assert_refused(make, f"teacher.sha256: .* has {found}, expected {'0' * 64}", path=str(checkpoint), sha256="0" * 64)
    make(path=str(checkpoint), sha256=found.upper())


def test_a_file_that_is_no_checkpoint_is_refused(make: Make, folder: Path):
    (folder / "page.html").write_text("<html>")
    assert_refused(make, "is a web page", path=str(folder / "page.html"))


# --- a URL ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def url(checkpoint: Path) -> Iterator[str]:
    """Where a local server gives the checkpoint out."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(checkpoint.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{checkpoint.name}"
        server.shutdown()


def test_a_url_with_the_right_digest_becomes_the_teacher(make: Make, url: str, checkpoint: Path):
    make(source="url", url=url, sha256=digest(checkpoint))
    history = read(HISTORY.with_suffix(".json"))
    assert history["sha256"] == digest(checkpoint)
    assert Path(history["origin"]).parent.name == ".downloads"
    assert read(METRICS)["source"] == "url"
    assert not (MODELS / "best").exists()


def test_a_url_with_a_wrong_digest_is_refused(make: Make, url: str):
    assert_refused(make, "0" * 64, source="url", url=url, sha256="0" * 64)


# --- trained here -----------------------------------------------------------------------------------------------------


def test_a_trained_teacher_below_the_bound_keeps_its_checkpoints(make: Make, folder: Path):
    settings = {"source": "train", "overrides": {"epochs": 1}}
    assert_refused(make, r"teacher\.min_miou: the teacher \(train\)", min_miou=0.9, **settings)
    assert len(list(folder.glob(".ckpt/teacher-*/checkpoint-3"))) == 1
    # lowering the bound does not train again
    weights = next(folder.glob(".ckpt/teacher-*/checkpoint-3")) / "model.safetensors"
    trained = weights.stat().st_mtime_ns
    make(min_miou=0.0, **settings)
    assert (MODELS / "last" / "model.safetensors").stat().st_mtime_ns > trained
    assert read(METRICS)["source"] == "train"
    assert read(HISTORY.with_suffix(".json"))["steps"] == 3
    assert not list(folder.glob(".ckpt/teacher-*/checkpoint-3"))
