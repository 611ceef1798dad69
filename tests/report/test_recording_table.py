"""Scores by recording."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from effiseg.report.collect import collect
from effiseg.report.recordings import recording_table
from effiseg.report.results import Results
from effiseg.report.statistics import ious, regions

Make = Callable[..., Any]


@pytest.fixture
def two_drives(make_study: Make) -> Results:
    """Five images, three of one drive and two of another, two seeds."""
    study = make_study(source="camvid", absent=(), val=5, data={"source": "camvid"}, study={"seeds": [0, 1]})
    results = collect(study.config, study.root)
    groups = tuple(("new" if i in (1, 3) else "known", i) for i in range(5))
    return replace(results, data=replace(results.data, val=replace(results.data.val, groups=groups)))


def test_each_drive_is_scored_by_itself(two_drives: Results) -> None:
    table = recording_table(two_drives)
    assert table is not None and table.header == ["row", "known, 3 images", "new, 2 images"]
    cells = {line[0]: line[1:] for line in table.lines}

    def on_new(row: str) -> list[float]:
        counts = [regions(run.confusion(two_drives.data)[[1, 3]]).sum(axis=0) for run in two_drives.of(row)]
        return [float(ious(each)[0]) for each in counts]

    assert cells["baseline"][1].startswith(f"{100 * np.mean(on_new('baseline')):.2f} ±")
    gain = 100 * np.mean(np.subtract(on_new("tanh"), on_new("baseline")))
    assert cells["tanh"][1].endswith(f"({gain:+.2f})")


def test_images_that_stand_alone_or_one_drive_have_no_such_table(make_study: Make, two_drives: Results) -> None:
    groups = tuple(("known", i) for i in range(5))
    val = replace(two_drives.data.val, groups=groups)
    assert recording_table(replace(two_drives, data=replace(two_drives.data, val=val))) is None
    study = make_study()
    assert recording_table(collect(study.config, study.root)) is None
