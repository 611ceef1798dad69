"""The simulated cluster runs every row, and its line says how long against the ideal."""

import csv
from pathlib import Path

import pytest

from benchmarks import cluster


@pytest.mark.slow
def test_sleeping_rows_take_at_least_the_ideal_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "cluster.csv"
    monkeypatch.setattr(cluster, "RESULTS", results)
    cluster.sleeping_rows(rows=12, workers=4, seconds=1)
    with results.open() as file:
        [line] = csv.DictReader(file)

    assert line["name"] == "sleep_12"
    assert "12 rows of 1 s on 4 workers, ideal 3 s" in line["note"]
    assert float(line["ratio"]) == pytest.approx(float(line["seconds"]) / 3, abs=0.02)
    assert float(line["seconds"]) > 3


def test_the_graph_is_timed_for_every_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "cluster.csv"
    monkeypatch.setattr(cluster, "RESULTS", results)
    cluster.growing_graph([2, 4])
    with results.open() as file:
        lines = {line["name"]: line for line in csv.DictReader(file)}

    assert list(lines) == ["graph_2", "stage_2", "graph_4", "stage_4"]
    assert (lines["graph_2"]["ratio"], lines["stage_2"]["ratio"]) == ("1.0", "1.0")
    assert all(float(line["seconds"]) > 0 for line in lines.values())
