"""Rows of several lengths, and splits that finished trainings are scored on besides."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from effiseg.report import figures
from effiseg.report.answer import answers
from effiseg.report.build import build_report
from effiseg.report.collect import collect
from effiseg.report.lengths import gain_over_length, length_lines, lengths
from effiseg.report.results import Results
from effiseg.report.summary import views

Make = Callable[..., Any]
ROWS = {
    "baseline": {},
    "half": {"train": {"epochs": 4}},
    "long": {"train": {"epochs": 16}},
    "tanh": {"model": {"norms": {"patch_embedding": "dyt"}}},
    "tanh_half": {"model": {"norms": {"patch_embedding": "dyt"}}, "train": {"epochs": 4}},
}
MINUTES = {"baseline": 8.0, "half": 4.0, "long": 15.5, "tanh": 15.0, "tanh_half": 7.5}


@pytest.fixture
def study(make_study: Make) -> Any:
    """Three lengths of the baseline, two of `tanh`, which takes twice as long; scored on `test` too."""
    study = make_study(
        source="camvid",
        absent=(),
        experiments=ROWS,
        data={"source": "camvid", "final_on": ["test"]},
        train={"epochs": 8},
        study={"experiments": list(ROWS), "distillation": [], "seeds": [0, 1]},
    )
    for row, changes in ROWS.items():
        for seed in (0, 1):
            epochs = changes.get("train", {}).get("epochs", 8)
            study.change(f"runs/{row}-{seed}/record.json", epochs=epochs, train_minutes=MINUTES[row] / 2, threads=2)
    return study


@pytest.fixture
def results(study: Any) -> Results:
    return collect(study.config, study.root)


def test_rows_that_differ_in_their_length_alone_are_a_family(results: Results) -> None:
    assert results.families == {"baseline": ["half", "baseline", "long"], "tanh": ["tanh_half", "tanh"]}
    assert lengths(results) == results.families


def test_a_row_is_compared_with_the_baseline_that_trained_as_long(results: Results) -> None:
    against = {row: results.reference(row) for row in ROWS}
    assert against == {**dict.fromkeys(ROWS, "baseline"), "tanh_half": "half"}
    by_name = {row.experiment: row for row in views(results)["val"].summaries}
    gained = [
        tanh.metrics.miou - half.metrics.miou
        for tanh, half in zip(*map(results.of, ("tanh_half", "half")), strict=True)
    ]
    assert by_name["tanh_half"].delta.mean == pytest.approx(sum(gained) / 2)


def test_and_in_equal_time_with_the_one_that_took_as_many_minutes(results: Results) -> None:
    by_name = {row.experiment: row for row in views(results)["val"].summaries}
    assert {name: row.as_long for name, row in by_name.items()} == {
        "baseline": "",
        "half": "",
        "long": "",
        "tanh": "long",
        "tanh_half": "baseline",
    }
    gained = [
        tanh.metrics.miou - other.metrics.miou for tanh, other in zip(*map(results.of, ("tanh", "long")), strict=True)
    ]
    assert by_name["tanh"].as_long_delta.mean == pytest.approx(sum(gained) / 2)
    assert by_name["tanh"].thread_minutes == 15.0


def test_minutes_in_which_a_machine_did_other_work_too_do_not_count(study: Any) -> None:
    study.change("runs/tanh-1/record.json", train_minutes=40.0)
    study.change("runs/long-0/record.json", train_minutes=100.0)
    results = collect(study.config, study.root)
    assert results.minutes("tanh") == 15.0
    assert results.minutes("long") == 15.5
    by_name = {row.experiment: row for row in views(results)["val"].summaries}
    assert by_name["tanh"].as_long == "long"


def test_the_tables_hold_every_split(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FIGURES", {})
    build_report(study.config, study.root, study.out)
    summary, classes, spent = (pd.read_csv(study.out / f"{name}.csv") for name in ("summary", "classes", "lengths"))
    assert list(zip(summary["experiment"], summary["split"], strict=True)) == [
        (row, split) for split in ("val", "test") for row in ROWS
    ]
    final = summary.query("split == 'test'").set_index("experiment")
    scores = [study.read(f"runs/tanh-{seed}/finals/test/metrics.json")["miou"] for seed in (0, 1)]
    assert final.loc["tanh", "miou_mean"] == pytest.approx(sum(scores) / 2)
    assert set(classes["split"]) == {"val", "test"}
    assert list(spent.columns) == ["experiment", "seed", "epochs", "thread_minutes", "split", "miou"]
    assert len(spent) == 2 * 2 * len(ROWS)
    assert set(spent.query("experiment == 'baseline'")["epochs"]) == {4, 8, 16}
    assert set(spent.query("experiment == 'tanh' and epochs == 8")["thread_minutes"]) == {15.0}
    assert {path.name for path in (study.out / "figures").iterdir()} == {"lengths.png"}
    for page in ("comparison.md", "index.html"):
        text = re.sub("<[^>]+>", "", (study.out / page).read_text())
        assert "Over the length of training" in text and "Nothing was chosen by them" in text


def test_the_answer_says_what_is_left_of_a_gain(results: Results) -> None:
    told = answers(views(results))
    (gain,) = [line for line in told if line.startswith("**tanh over the length of training**")]
    assert re.search(
        r"after 4 epochs, [+-]\d+\.\d\d after 8 epochs; against a baseline trained for as many minutes", gain
    )
    finals = [line for line in told if "On test" in line[:9]]
    assert "the baseline " in finals[0]
    assert any("Not distinguishable from the baseline: " in line for line in finals)
    assert finals[-1].startswith("On test. **tanh over the length of training**")


def test_the_figure_has_a_line_of_panels_for_each_split(results: Results) -> None:
    figure = gain_over_length(views(results))
    assert [axes.get_title("left").split(":")[0] for axes in figure.axes] == [*["val"] * 3, *["test"] * 3]
    (line,) = [each for each in figure.axes[1].lines if each.get_marker() == "o"]
    assert list(line.get_xdata()) == [4, 8]


def test_a_split_that_is_not_scored_yet_is_left_out(study: Any) -> None:
    for file in Path(study.root).glob("runs/*/finals/test/scores"):
        file.rename(file.with_name("gone"))
    assert collect(study.config, study.root).finals == {}


def test_one_length_makes_no_table(make_study: Make) -> None:
    study = make_study()
    results = collect(study.config, study.root)
    assert lengths(results) == {}
    assert length_lines(*views(results)["val"]).lines == []
