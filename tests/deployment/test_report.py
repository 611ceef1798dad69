"""The deployment table, from results that are written down here."""

import json
import shutil

import pandas as pd
import pytest
from PIL import Image

from effiseg.base.errors import EffiSegError
from effiseg.report.deployment import build_deployment

STUDY = {"experiments": ["baseline"], "distillation": ["kd"], "seeds": [0]}
LATENCY = {"torch": 50.0, "torch_deployed": 30.0, "torch_deployed_bf16": 20.0, "onnx": 25.0, "onnx_int8": 50.0}


def form(name, latency, data):
    numbers = {"size_mb": 2.0, "latency_ms": latency, "latency_p95_ms": latency + 1, "fps": 1e3 / latency}
    return {
        "form": name,
        "exact": name != "onnx_int8",
        "precision": "fp32",
        "device": "CPU, 1 threads",
        "threads": 1,
        **numbers,
        "peak_memory_mb": None,
        "miou": 0.5,
        "pixels_changed": 0.0012 if name == "onnx_int8" else 0.0,
        "iou": dict.fromkeys(data.classes, 0.5),
    }


@pytest.fixture
def study(tmp_path, monkeypatch, data):
    """The working folder of a study with two deployed rows."""
    monkeypatch.chdir(tmp_path)
    for name in ("baseline-0", "kd-0"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        content = {"size": [64, 128], "forms": [form(*entry, data) for entry in LATENCY.items()]}
        (tmp_path / "runs" / name / "deployment.json").write_text(json.dumps(content))
    (tmp_path / "predictions").mkdir()
    options = [{"option": "plain", "miou": 0.5, "latency_ms": 4.0}, {"option": "flip", "miou": 0.51, "latency_ms": 8.0}]
    content = {"run": "kd-0", "device": "CPU, 1 threads", "options": options}
    (tmp_path / "predictions/options.json").write_text(json.dumps(content))
    Image.new("RGB", (8, 8)).save(tmp_path / "predictions/scenes.png")
    return tmp_path


def test_the_table_holds_every_row_and_form(study, make_config, data):
    build_deployment(make_config(study=STUDY), data, study / "reports")

    table = pd.read_csv(study / "reports/deployment.csv")
    assert list(zip(table.experiment, table.form, strict=True)) == [
        (row, name) for row in ("baseline", "kd") for name in LATENCY
    ]
    assert {
        *("experiment", "seed", "form", "size_mb", "latency_ms", "latency_p95_ms", "fps", "peak_memory_mb", "miou"),
        *("pixels_changed", "iou.road"),
    } <= set(table.columns)
    assert table.set_index(["experiment", "form"]).loc[("kd", "onnx_int8"), "pixels_changed"] == 0.0012


def test_the_page_shows_slower_forms_as_such(study, make_config, data):
    build_deployment(make_config(study=STUDY), data, study / "reports")

    page = (study / "reports/deployment.md").read_text()
    lines = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| `")}
    assert "| 0.50 (slower) |" in lines["`onnx_int8`"]
    assert "| 1.50 |" in lines["`torch_deployed_bf16`"]
    assert "0.1200% |" in lines["`onnx_int8`"]
    assert "| flip | 51.00 | 8.00 |" in page
    assert {path.name for path in (study / "reports").iterdir()} == {
        *("deployment.csv", "deployment.md", "deployment.png", "predictions.png")
    }


def test_a_row_that_failed_is_left_out_and_named(study, make_config, data):
    (study / "runs/kd-0/deployment.json").unlink()
    build_deployment(make_config(study=STUDY), data, study / "reports")
    assert set(pd.read_csv(study / "reports/deployment.csv").experiment) == {"baseline"}
    assert "failed or have not run: kd-0." in (study / "reports/deployment.md").read_text()


def test_a_damaged_result_or_none_at_all_is_one_error(study, make_config, data):
    (study / "runs/kd-0/deployment.json").write_text('{"size": [64, 128]}')
    with pytest.raises(EffiSegError, match=r"kd-0/deployment\.json: forms: .*run `dvc repro`"):
        build_deployment(make_config(study=STUDY), data, study / "reports")
    shutil.rmtree(study / "runs")
    with pytest.raises(EffiSegError, match=r"runs: no row of the study has been deployed"):
        build_deployment(make_config(study=STUDY), data, study / "reports")
    assert not (study / "reports").exists()
