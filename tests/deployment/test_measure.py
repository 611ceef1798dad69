"""What is measured of each form."""

from dataclasses import replace

import pytest
import torch

from effiseg.base.errors import EffiSegError
from effiseg.deployment.export import EXACT
from effiseg.deployment.measure import forms_of, measure_forms
from effiseg.deployment.runtimes import openvino_installed
from effiseg.evaluation.evaluate import evaluate

NAMES = ["torch", "torch_deployed", "torch_deployed_bf16", "onnx", "onnx_fp16", "onnx_int8"]
NAMES += ["openvino"] if openvino_installed() else []
SETTINGS = {"size": (64, 96), "repeats": 3, "batch_size": 2}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def forms(exported):
    return forms_of(exported.folder / "checkpoint", exported.folder, CPU)


@pytest.fixture(scope="module")
def measured(forms, data):
    found = measure_forms(forms, data.val, data.classes, **SETTINGS)
    return {form["form"]: form for form in found}


def test_every_form_is_measured(measured, exported):
    assert list(measured) == NAMES
    for form in measured.values():
        assert 0 < form["latency_ms"] <= form["latency_p95_ms"]
        assert form["fps"] == pytest.approx(1e3 / form["latency_ms"])
        assert form["peak_memory_mb"] > 0
    assert measured["onnx_int8"]["size_mb"] == (exported.folder / "model_int8.onnx").stat().st_size / 1e6


def test_scores_are_those_of_the_evaluation(measured, model, data):
    expected = evaluate(model, data.val, data.classes, batch_size=2, device=CPU).scores

    assert measured["torch"]["miou"] == expected.miou
    assert {k: v for k, v in measured["torch"]["iou"].items() if v == v} == {
        k: v for k, v in expected.iou.items() if v == v
    }
    assert abs(measured["onnx"]["miou"] - expected.miou) < 1e-3


def test_exact_forms_change_next_to_nothing_and_reduced_ones_little(measured):
    assert measured["torch"]["pixels_changed"] == 0
    for name in NAMES:
        assert measured[name]["pixels_changed"] <= (EXACT if measured[name]["exact"] else 0.2)
    # 8 bits cannot agree everywhere: a form that is never run would
    assert measured["onnx_int8"]["pixels_changed"] > 0


def test_an_exact_form_that_changes_pixels_is_an_error(forms, data):
    liar = replace(forms[NAMES.index("onnx_int8")], exact=True)
    with pytest.raises(
        EffiSegError, match=r"onnx_int8: .*% of the predicted pixels differ .* at most 0\.01% are allowed"
    ):
        measure_forms([forms[0], liar], data.val, data.classes, **SETTINGS)
