import math
from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

import pandas as pd
import pytest

from effiseg.report.collect import collect, pool_speeds
from effiseg.report.tables import COLUMNS, comparison, markdown, percent
from effiseg.runs.records import Profile, Speed

Make = Callable[..., Any]


def read_back(study: Any) -> pd.DataFrame:
    """What a reader gets from the file, indexed by row and seed."""
    path = study.root / "table.csv"
    comparison(collect(study.config, study.root)).to_csv(path, index=False)
    frame = pd.read_csv(path, float_precision="round_trip")
    assert tuple(frame.columns) == COLUMNS
    return frame.set_index(["experiment", "seed"])


def test_scores_are_those_of_the_metrics_to_the_last_digit(make_study: Make) -> None:
    study = make_study(study={"seeds": [0, 3]})
    frame = read_back(study)
    assert len(frame) == 6 * 2 + 3
    for name, seed in study.config.runs():
        metrics = study.metrics(name, seed)
        for key in ("miou", "miou_quarter", "pixel_accuracy", "miou_best"):
            assert frame.loc[(name, seed), key] == metrics[key]
        gain = metrics["miou"] - study.metrics("baseline", seed)["miou"]
        assert frame.loc[(name, seed), "delta_miou"] == gain
    assert (frame.loc["baseline", "delta_miou"] == 0).all()
    assert set(frame["dataset"]) == {"synthetic"}


def test_training_and_profile_columns(make_study: Make) -> None:
    study = make_study()
    frame = read_back(study)
    information = study.read("runs/kd-0/record.json")
    profile = study.read("runs/tanh-0/profile.json")
    for key in ("best_epoch", "train_minutes", "images_per_second", "peak_memory_mb", "device", "precision"):
        assert frame.loc[("kd", 0), key] == information[key]
    for key in ("params_m", "gmacs", "gmacs_paper", "gmacs_exact", "gmacs_deployed"):
        assert frame.loc[("tanh", 0), key] == profile[key]
    # no other row has tanh's architecture, so nothing is pooled
    for key in ("fps", "latency_ms", "latency_p95_ms"):
        assert frame.loc[("tanh", 0), key] == profile["speeds"][0][key]
    for column, key in (("fps_deployed", "fps"), ("latency_deployed_ms", "latency_ms")):
        assert frame.loc[("tanh", 0), column] == profile["speeds"][1][key]


def test_a_row_that_was_not_profiled_has_empty_cells(make_study: Make) -> None:
    study = make_study()
    (study.root / "runs/tanh-0/profile.json").unlink()
    frame = read_back(study)
    costs = ["params_m", "gmacs", "gmacs_deployed", "fps", "latency_ms", "fps_deployed", "profile_device"]
    assert frame.loc[("tanh", 0), costs].isna().all()
    assert frame.loc[("kd", 0), costs].notna().all()
    assert frame.loc[("tanh", 0), "train_minutes"] > 0


def test_teacher_and_floors_are_rows_with_empty_cells(make_study: Make) -> None:
    study = make_study()
    frame = read_back(study).reset_index().set_index("experiment")
    teacher = frame.loc["teacher"]
    assert (teacher["seed"], teacher["miou"]) == (0, study.read("runs/teacher-0/metrics.json")["miou"])
    assert teacher["params_m"] == 27.361
    assert teacher[["delta_miou", "train_minutes", "miou_best", "best_epoch", "device"]].isna().all()
    floor = frame.loc["colour_lookup"]
    assert floor["miou"] == study.read("floors.json")["colour_lookup"]["miou"]
    assert floor.drop(["dataset", "miou", "miou_quarter", "pixel_accuracy"]).isna().all()


def test_without_a_baseline_there_is_no_delta(make_study: Make) -> None:
    frame = read_back(make_study(study={"experiments": ["tanh"], "distillation": []}))
    assert len(frame) == 4
    assert frame["delta_miou"].isna().all()


def test_null_becomes_an_empty_cell(make_study: Make) -> None:
    study = make_study(study={"experiments": ["baseline"], "distillation": []})
    study.change("runs/baseline-0/record.json", peak_memory_mb=None)
    assert math.isnan(read_back(study).loc[("baseline", 0), "peak_memory_mb"])


def test_speeds_of_one_architecture_are_pooled_by_the_median() -> None:
    def profile(architecture: str, fps: float, device: str = "CPU") -> Profile:
        speed = Speed(form="trained", size=[512, 1024], fps=fps, latency_ms=1000 / fps, latency_p95_ms=2000 / fps)
        counts = dict.fromkeys(("params_m", "gmacs", "gmacs_paper", "gmacs_exact", "gmacs_deployed"), fps)
        return Profile(**counts, device=device, precision="fp32", threads=2, architecture=architecture, speeds=[speed])

    rows = {
        "a": [profile("x", 10), profile("x", 25)],
        "b": [profile("x", 20)],
        "c": [profile("x", 50), profile("x", 5)],
    }
    others = {"d": [profile("y", 99)], "e": [profile("x", 80, device="GPU")]}
    pooled = pool_speeds(rows | others)
    assert {name: row.speeds[0].fps for name, row in pooled.items()} == {"a": 20, "b": 20, "c": 20, "d": 99, "e": 80}
    assert pooled["a"].speeds[0].latency_ms == 50
    assert pooled["c"].params_m == 50  # only the speed is shared


@pytest.mark.parametrize(
    ("values", "sign", "expected"),
    [
        ([0.62564], "", "62.56"),
        ([0.0123], "+", "+1.23"),
        ([-0.0123], "+", "-1.23"),
        ([math.nan, 0.5], "", "–"),
        ([0.5, 0.52, 0.57], "", f"{mean([50, 52, 57]):.2f} ± {stdev([50, 52, 57]):.2f}"),
    ],
)
def test_percent(values: list[float], sign: str, expected: str) -> None:
    assert percent(values, sign=sign) == expected


def test_markdown() -> None:
    assert markdown(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"
