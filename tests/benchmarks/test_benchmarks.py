"""The benchmark compares equal work, and counts it right."""

import csv
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import compare, gpu, rows, setting, video
from benchmarks.apart import Work, apart
from benchmarks.compare import Result, summarise, time_in_turn, write
from benchmarks.gpu import gpu_inference, gpu_training
from benchmarks.rows import networks
from benchmarks.setting import CPU, batch, our_task, row, stock_task, teacher_model
from effiseg.deployment.runtimes import INSTALL_OPENVINO, openvino_installed
from effiseg.models import segformer
from effiseg.video.pyav import INSTALL_AV, av_installed
from tests.training.plain import drop_nothing

SIZE = (32, 64)
WIDTHS = {"hidden_sizes": [4, 8, 10, 16], "depths": [1, 1, 1, 1], "decoder_hidden_size": 12}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both variants narrow, and three passes a comparison."""
    for variant in ("b0", "b2"):
        monkeypatch.setitem(segformer.VARIANTS, variant, WIDTHS)
    monkeypatch.setattr(compare, "SECONDS", 0.0)
    monkeypatch.setattr(compare, "RUNS", (3, 3))


# --- counting ---------------------------------------------------------------------------------------------------------


def test_both_ways_run_equally_often_and_in_alternating_order(small: None):
    calls: list[str] = []
    ours, other = time_in_turn(lambda: calls.append("a"), lambda: calls.append("b"), CPU)
    assert len(ours) == len(other) == 3
    assert "".join(calls) == "aabb" + "ab" + "ba" + "ab"


def line(ours: list[float], other: list[float], **settings: object) -> Result:
    return summarise("x", ours, other, unit="ms", floor=1.5, device=CPU, note="", **settings)


def process() -> Work:
    return os.getpid


def test_each_way_has_a_process_of_its_own():
    with apart(process, process) as (ours, other):
        mine, theirs = ours(), other()
        assert len({mine, theirs, os.getpid()}) == 3
        assert (ours(), other()) == (mine, theirs)


def test_the_ratio_is_how_many_times_better_ours_is():
    found = line([1.0, 2.0, 3.0, 2.0], [4.0, 4.0, 6.0, 100.0])
    assert (found.ours, found.other, found.ratio) == (2.0, 5.0, 2.5)
    assert found.ratio_low < found.ratio_high
    assert line([30.0], [10.0], better="more").ratio == 3.0
    assert line([2.0], [4.0]).ratio_low is None


def test_the_table_has_the_promised_columns_and_replaces_the_old_one(tmp_path: Path):
    file = tmp_path / "results.csv"
    file.write_text("old")
    write([line([1.0], [2.0]), line([1.0], [3.0])], file)
    with file.open() as table:
        rows = list(csv.DictReader(table))
    assert {"name", "ours", "other", "ratio", "floor", "unit", "device", "note"} <= set(rows[0])
    assert [float(each["ratio"]) for each in rows] == [2.0, 3.0]
    assert list(tmp_path.iterdir()) == [file]


# --- equal work -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("teacher_head", [True, False], ids=["whole teacher", "headless teacher"])
@pytest.mark.parametrize("name", ["baseline", "kd"])
def test_both_steps_compute_the_same_loss_and_gradients(small: None, name: str, teacher_head: bool):
    ours = our_task(name, SIZE)
    stock = stock_task(name, SIZE, teacher_head=teacher_head)
    stock.student.network.load_state_dict(ours.student.network.state_dict())
    stock.terms.load_state_dict(ours.terms.state_dict())
    if name == "kd":  # the teacher that ours was deployed from is gone: build the same one again
        torch.manual_seed(5)
        teacher = segformer.build_model(teacher_model(), setting.CLASSES)
        ours = type(ours)(ours.student, teacher, row(name, SIZE), setting.PAPER_WEIGHTS).train()
        ours.terms.load_state_dict(stock.terms.state_dict())
        stock._teacher[0].network.load_state_dict(teacher.network.state_dict())
    images, labels = batch(2, SIZE, CPU)
    losses, draws = [], torch.rand(2, 7)
    for task in (ours, stock):
        drop_nothing(task)
        task.augmentation.register_forward_pre_hook(lambda _, args: (*args[:2], draws))
        losses.append(task(images, labels)["loss"])
        losses[-1].backward()
    torch.testing.assert_close(*losses, rtol=1e-5, atol=0)
    found, expected = (
        task.student.network.segformer.stages[0].patch_embeddings.proj.weight.grad for task in (ours, stock)
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@torch.no_grad()
def test_both_networks_give_the_same_logits(small: None):
    stock, deployed = networks(row("baseline").model)
    images, _ = batch(1, SIZE, CPU)
    torch.testing.assert_close(deployed(images), stock(images), rtol=1e-4, atol=1e-5)


def test_the_epoch_of_images_is_measured(small: None, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"SCENES": 4, "FULL_SIZE": (64, 128), "STEP_SIZE": SIZE}.items():
        monkeypatch.setattr(rows, name, value)
    [line] = rows.data()
    assert (line.name, line.unit) == ("epoch_data", "images/s")
    assert line.ours > line.other > 0


@pytest.mark.skipif(not openvino_installed(), reason=f"needs `{INSTALL_OPENVINO}`")
def test_openvino_is_measured_against_both(small: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "IMAGE_SIZE", SIZE)
    lines = list(rows.b0_openvino())
    assert [(each.name, each.floor) for each in lines] == [
        ("b0_inference_openvino", 5.5),
        ("openvino_against_onnx", 1.15),
    ]
    assert "openvino" in lines[0].versions


@pytest.mark.skipif(not av_installed(), reason=f"needs `{INSTALL_AV}`")
def test_a_whole_video_is_measured_against_the_network(small: None, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"FRAMES": 6, "IMAGE_SIZE": (64, 128)}.items():
        monkeypatch.setattr(video, name, value)
    [line] = video.video_rate()
    assert (line.name, line.unit, line.floor) == ("video_rate", "frames/s", 0.85)
    assert line.ours > 0 and line.other > 0 and "av 18" in line.versions


def test_norms_and_8_bits_are_measured_on_deployed_files(small: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "IMAGE_SIZE", SIZE)
    lines = {each.name: each.note for each in (*rows.norms(), *rows.quantised())}
    assert list(lines) == [
        "tanh_linear_deployed", "tanh_linear_deployed_onnx", "batchnorm_deployed", "batchnorm_deployed_onnx",
        "int8_convolutions", "int8_products", "int8_both", "int8_batchnorm",
    ]  # fmt: skip
    assert "other: `baseline` deployed, both ONNX Runtime" in lines["batchnorm_deployed_onnx"]
    assert "`batchnorm` deployed, ONNX Runtime; ours: Conv in int8" in lines["int8_batchnorm"]


# --- the lines for a GPU, on a CPU ------------------------------------------------------------------------------------


def test_the_gpu_lines_are_measured_and_named(small: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "IMAGE_SIZE", SIZE)
    monkeypatch.setattr(gpu, "BATCHES", (1, 2))
    monkeypatch.setattr(gpu, "TRAINING_BATCH", 2)
    monkeypatch.setattr(nn.Module, "compile", lambda *_, **__: None)  # minutes of a compiler
    lines = [*gpu_inference(CPU), *gpu_training(CPU)]
    assert [each.name for each in lines] == [
        "gpu_b0_inference_batch1", "gpu_b0_inference_best", "gpu_b2_inference_batch1", "gpu_b2_inference_best",
        "gpu_baseline_training", "gpu_kd_training",
    ]  # fmt: skip
    assert all(each.unit == "images/s" and each.ours > 0 and each.other > 0 for each in lines)
    assert "utilisation over both ways: unknown" in lines[-1].note
