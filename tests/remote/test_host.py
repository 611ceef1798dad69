"""What `python -m effiseg.remote` says where it cannot work, before any package is there."""

import json
from pathlib import Path

import pytest

from effiseg.remote.host import PACKED, enter, this_host


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("content", [None, "{", "{}", '{"host": {"python": "3.11"}}'])
def test_a_folder_that_is_none(folder: Path, content: str | None) -> None:
    if content is not None:
        PACKED.write_text(content)
    with pytest.raises(SystemExit, match=r"^error: packed\.json: missing or damaged; .*, unpacked whole$"):
        enter()


@pytest.mark.parametrize(("key", "value"), [("python", "3.9"), ("system", "Plan 9"), ("processor", "vax")])
def test_another_machine(folder: Path, key: str, value: str) -> None:
    PACKED.write_text(json.dumps({"host": this_host() | {key: value}, "commit": "", "trained": []}))
    with pytest.raises(SystemExit, match=rf"its packages are for {key} {value}, and here it is .* `effiseg pack`"):
        enter()


def test_no_torch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PACKED.write_text(json.dumps({"host": this_host(), "commit": "", "trained": []}))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"^error: .*python.* has no torch, and none is in the archive; install it$"):
        enter()
