"""`python -m effiseg check`: what is wrong is told before DVC starts."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("old", "new", "status", "told"),
    [
        ("", "", 0, "params.yaml is valid: 6 trainings on synthetic"),
        ("root: data/synthetic", "root: /nowhere/at/all", 1, "error: data.root: /nowhere/at/all is not a folder"),
        (
            "path: weights/",
            "path: elsewhere/",
            1,
            "error: start.path: elsewhere/teacher-b2.safetensors (row 'teacher') not found",
        ),
        (
            "experiments: [baseline,",
            "experiments: [nope,",
            1,
            "error: params.yaml: study.experiments: there is no row",
        ),
    ],
)
def test_params_are_checked_without_running_anything(tmp_path: Path, old: str, new: str, status: int, told: str):
    text = (REPOSITORY / "params.yaml").read_text()
    assert old in text
    (tmp_path / "params.yaml").write_text(text.replace(old, new) if old else text)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/teacher-b2.safetensors").touch()
    command = [sys.executable, "-m", "effiseg", "check"]
    ran = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == status
    output = ran.stderr if status else ran.stdout
    assert output.startswith(told) and len(output.splitlines()) == 1
