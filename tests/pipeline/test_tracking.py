"""What MLflow holds after a study."""

import json
from typing import Any

import pandas as pd
import pytest

from tests.pipeline.study import Study

# with nothing but MLflow's own defaults, in the repository's root
READ_RUNS = """
import json, mlflow
client = mlflow.MlflowClient()

def artifacts(run, folder=None):
    for item in client.list_artifacts(run, folder):
        yield from artifacts(run, item.path) if item.is_dir else [item.path]

def describe(run):
    name = run.info.run_id
    return dict(
        id=name, status=run.info.status, tags=run.data.tags, params=run.data.params, metrics=run.data.metrics,
        history={key: [[m.step, m.value] for m in client.get_metric_history(name, key)] for key in run.data.metrics},
        artifacts=list(artifacts(name)),
        models=[model.model_id for model in run.outputs.model_outputs] if run.outputs else [],
        inputs=[dict(name=entry.dataset.name, digest=entry.dataset.digest) for entry in run.inputs.dataset_inputs],
    )

experiment = client.get_experiment_by_name("effiseg-synthetic")
found = client.search_runs([experiment.experiment_id])
note = experiment.tags["mlflow.note.content"]
runs = {run.info.run_name: describe(run) for run in found}
print(json.dumps({"count": len(found), "note": note, "runs": runs}))
"""
PREDICT = """
import json, mlflow, numpy as np, torch
from pathlib import Path
from PIL import Image
from effiseg.data.prepared import Prepared
from effiseg.models.segformer import load_model
val = Prepared.open(Path("prepared")).val
images = np.asarray(val.images[:1]).transpose(0, 2, 3, 1)
images = images.repeat(2, axis=1).repeat(3, axis=2)  # of another size and aspect, which scales back to the same
small = [Image.fromarray(each).resize((64, 32), Image.Resampling.BILINEAR) for each in images]
theirs = mlflow.pyfunc.load_model("models:/MODEL_ID").predict(np.ascontiguousarray(images))
logits = load_model(Path("runs/baseline-0/model/last"))(torch.tensor(np.stack(small)).permute(0, 3, 1, 2))
ours = torch.nn.functional.interpolate(logits, size=images.shape[1:3], mode="bilinear").argmax(dim=1).numpy()
print(json.dumps({"shape": theirs.shape, "type": str(theirs.dtype), "same": bool((theirs == ours).all())}))
"""
STAGES = ("synthesize", "prepare", "predict", "deployment", "report")
ROWS = ("baseline", "kd", "teacher")
SCORES = ("miou", "miou_quarter", "pixel_accuracy")


@pytest.fixture(scope="module")
def runs(study: Study) -> dict[str, Any]:
    """Run name -> what plain MLflow tells of it."""
    found = study.python(READ_RUNS)
    assert found["count"] == len(found["runs"])  # no two of one name
    return found["runs"]


def test_a_row_and_seed_is_one_run_and_every_other_stage_one_more(runs: dict[str, Any]) -> None:
    assert set(runs) == {*STAGES, *(f"{row}-0" for row in ROWS)}
    assert {run["status"] for run in runs.values()} == {"FINISHED"}
    assert not any("mlflow.parentRunId" in run["tags"] for run in runs.values())  # none is folded away


def test_a_rows_run_holds_all_that_its_comparison_needs(runs: dict[str, Any]) -> None:
    measured = {*SCORES, "iou/road", "params_m", "gmacs", "fps", "latency_ms", "train_minutes"}
    for row in ROWS:
        assert measured <= set(runs[f"{row}-0"]["metrics"])
        assert runs[f"{row}-0"]["params"]["train.batch_size"] == "4"
    assert {"onnx.latency_ms", "torch_deployed.latency_ms", "peak_memory_mb"} <= set(runs["kd-0"]["metrics"])


def test_runs_tell_where_they_came_from(runs: dict[str, Any], study: Study) -> None:
    commit, digest = study.git("rev-parse", "HEAD~1"), study.json("prepared/index.json")["digest"]

    assert {run["tags"]["git.commit"] for run in runs.values()} == {commit}
    assert {runs[name]["tags"]["dvc.stage"] for name in STAGES} == set(STAGES)
    for row in ROWS:
        tags = runs[f"{row}-0"]["tags"]
        assert (tags["experiment"], tags["seed"], tags["data_digest"]) == (row, "0", digest)
    assert runs["kd-0"]["tags"]["teacher_digest"] == study.json("runs/teacher-0/record.json")["weights_digest"]


def test_the_experiment_says_what_the_study_found(study: Study) -> None:
    note = study.python(READ_RUNS)["note"]
    assert "One seed gives no verdict" in note
    assert "| kd |" in note


def test_trainings_log_their_settings(runs: dict[str, Any]) -> None:
    params = runs["kd-0"]["params"]

    assert params["seed"] == "0"
    assert params["loss.weights.cskd"] == "1.0"
    assert params["train.optimizer.lr"] == "0.004"
    assert params["model.norms.block"] == "layernorm"


def test_trainings_log_every_term_and_score_along_the_steps(runs: dict[str, Any], study: Study) -> None:
    history = runs["kd-0"]["history"]

    for name in ("loss", "weighted_ce", "cskd", "pekd"):
        assert [step for step, _ in history[name]] == [1, 2, 3, 4]
    for name in SCORES:
        assert [step for step, _ in history[name]] == [2, 4, 4]  # the last one: of the evaluation
    curve = pd.read_csv(study.folder / "runs/kd-0/history.csv", float_precision="round_trip")
    assert [value for _, value in history["miou"]][:2] == list(curve["miou"])


def test_runs_name_the_data_that_they_used(runs: dict[str, Any], study: Study) -> None:
    digest = study.json("prepared/index.json")["digest"]

    for name in ("prepare", "teacher-0", "baseline-0", "kd-0"):
        assert {"name": "synthetic", "digest": digest[:36]} in runs[name]["inputs"]


def test_the_report_is_kept_with_its_figures(runs: dict[str, Any], study: Study) -> None:
    kept = {*runs["report"]["artifacts"], *runs["deployment"]["artifacts"]}
    written = [path for path in (study.folder / "reports").rglob("*") if path.is_file() and path.name != ".gitignore"]

    assert len(written) >= 7
    for path in written:
        assert [name for name in kept if name.endswith(str(path.relative_to(study.folder / "reports")))]


def test_a_logged_model_predicts_as_the_trained_one(runs: dict[str, Any], study: Study) -> None:
    (model,) = runs["baseline-0"]["models"]

    assert study.python(PREDICT.replace("MODEL_ID", model)) == {"shape": [1, 64, 192], "type": "uint8", "same": True}


@pytest.mark.parametrize("row", ROWS)
def test_final_scores_agree_everywhere_to_the_last_digit(row: str, runs: dict[str, Any], study: Study) -> None:
    path = f"runs/{row}-0/metrics.json"
    written = study.json(path)
    dvc = json.loads(study.dvc("metrics", "show", "--json").stdout)[""]["data"][path]["data"]
    table = pd.read_csv(study.folder / "reports/comparison.csv", float_precision="round_trip").set_index("experiment")

    for score in (*SCORES, "miou_best"):
        assert dvc[score] == written[score]
        assert runs[f"{row}-0"]["metrics"][score] == written[score]
        assert table.loc[row, score] == written[score]
    for score in SCORES:
        assert runs["report"]["metrics"][f"{row}-0.{score}"] == written[score]


def test_best_and_last_scores_are_those_of_the_curve(study: Study) -> None:
    for row in ("baseline", "kd"):
        curve = pd.read_csv(study.folder / f"runs/{row}-0/history.csv", float_precision="round_trip")
        best = study.json(f"runs/{row}-0/record.json")["best_epoch"]
        assert list(curve["epoch"]) == [1, 2]
        assert curve.set_index("epoch")["miou"].idxmax() == best
