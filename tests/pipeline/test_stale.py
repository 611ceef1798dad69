"""What an edit runs again, and what it leaves alone."""

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.pipeline.study import Study
from tests.pipeline.test_study import KD, REPORTS, STAGES

PROFILES = {stage for stage in STAGES if stage.startswith("profile")}
DEPLOYMENTS = {stage for stage in STAGES if stage.startswith("deploy") and "@" in stage}


@pytest.fixture(scope="module")
def copy(module_copy: Study) -> Study:
    """One copy for all edits here; each test takes its own back."""
    return module_copy


@pytest.fixture(autouse=True)
def taken_back(copy: Study) -> None:
    yield
    copy.git("checkout", "--", "params.yaml", "dvc.lock", "effiseg")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("effiseg/tracking/tracker.py", set()),
        pytest.param("effiseg/cli/stage.py", set(), marks=pytest.mark.slow),
        ("effiseg/intake/init.py", set()),
        pytest.param("effiseg/cluster/study.py", set(), marks=pytest.mark.slow),
        ("effiseg/report/words.py", {"report", "deployment"}),
        ("effiseg/deployment/predict.py", DEPLOYMENTS | REPORTS),
    ],
)
def test_a_comment_runs_what_its_room_computes(copy: Study, file: str, expected: set[str]) -> None:
    with (copy.folder / file).open("a") as code:
        code.write("# a comment\n")

    assert copy.stale() == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"profile.repeats": 3}, PROFILES | DEPLOYMENTS | REPORTS),
        ({"loss.cskd.lambda_m": 2.0}, KD | REPORTS),
        ({"loss.tversky.alpha": 0.4, "model.alpha_init": 0.25}, {"report"}),
        ({"experiments.baseline": {"train": {"optimizer": {"lr": 0.002}}}}, {"baseline"}),
        ({"experiments.teacher.train": {"epochs": 2}}, {"teacher"} | KD | REPORTS),
    ],
)
def test_a_setting_runs_what_uses_it(copy: Study, changes: dict, expected: set[str]) -> None:
    copy.edit(changes)
    stale = copy.stale()

    if row := expected & {"baseline", "teacher"}:
        of_row = {stage for stage in STAGES if f"@{row.copy().pop()}-" in stage}
        assert stale == expected - row | of_row | REPORTS
    else:
        assert stale == expected


def test_a_teachers_bound_checks_the_teacher_and_trains_nothing(copy: Study) -> None:
    copy.edit({"study.min_teacher_miou": 0.0001})

    assert copy.repro("distill@kd-0") == ["rows", "evaluate_teachers@teacher-0"]


def test_a_file_of_weights_that_is_replaced_is_noticed(copy: Study) -> None:
    start = {"source": "file", "path": "weights/mine.pth", "sha256": ""}
    copy.edit({"experiments.teacher.start": start, "experiments.teacher.train": {"epochs": 0}})
    known = []
    for content in ("one", "two"):
        (copy.folder / "weights/mine.pth").write_text(content)
        assert copy.repro("fetch")[-1] == "fetch"
        known.append(copy.json("starts/teacher/source.json")["sha256"])
    (copy.folder / "weights/mine.pth").unlink()

    assert known == [hashlib.sha256(content.encode()).hexdigest() for content in ("one", "two")]


def test_data_that_moved_are_prepared_again_and_no_more(copy: Study, tmp_path: Path) -> None:
    shutil.copytree(copy.folder / "data/synthetic", tmp_path / "moved")
    copy.edit({"data.root": str(tmp_path / "moved")})

    copy.edges = []  # another root is another graph

    assert copy.stale() == {"synthesize"}  # which then generates nothing
    copy.edges = []
    assert list((copy.folder / "data/synthetic").iterdir()) != []
