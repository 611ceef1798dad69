"""The package as it is installed: what the wheel holds, and that the command `effiseg` works by it alone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from effiseg import __version__
from tests.pipeline.study import environment


@pytest.fixture(scope="module")
def files(repository: Path) -> list[str]:
    """What the package is made of, as git has it."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=repository, env=environment(), capture_output=True, text=True, check=True).stdout
    return [name for name in names.splitlines() if name.startswith("effiseg/") and (repository / name).is_file()]


@pytest.fixture(scope="module")
def wheel(repository: Path, files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of a copy: a build leaves folders where it happens."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    others = ["pyproject.toml", "README.md", "LICENSE", *(path.name for path in repository.glob("requirements*.in"))]
    for name in [*files, *others]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, source / name)
    _pip("wheel", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    _pip("install", "--target", str(folder), str(wheel))
    return folder


def test_the_wheel_holds_the_package_with_its_presets_and_template_and_nothing_else(
    wheel: Path, files: list[str]
) -> None:
    names = ZipFile(wheel).namelist()

    assert sorted(name for name in names if ".dist-info/" not in name) == sorted(files)
    assert {"effiseg/py.typed", "effiseg/presets/camvid.yaml", "effiseg/datasets/camvid.yaml"} <= set(names)
    assert any(name.endswith(".html.j2") for name in names)


def test_the_wheel_asks_for_the_requirements_as_they_are_pinned(wheel: Path, repository: Path) -> None:
    asked = re.findall(r"^Requires-Dist: (.+)$", _in(wheel, "METADATA"), re.MULTILINE)

    assert [line for line in asked if "extra" not in line] == _pins(repository, "requirements.in")
    assert [line.split(";")[0] for line in asked if 'extra == "cluster"' in line] == _pins(
        repository, "requirements-cluster.in"
    )
    assert [line.split(";")[0] for line in asked if 'extra == "dev"' in line] == _pins(
        repository,
        "requirements-cluster.in",
        "requirements-huggingface.in",
        "requirements-video.in",
        "requirements-dev.in",
    )


def test_the_version_is_told_in_one_place(wheel: Path, repository: Path) -> None:
    assert f"\nVersion: {__version__}\n" in _in(wheel, "METADATA")
    assert f"## {__version__}" in (repository / "CHANGELOG.md").read_text()


def test_the_installed_command_works_outside_the_checkout(installed: Path, repository: Path, tmp_path: Path) -> None:
    shutil.copy(repository / "params.yaml", tmp_path)

    assert _command(installed, tmp_path, "--version").stdout == f"effiseg {__version__}\n"
    changed = _command(installed, tmp_path, "preset", "camvid", "--root", str(tmp_path))
    assert "data.source: synthetic -> camvid" in changed.stdout.splitlines()
    checked = _command(installed, tmp_path, "check")
    assert checked.stderr.startswith(f"error: data.root {tmp_path} (source camvid): 1 problem: [1] no folder train,")
    wrong = _command(installed, tmp_path, "preset", "kitti")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("error: preset 'kitti'") and len(wrong.stderr.splitlines()) == 1


def test_in_a_checkout_the_command_runs_the_code_of_the_folder_that_one_stands_in(
    repository: Path, tmp_path: Path
) -> None:
    """Not that of the checkout whose environment is active, as an editable install would."""
    shutil.copy(repository / "Makefile", tmp_path)
    for folder in ("original/effiseg", "copy/effiseg", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / "requirements.txt").touch()
    (tmp_path / ".venv/.setup").touch()
    subprocess.run(["make", "--silent", ".venv/bin/effiseg"], cwd=tmp_path, check=True)
    for folder in ("original", "copy"):
        package = tmp_path / folder / "effiseg"
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(f"import sys; print('{folder}', sys.argv[1:])")
        command = [tmp_path / ".venv/bin/effiseg", "preset", "a b"]
        ran = subprocess.run(command, cwd=tmp_path / folder, env=environment(), capture_output=True, text=True)
        assert (ran.stderr, ran.stdout) == ("", f"{folder} ['preset', 'a b']\n")


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*command, "--disable-pip-version-check"], check=True, timeout=120)


def _in(wheel: Path, name: str) -> str:
    """A file of the wheel's metadata."""
    return ZipFile(wheel).read(f"effiseg-{__version__}.dist-info/{name}").decode()


def _pins(repository: Path, *names: str) -> list[str]:
    lines = [line for name in names for line in (repository / name).read_text().splitlines()]
    return [line.split("#")[0].strip() for line in lines if not line.startswith("#")]


def _command(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [installed / "bin/effiseg", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
    )
