"""`python -m effiseg preset`, and the preset for a data set of one's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from effiseg.base.config import load_config
from effiseg.base.errors import EffiSegError
from effiseg.presets import apply_preset, preset_names


@pytest.fixture
def command(repository: Path, params: Path):
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "effiseg", *arguments],
            cwd=params.parent,
            env=os.environ | {"PYTHONPATH": str(repository)} | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_the_command_lays_a_preset_over_the_working_directorys_params(command, params: Path):
    done = command("preset", "cityscapes", "--root", "/data/cityscapes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "data.root: data/synthetic -> /data/cityscapes" in done.stdout.splitlines()
    assert load_config(params).data.source == "cityscapes"
    again = command("preset", "cityscapes", "--root", "/data/cityscapes")
    assert (again.returncode, again.stdout) == (0, "params.yaml has these settings already\n")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_the_file_stays_utf8_with_its_line_ends_in_any_locale(command, params: Path, line_end: bytes):
    text = "# Münster – a comment\n".encode() + params.read_bytes()
    params.write_bytes(text.replace(b"\n", line_end))
    ascii_alone = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = command("preset", "cityscapes", **ascii_alone)
    assert (done.returncode, done.stderr) == (0, "")
    after = params.read_bytes()
    assert after.decode().startswith("# Münster – a comment")
    assert after.count(line_end) == after.count(b"\n") == text.count(b"\n")
    assert after.count(b"\r") == (after.count(b"\n") if line_end == b"\r\n" else 0)


def test_the_command_tells_a_mistake_in_one_line(command):
    done = command("preset", "kitti")
    assert done.returncode == 1
    assert done.stdout == ""
    assert (
        done.stderr == f"error: preset 'kitti': there is none of that name; presets are: {', '.join(preset_names())}\n"
    )


def test_the_preset_for_own_data_takes_the_table_of_its_folder(params: Path, own: Path):
    apply_preset("mine", str(own), params)
    config = load_config(params)
    assert (config.data.source, config.data.root) == (str(own / "dataset.yaml"), str(own))
    assert config.study.teachers == config.study.distillation == []
    assert config.data.size == list(config.train.augment.crop)


@pytest.mark.parametrize(
    ("table", "told"),
    [(None, "dataset.yaml: not found; `python -m effiseg data init "), ("name: mine", "dataset.yaml: title: missing")],
)
def test_the_preset_for_own_data_asks_for_a_sound_table(params: Path, own: Path, table: str | None, told: str):
    before = params.read_bytes()
    (own / "dataset.yaml").unlink()
    if table:
        (own / "dataset.yaml").write_text(table)
    with pytest.raises(EffiSegError) as caught:
        apply_preset("mine", str(own), params)
    assert told in str(caught.value)
    with pytest.raises(EffiSegError, match=r"give --root, the folder that holds your dataset\.yaml"):
        apply_preset("mine", None, params)
    assert params.read_bytes() == before
