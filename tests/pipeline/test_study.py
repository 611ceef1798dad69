"""`dvc repro`: what it makes, and what it runs again after an edit of params.yaml."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import yaml

from effiseg.deployment.open import open_model
from tests.pipeline.study import Study, ran, restored

STAGES = [
    "synthesize",
    "prepare",
    "rows",
    "fetch",
    "teach@teacher-0",
    "train@baseline-0",
    "distill@kd-0",
    "evaluate@baseline-0",
    "evaluate_distilled@kd-0",
    "evaluate_teachers@teacher-0",
    "profile@baseline-0",
    "profile_distilled@kd-0",
    "profile_teachers@teacher-0",
    "deploy@baseline-0",
    "deploy_distilled@kd-0",
    "predict",
    "deployment",
    "report",
]
REPORTS = {"predict", "deployment", "report"}
ROW = {"train": {"optimizer": {"lr": 0.002}}}
KD = {"distill@kd-0", "evaluate_distilled@kd-0", "profile_distilled@kd-0", "deploy_distilled@kd-0"}


@dataclass(frozen=True)
class Edited:
    """What `dvc repro` printed after kd's loss was edited, and after the edit was taken back."""

    edited: str
    undone: str


@pytest.fixture(scope="module")
def edited(module_copy: Study) -> Edited:
    module_copy.edit({"experiments.kd": {"loss": {"weights": {"cskd": 0.5, "pekd": 1.0}}}})
    edited = module_copy.dvc("repro").stdout
    module_copy.git("checkout", "params.yaml")
    return Edited(edited, module_copy.dvc("repro").stdout)


def test_a_fresh_clone_makes_everything_that_dvc_yaml_declares(study: Study) -> None:
    lock = yaml.safe_load((study.folder / "dvc.lock").read_text())["stages"]
    outs = [study.folder / out["path"] for stage in lock.values() for out in stage["outs"]]

    assert sorted(ran(study.log)) == sorted(STAGES)
    assert set(lock) == set(STAGES)
    assert [out for out in outs if not out.exists()] == []


def test_a_fresh_clone_makes_tables_and_figures(study: Study) -> None:
    assert (study.folder / "reports/comparison.csv").stat().st_size > 0
    assert (study.folder / "reports/comparison.md").stat().st_size > 0
    assert len(list((study.folder / "reports/figures").glob("*.png"))) >= 5


def test_a_second_repro_runs_nothing(study: Study) -> None:
    done = study.dvc("repro")

    assert ran(done.stdout) == restored(done.stdout) == []
    assert "Data and pipelines are up to date." in done.stdout
    assert study.git("status", "--porcelain") == ""


def test_an_edited_loss_reruns_that_row_and_the_report_alone(edited: Edited) -> None:
    assert set(ran(edited.edited)) == {"rows"} | KD | REPORTS


def test_an_edit_taken_back_comes_from_the_run_cache(edited: Edited, study: Study, module_copy: Study) -> None:
    model = "runs/kd-0/model/last/model.safetensors"

    assert set(ran(edited.undone)) == {"deployment", "report"}
    assert set(restored(edited.undone)) == {"rows"} | KD | {"predict"}
    assert (module_copy.folder / model).read_bytes() == (study.folder / model).read_bytes()


def test_a_new_row_is_three_lines_and_runs_alone(copy: Study) -> None:
    copy.edit({"experiments.mine": ROW, "study.experiments": ["baseline", "mine"]})

    mine = {"train@mine-0", "evaluate@mine-0", "profile@mine-0", "deploy@mine-0"}
    assert copy.stale() == mine | REPORTS


def test_another_seed_runs_alone(copy: Study) -> None:
    copy.edit({"study.seeds": [0, 1]})

    assert copy.stale() == {
        *(stage.replace("-0", "-1") for stage in STAGES if re.search("(baseline|kd)-0", stage)),
        *REPORTS,
    }


def test_another_size_is_not_taken_for_the_one_that_the_run_cache_knows(copy: Study) -> None:
    copy.edit({"profile.size": [96, 160], "data.size": [64, 96]})
    done = copy.dvc("repro", "--single-item", "prepare", "profile@baseline-0")

    assert (ran(done.stdout), restored(done.stdout)) == (["prepare", "profile@baseline-0"], [])
    speeds = copy.json("runs/baseline-0/profile.json")["speeds"]
    assert {tuple(speed["size"]) for speed in speeds} == {(96, 160), (64, 96)}
    assert np.load(copy.folder / "prepared/train/images.npy", mmap_mode="r").shape[-2:] == (64, 96)


@pytest.mark.slow
def test_an_assistant_learns_from_the_teacher_and_teaches(copy: Study) -> None:
    copy.edit({"study": {"assistant": "kd", "assisted": ["combined"]}})
    assisted = {"distill_assisted@combined-0", "evaluate_assisted@combined-0"}

    assert set(copy.repro("evaluate_assisted@combined-0")) == {"rows", "fetch"} | assisted
    student, assistant = (copy.json(f"runs/{run}/record.json") for run in ("combined-0", "kd-0"))
    assert student["teacher_digest"] == assistant["weights_digest"]

    copy.edit({"experiments.kd": {"loss": {"weights": {"cskd": 0.5, "pekd": 1.0}}}})
    assert KD | assisted <= copy.stale()
    assert not {"teach@teacher-0", "train@baseline-0"} & copy.stale()


def test_a_study_without_a_teacher_has_none_in_its_graph_and_says_so(copy: Study) -> None:
    copy.edit({"study": {"teachers": [], "distillation": []}})

    assert "teach" not in copy.dvc("stage", "list").stdout
    assert copy.repro("report") == ["rows", "fetch", "report"]
    assert "this study has no teacher" in (copy.folder / "reports/comparison.md").read_text()


def test_a_models_folder_tells_its_classes(study: Study) -> None:
    for run in ("baseline-0", "teacher-0"):
        _, labelled = open_model(str(study.folder / f"runs/{run}/model/last"), torch.device("cpu"))
        assert (labelled.space.name, len(labelled.classes), labelled.size) == ("synthetic", 19, (32, 64))
