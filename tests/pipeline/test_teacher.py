"""A row that is fetched, not trained: loaded strictly, and only then written."""

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

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.base.origins import digest
from effiseg.data.prepared import Prepared
from effiseg.models.segformer import load_model, transformers_config
from effiseg.runs.places import STARTS, Place
from effiseg.runs.study import refuse_weak_teacher
from effiseg.runs.tracked_training import train_tracked
from effiseg.weights.fetch import fetch_starts
from tests.weights.test_weight_layouts import original

TEACHER = Place("teacher", 0)

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

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
    """Runs the stages for a teacher that starts from these weights, and returns the working directory."""

    def run(variant: str = "b0", mean: Sequence[float] = MEAN, std: Sequence[float] = STD, **start: Any) -> Path:
        model = {"variant": variant, "mean": list(mean), "std": list(std)}
        row = {"model": model, "start": {"source": "file", "sha256": ""} | start, "train": {"epochs": 0}}
        config = make_config(experiments={"teacher": row})
        fetch_starts({"teacher": config.row("teacher").start.address}, STARTS)
        train_tracked(config, config.row("teacher"), 0, data)
        return folder

    return run


@pytest.fixture
def network_of(make_config: Callable[..., Config], data: Prepared) -> Callable[..., SegformerForSemanticSegmentation]:
    """transformers' own SegFormer with random weights; void is the class behind the others, where asked for."""

    def build(variant: str = "b0", *, void: bool = False) -> SegformerForSemanticSegmentation:
        model = make_config(model={"variant": variant}).model
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
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> None:
    """The teacher answers as the network does on pixels normalised beforehand, void left out."""
    images = torch.tensor(data.val.images[:2])
    channels = torch.tensor([mean, std]).view(2, 1, 3, 1, 1)
    expected = network((images / 255 - channels[0]) / channels[1]).logits[:, : data.num_classes]
    torch.testing.assert_close(load_model(TEACHER.last)(images), expected, atol=1e-4, rtol=1e-4)


def assert_refused(make: Make, match: str, **teacher: Any) -> str:
    """One line that says why, and none of the stage's outputs."""
    with pytest.raises(EffiSegError, match=match) as caught:
        make(**teacher)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert not any(path.is_file() for path in TEACHER.folder.rglob("*"))
    assert not TEACHER.model.exists()
    return message


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_transformers_checkpoint_becomes_the_teacher(
    make: Make, network_of: Callable[..., SegformerForSemanticSegmentation], folder: Path, data: Prepared
):
    network = network_of("b2")
    network.save_pretrained(folder / "source")
    make(variant="b2", path=str(folder / "source" / "model.safetensors"))
    assert_same_function(network, data)


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
    config = read(TEACHER.last / "config.json")["effiseg"]
    assert (config["mean"], config["std"]) == ([0, 0, 0], [1, 1, 1])


def test_what_is_recorded(make: Make, checkpoint: Path, data: Prepared, capsys):
    (checkpoint.parent / "README.md").write_text("---\nlicense: mit\n---\n")
    make(path=str(checkpoint.parent))
    record, weights = read(TEACHER.record), TEACHER.last / "model.safetensors"
    told = "row 'teacher' starts from file source/model.safetensors; licence: mit"
    assert told in capsys.readouterr().out
    assert (record["origin"], record["weights_digest"]) == ("file source/model.safetensors", digest(weights))
    assert (record["licence"], record["start_digest"]) == ("mit", digest(checkpoint))
    assert read(TEACHER.last / "config.json")["effiseg_licence"] == "mit"
    assert (record["data_digest"], record["epochs"], record["steps"]) == (data.digest, 0, 0)
    assert TEACHER.history.read_text() == "epoch,step,loss,lr,miou,miou_quarter,pixel_accuracy\n"
    assert (TEACHER.best / "model.safetensors").read_bytes() == weights.read_bytes()


def test_weights_that_are_fetched_can_be_trained_on(
    checkpoint: Path, make_config: Callable[..., Config], data: Prepared
):
    start = {"source": "file", "path": str(checkpoint)}
    config = make_config(experiments={"mine": {"start": start, "train": {"epochs": 1, "optimizer": {"lr": 1e-9}}}})
    fetch_starts({"mine": config.row("mine").start.address}, STARTS)
    train_tracked(config, config.row("mine"), 0, data)
    before = SegformerForSemanticSegmentation.from_pretrained(checkpoint.parent).state_dict()
    for name, tensor in load_model(Place("mine", 0).last).network.named_parameters():
        torch.testing.assert_close(tensor.detach(), before[name], atol=1e-6, rtol=0)
    record = read(Place("mine", 0).record)
    assert (record["origin"], record["steps"]) == ("file source/model.safetensors", 3)


def test_rows_of_equal_settings_are_runs_of_their_own(
    checkpoint: Path, make_config: Callable[..., Config], data: Prepared
):
    row = {"start": {"source": "file", "path": str(checkpoint)}, "train": {"epochs": 0}}
    config = make_config(experiments={"one": row, "twin": row})
    for name in ("one", "twin"):
        fetch_starts({name: config.row(name).start.address}, STARTS)
        train_tracked(config, config.row(name), 0, data)
    one, twin = (read(Place(name, 0).record) for name in ("one", "twin"))
    assert one["weights_digest"] == twin["weights_digest"]
    assert one["identity"] != twin["identity"]


def test_a_second_teacher_replaces_the_first(
    make: Make,
    network_of: Callable[..., SegformerForSemanticSegmentation],
    checkpoint: Path,
    folder: Path,
    data: Prepared,
):
    make(path=str(checkpoint))
    first = read(TEACHER.record)["weights_digest"]
    network = network_of()
    network.save_pretrained(folder / "other")
    make(path=str(folder / "other" / "model.safetensors"))
    assert_same_function(network, data)
    assert read(TEACHER.record)["weights_digest"] != first


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_teacher_below_the_bound_is_refused(make_config: Callable[..., Config]):
    config = make_config(study={"min_teacher_miou": 0.5})
    teacher, student = config.row("teacher"), config.row("baseline")
    with pytest.raises(EffiSegError, match=r"study\.min_teacher_miou: .*'teacher' \(file\).* at least 0\.5") as caught:
        refuse_weak_teacher(config, teacher, 0.49)
    assert "mIoU 0.4900" in str(caught.value)
    refuse_weak_teacher(config, teacher, 0.5)
    refuse_weak_teacher(config, student, 0.1)  # a bound for teachers alone


def test_a_fetch_that_fails_is_a_failed_run(make: Make, folder: Path):
    (folder / "rubbish.pth").write_bytes(b"rubbish")
    assert_refused(make, "neither safetensors nor", path="rubbish.pth")
    query = {"experiment_names": ["effiseg-synthetic"], "order_by": ["start_time DESC"], "max_results": 1}
    (run,) = mlflow.search_runs(**query, output_format="list")
    assert (run.info.run_name, run.info.status) == ("teacher-0", "FAILED")


def test_a_folder_that_transformers_wrote_becomes_the_teacher(make: Make, checkpoint: Path):
    make(path=str(checkpoint.parent))
    assert read(TEACHER.record)["origin"] == "file source/model.safetensors"


def test_a_checkpoint_of_another_variant_is_refused_with_names(make: Make, checkpoint: Path):
    message = assert_refused(
        make, "does not fit the model: it is a B0, and model.variant says b2", variant="b2", path=str(checkpoint)
    )
    assert message.startswith("row 'teacher' starts from file source/model.safetensors: ")
    assert "missing (segformer.stages.0.blocks.2." in message
    assert "patch_embeddings.proj.weight: found [32, 3, 7, 7] float32, expected [64, 3, 7, 7] float32" in message


def test_a_missing_file_is_refused(make: Make, folder: Path):
    assert_refused(
        make, r"start\.path: .*nowhere\.pth is not there, so neither a checkpoint nor", path=str(folder / "nowhere.pth")
    )
    assert_refused(make, r"nor a folder with model\.safetensors or pytorch_model\.bin", path=str(folder))


def test_a_file_with_another_digest_is_refused(make: Make, checkpoint: Path):
    found = digest(checkpoint)
    assert_refused(make, f"start.sha256: .* has {found}, expected {'0' * 64}", path=str(checkpoint), sha256="0" * 64)
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
    assert read(TEACHER.record)["origin"] == f"url {url}"


def test_a_url_with_a_wrong_digest_is_refused(make: Make, url: str):
    assert_refused(make, "0" * 64, source="url", url=url, sha256="0" * 64)
