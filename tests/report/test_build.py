import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
import pytest

from effiseg.base.errors import EffiSegError
from effiseg.report import figures
from effiseg.report.build import build_report
from effiseg.report.summary import SUMMARY_COLUMNS

Make = Callable[..., Any]
ROW_METRICS = ("miou_mean", "miou_std", "delta_mean", "delta_low", "delta_high")
SHOWN_BY = {"norm_scatter": "norms", "panels": "predictions"}


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is tested elsewhere and slow."""
    monkeypatch.setattr(figures, "FIGURES", {"panels": figures.FIGURES["panels"]})


@pytest.mark.usefixtures("one_figure")
def test_summary_and_files(make_study: Make) -> None:
    study = make_study(study={"experiments": ["baseline"], "distillation": ["kd"], "seeds": [0, 1]})
    summary = build_report(study.config, study.root, study.out)
    assert summary.figures == [study.out / "figures/panels.png"]
    assert {path.relative_to(study.out) for path in study.out.rglob("*") if path.is_file()} == {
        Path("comparison.csv"),
        Path("comparison.md"),
        Path("summary.csv"),
        Path("classes.csv"),
        Path("lengths.csv"),
        Path("index.html"),
        Path("figures/panels.png"),
    }
    names = {"baseline-0", "baseline-1", "kd-0", "kd-1", "teacher-0", "largest_class", "colour_lookup"}
    scores = ("miou", "miou_quarter", "pixel_accuracy")
    rows = {f"{row}.{key}" for row in ("baseline", "kd") for key in ROW_METRICS}
    assert set(summary.metrics) == {f"{name}.{score}" for name in names for score in scores} | rows
    assert summary.metrics["kd-1.miou"] == study.metrics("kd", 1)["miou"]


@pytest.mark.usefixtures("one_figure")
def test_same_inputs_same_bytes_and_nothing_else_left(make_study: Make) -> None:
    study = make_study()
    contents = []
    for _ in range(2):
        build_report(study.config, study.root, study.out)
        contents.append({path.name: path.read_bytes() for path in study.out.rglob("*.*")})
        (study.out / "figures/stale.png").touch()
    assert contents[0] == contents[1]


@pytest.mark.usefixtures("one_figure")
def test_what_others_keep_beside_the_report_stays(make_study: Make) -> None:
    study = make_study()
    (study.out / "camvid").mkdir(parents=True)
    (study.out / "camvid/comparison.csv").write_text("kept")
    build_report(study.config, study.root, study.out)
    assert (study.out / "camvid/comparison.csv").read_text() == "kept"


@pytest.mark.usefixtures("one_figure")
def test_a_failure_leaves_the_old_report(make_study: Make) -> None:
    study = make_study()
    study.out.mkdir()
    (study.out / "comparison.md").write_text("old")
    (study.root / "runs/tanh-0/scores/predictions.zip").write_bytes(b"PK damaged")
    with pytest.raises(EffiSegError, match=r"predictions\.zip: not a readable archive"):
        build_report(study.config, study.root, study.out)
    assert [path.name for path in study.out.iterdir()] == ["comparison.md"]
    assert (study.out / "comparison.md").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *itertools.product(
            [
                "prepared/index.json",
                "runs/tanh-0/metrics.json",
                "runs/teacher-0/metrics.json",
                "floors.json",
                "runs/tanh-0/scores/images.npz",
                "runs/tanh-0/scores/predictions.zip",
                "runs/tanh-0/scores/norms.npz",
                "runs/kd-0/history.csv",
                "runs/teacher-0/history.csv",
            ],
            ["missing", "empty", "half"],
        ),
        *itertools.product(["runs/kd-0/profile.json", "runs/teacher-0/profile.json"], ["empty", "half"]),
    ],
)
def test_missing_and_damaged_files_are_named(
    make_study: Make, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    drawn = {key: figures.FIGURES[key] for key in ("norm_scatter", "panels") if SHOWN_BY[key] in name}
    monkeypatch.setattr(figures, "FIGURES", drawn)
    study = make_study(study={"experiments": ["tanh"], "distillation": ["kd"]})
    file = study.root / name
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(content[: len(content) // 2 if damage == "half" and file.suffix != ".csv" else 0])
    with pytest.raises(EffiSegError) as caught:
        build_report(study.config, study.root, study.out)
    message = str(caught.value)
    assert str(file) in message and "\n" not in message
    assert "dvc repro" in message or "prepare" in message
    assert not list(study.out.glob("*"))


@pytest.mark.parametrize("damage", ["", "{"])
def test_a_damaged_record_of_a_training_is_named(make_study: Make, damage: str) -> None:
    study = make_study(study={"experiments": ["tanh"], "distillation": ["kd"]})
    (study.root / "runs/kd-0/record.json").write_text(damage)
    with pytest.raises(EffiSegError, match=r"runs/kd-0/record\.json: not valid JSON .*dvc repro"):
        build_report(study.config, study.root, study.out)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("runs/tanh-0/metrics.json", {"miou": "high"}, "miou: Input should be a valid number"),
        ("runs/tanh-0/metrics.json", {"iou": {"road": 0.5}}, "iou is not of the classes of synthetic"),
        (
            "runs/teacher-0/record.json",
            {"weights_digest": "other"},
            "trained with teacher 1057a9604e04, now it is other",
        ),
        (
            "runs/tanh-0/record.json",
            {"data_digest": "f" * 64},
            "trained with data f{12}, now it is 3a6eb0790f39",
        ),
        ("runs/tanh-0/profile.json", {"speeds": []}, r"no speed of the trained form at profile.size \[512, 1024\]"),
    ],
)
def test_results_that_do_not_fit_are_refused(
    make_study: Make, name: str, changes: dict[str, object], expected: str
) -> None:
    study = make_study(study={"experiments": ["tanh"], "distillation": ["kd"]})
    study.change(name, **changes)
    with pytest.raises(EffiSegError, match=f"{expected}.*; run `dvc repro`"):
        build_report(study.config, study.root, study.out)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("epoch,loss,miou\n", "no epoch in it"),
        ("epoch,loss\n1,2\n", "no column 'miou'"),
        ("epoch,loss,miou\n1,much,0.5\n", "column 'loss' holds something else than numbers"),
    ],
)
def test_histories_that_are_none(make_study: Make, content: str, expected: str) -> None:
    study = make_study(study={"experiments": ["tanh"], "distillation": []})
    (study.root / "runs/tanh-0/history.csv").write_text(content)
    with pytest.raises(EffiSegError, match=rf"tanh-0/history\.csv: {expected}"):
        build_report(study.config, study.root, study.out)


# --- what is not there ------------------------------------------------------------------------------------------------


def summary_of(study: Any) -> pd.DataFrame:
    return pd.read_csv(study.out / "summary.csv", float_precision="round_trip", keep_default_na=True).set_index(
        "experiment"
    )


@pytest.mark.usefixtures("one_figure")
@pytest.mark.parametrize("gone", ["training", "evaluation"])
def test_a_seed_that_failed_is_left_out_and_named(make_study: Make, gone: str) -> None:
    study = make_study(study={"experiments": ["baseline", "tanh"], "distillation": [], "seeds": [0, 1, 2]})
    if gone == "training":  # the evaluation of an older training still lies there
        (study.root / "runs/tanh-1/record.json").unlink()
    else:
        shutil.rmtree(study.root / "runs/tanh-1")
    build_report(study.config, study.root, study.out)
    row = summary_of(study).loc["tanh"]
    assert (row["seeds"], row["missing_seeds"]) == (2, 1)
    assert row["miou_mean"] == mean(study.metrics("tanh", seed)["miou"] for seed in (0, 2))
    assert "2 (none of seed 1)" in (study.out / "comparison.md").read_text()
    assert len(pd.read_csv(study.out / "comparison.csv").query("experiment == 'tanh'")) == 2


@pytest.mark.usefixtures("one_figure")
def test_a_row_that_failed_is_shown_as_such(make_study: Make) -> None:
    study = make_study(study={"seeds": [0, 1]})
    for seed in (0, 1):
        (study.root / f"runs/kd-{seed}/record.json").unlink()
    build_report(study.config, study.root, study.out)
    row = summary_of(study).loc["kd"]
    assert (row["seeds"], row["verdict"]) == (0, "no result")
    assert row[["miou_mean", "miou_std", "delta_mean", "delta_low", "train_minutes"]].isna().all()
    assert "| kd | – | – | – | no result |" in (study.out / "comparison.md").read_text()
    assert "kd" not in set(pd.read_csv(study.out / "classes.csv")["experiment"])


@pytest.mark.usefixtures("one_figure")
def test_without_the_baseline_there_is_no_verdict(make_study: Make) -> None:
    study = make_study(study={"seeds": [0, 1]})
    for seed in (0, 1):
        (study.root / f"runs/baseline-{seed}/record.json").unlink()
    build_report(study.config, study.root, study.out)
    assert set(summary_of(study)["verdict"]) == {"no result", "no comparison"}


def test_a_study_without_any_result_is_refused(make_study: Make) -> None:
    study = make_study()
    shutil.rmtree(study.root / "runs")
    with pytest.raises(EffiSegError, match=r"runs: no row of the study has a result there; run `dvc repro`"):
        build_report(study.config, study.root, study.out)
    assert not study.out.exists()


# --- the summary ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_figure")
def test_the_summary_agrees_with_the_comparison_and_with_what_is_tracked(make_study: Make) -> None:
    study = make_study(study={"seeds": [0, 1, 2]})
    tracked = build_report(study.config, study.root, study.out).metrics
    summary = summary_of(study)
    assert list(summary.reset_index().columns) == list(SUMMARY_COLUMNS)
    runs = pd.read_csv(study.out / "comparison.csv", float_precision="round_trip").groupby("experiment")
    for name, row in summary.iterrows():
        values = runs.get_group(name)
        assert row["miou_mean"] == pytest.approx(values["miou"].mean(), rel=1e-12)
        assert row["miou_std"] == pytest.approx(values["miou"].std(), rel=1e-9)
        assert row["delta_mean"] == pytest.approx(values["delta_miou"].mean(), abs=1e-12)
        assert row["delta_low"] <= row["delta_mean"] <= row["delta_high"]
        assert row["train_minutes"] == pytest.approx(values["train_minutes"].mean())
        assert row["device_hours"] == pytest.approx(values["train_minutes"].mean() / 60)
        assert tracked[f"{name}.miou_mean"] == row["miou_mean"]
    assert summary.loc["baseline", "verdict"] == "baseline"
    assert set(summary["dataset"]) == {"synthetic"}


@pytest.mark.usefixtures("one_figure")
def test_the_classes_have_intervals_of_their_own(make_study: Make) -> None:
    study = make_study(study={"seeds": [0, 1, 2]})
    build_report(study.config, study.root, study.out)
    classes = pd.read_csv(study.out / "classes.csv", float_precision="round_trip").set_index(["experiment", "class"])
    assert len(classes) == 6 * 19
    for name in ("road", "car"):
        gains = [study.metrics("kd", s)["iou"][name] - study.metrics("baseline", s)["iou"][name] for s in range(3)]
        assert classes.loc[("kd", name), "delta_mean"] == pytest.approx(mean(gains), abs=1e-12)
    assert classes.loc[("kd", "train")].drop(["seeds", "verdict", "split"]).isna().all()
    assert classes.loc[("kd", "train"), "verdict"] == "no comparison"


@pytest.mark.usefixtures("one_figure")
def test_held_out_images_are_named_as_such_wherever_scores_stand(make_study: Make) -> None:
    study = make_study(source="camvid", absent=(), data={"source": "camvid", "held_out": ["train_1", "train_2"]})
    build_report(study.config, study.root, study.out)
    assert set(summary_of(study)["dataset"]) == {"camvid (held out: train_1, train_2)"}
    assert "CamVid, held out: train_1, train_2 (training images, not its" in (study.out / "comparison.md").read_text()
