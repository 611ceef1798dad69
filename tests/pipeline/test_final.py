"""Splits that finished trainings are scored on besides."""

from pathlib import Path

import pandas as pd
import pytest

from tests.pipeline.study import Study


@pytest.mark.slow
def test_a_final_split_scores_what_is_trained_and_reruns_nothing(study: Study, tmp_path: Path) -> None:
    copy = study.copy(tmp_path / "final")
    before = copy.json("runs/kd-0/metrics.json")
    copy.edit({"data": {"final_on": ["train"], "allow_overlap": True}})  # the generated scenes have no third split
    ran = copy.repro()
    rows = {
        "evaluate_final@baseline-0-train",
        "evaluate_final_distilled@kd-0-train",
        "evaluate_final_teachers@teacher-0-train",
    }
    changed = {"prepare"}  # data.allow_overlap
    assert set(ran) - changed == {"prepare_final@train", *rows, "report", "predict", "deployment"}
    assert copy.json("runs/kd-0/metrics.json") == before
    assert copy.json("finals/train/index.json")["splits"]["val"]["splits"] == ["train"]
    summary = pd.read_csv(copy.folder / "reports/summary.csv")
    assert list(summary["split"]) == ["val", "val", "train", "train"]
    final = copy.json("runs/kd-0/finals/train/metrics.json")["miou"]
    assert summary.set_index(["experiment", "split"]).loc[("kd", "train"), "miou_mean"] == final
    logged = dict(copy.query("SELECT key, value FROM latest_metrics WHERE key = 'train/miou' AND value = ?", final))
    assert logged
    assert copy.repro() == []
