"""What rows start from, fetched into a folder for each."""

import hashlib
import json
from pathlib import Path

import pytest

from effiseg.base.errors import EffiSegError
from effiseg.weights.fetch import announce, at_hand, fetch_starts
from effiseg.weights.source import Checkpoint
from tests.weights.conftest import COMMIT, hub_has

CARD = b"""---
license: other
license_name: research-only
license_link: https://licence.example
tags: [x]
---
# A model
"""


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where they go, in a repository of its own."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "starts"


def file(path: Path, content: bytes, sha256: str = "") -> dict[str, str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"source": "file", "path": str(path), "sha256": sha256}


def read(folder: Path) -> Checkpoint:
    found = Checkpoint.read(folder)
    assert found is not None
    return found


def test_a_row_that_is_drawn_has_a_folder_without_weights(starts: Path):
    fetch_starts({"baseline": {}}, starts)
    assert Checkpoint.read(starts / "baseline") is None
    assert [path.name for path in (starts / "baseline").iterdir()] == ["source.json"]


def test_a_file_is_copied_with_what_is_known_of_it(starts: Path, tmp_path: Path, capsys):
    folder = tmp_path / "clone"
    address = file(folder / "model.safetensors", b"weights") | {"path": str(folder)}
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "road", "1": "sky"}}))
    (folder / "README.md").write_bytes(CARD)
    fetch_starts({"teacher": address}, starts)
    found = read(starts / "teacher")
    assert found.file.read_bytes() == b"weights"
    assert (found.source.origin, found.source.classes) == ("file clone/model.safetensors", ["road", "sky"])
    assert found.source.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert found.source.licence == "other (research-only, https://licence.example)"
    terms = "other (research-only, https://licence.example)"
    assert capsys.readouterr().out == f"row 'teacher' starts from file clone/model.safetensors; licence: {terms}\n"
    (tmp_path / "elsewhere").mkdir()
    folder.rename(tmp_path / "elsewhere/clone")
    before = (starts / "teacher/source.json").read_bytes()
    fetch_starts({"teacher": address | {"path": str(tmp_path / "elsewhere/clone")}}, starts)
    assert (starts / "teacher/source.json").read_bytes() == before  # where it lies reruns nothing
    assert capsys.readouterr().out == ""


def test_what_is_there_stays_and_what_changed_is_fetched_anew(starts: Path, tmp_path: Path):
    one, other = file(tmp_path / "one.pth", b"one"), file(tmp_path / "other.pth", b"other")
    fetch_starts({"a": one, "b": other, "c": {}}, starts)
    kept = (starts / "a/checkpoint").stat().st_ino
    file(tmp_path / "other.pth", b"another")
    fetch_starts({"a": one, "b": other}, starts)
    assert (starts / "a/checkpoint").stat().st_ino == kept
    assert read(starts / "b").file.read_bytes() == b"another"
    assert sorted(path.name for path in starts.iterdir()) == ["a", "b"]
    (starts / "a/checkpoint").write_bytes(b"damaged")
    (starts / "b/source.json").write_text("{")
    fetch_starts({"a": one, "b": {}}, starts)
    assert read(starts / "a").file.read_bytes() == b"one"
    assert Checkpoint.read(starts / "b") is None


def test_a_wrong_digest_leaves_what_was_there_and_nothing_half_written(starts: Path, tmp_path: Path):
    address = file(tmp_path / "one.pth", b"one")
    fetch_starts({"a": address}, starts)
    found = hashlib.sha256(b"two").hexdigest()
    with pytest.raises(EffiSegError, match=rf"^row 'a': start\.sha256: .*one\.pth has {found}, expected {'0' * 64}; "):
        fetch_starts({"a": file(tmp_path / "one.pth", b"two", "0" * 64)}, starts)
    assert read(starts / "a").file.read_bytes() == b"one"
    assert [path.name for path in starts.iterdir()] == ["a"]


def test_a_pinned_file_that_is_gone_is_still_there_and_one_that_is_not_pinned_is_not(starts: Path, tmp_path: Path):
    pin = hashlib.sha256(b"one").hexdigest()
    pinned, free = file(tmp_path / "one.pth", b"one", pin), file(tmp_path / "two.pth", b"two")
    fetch_starts({"a": pinned, "b": free}, starts)
    for name in ("one.pth", "two.pth"):
        (tmp_path / name).unlink()
    fetch_starts({"a": pinned}, starts)
    assert at_hand(pinned, starts / "a")
    assert read(starts / "a").file.read_bytes() == b"one"
    with pytest.raises(EffiSegError, match=r"^row 'b': start\.path: .*two\.pth is not there"):
        fetch_starts({"b": free}, starts)


def test_a_url_is_kept_without_its_secrets_and_not_asked_again(site, starts: Path):
    address = {"source": "url", "url": site.url(), "sha256": site.sha256}
    fetch_starts({"a": address, "b": address}, starts)
    assert read(starts / "b").file.read_bytes() == site.body
    assert "token=1" not in (starts / "a/source.json").read_text()
    assert read(starts / "a").source.origin == f"url {site.url().replace('token=1', 'token=***')}"
    asked = len(site.asked)
    assert asked == 1
    fetch_starts({"a": address, "b": address}, starts)
    assert len(site.asked) == asked


def test_the_hub_gives_weights_classes_normalisation_and_licence(hub, starts: Path, capsys):
    hub_has(
        hub,
        COMMIT,
        {
            "model.safetensors": hub.body,
            "config.json": json.dumps({"id2label": {"0": "road"}}).encode(),
            "README.md": CARD,
            "preprocessor_config.json": json.dumps({"image_mean": [0.5, 0.5, 0.5]}).encode(),
        },
    )
    address = {"source": "huggingface", "repo": "owner/name", "revision": COMMIT, "sha256": ""}
    assert not at_hand(address, starts / "a")
    fetch_starts({"a": address}, starts)
    source = read(starts / "a").source
    assert (source.classes, source.mean, source.std) == (["road"], [0.5, 0.5, 0.5], None)
    assert source.origin == f"huggingface owner/name at {COMMIT}"
    assert source.licence == "other (research-only, https://licence.example)"
    assert "licence: other (research-only" in capsys.readouterr().out
    assert at_hand(address, starts / "a")
    assert at_hand(address, starts / "another")  # in the folder of downloads
    asked = len(hub.asked)
    fetch_starts({"a": address}, starts)
    assert len(hub.asked) == asked


def test_what_a_download_will_be_is_told_where_its_server_tells(hub, starts: Path):
    told = {
        "id": "owner/name",
        "sha": COMMIT,
        "siblings": [{"rfilename": "model.safetensors", "size": 14_300_000}],
        "cardData": {"license": "apache-2.0"},
    }
    page = (200, {"Content-Type": "application/json"}, json.dumps(told).encode())
    hub.pages["/api/models/owner/name/revision/main"] = page
    address = {"source": "huggingface", "repo": "owner/name", "revision": "main", "sha256": ""}
    assert announce(address) == f"14.3 MB, licence: apache-2.0, commit {COMMIT}"
    hub.pages["/api/models/owner/name/revision/main"] = (500, {}, b"")
    assert announce(address).startswith("cannot be had now: Server error '500 ")
    hub.pages["/api/models/owner/name/revision/main"] = (401, {"X-Error-Code": "RepoNotFound"}, b"")
    assert announce(address).startswith("cannot be had now: not on the Hub, or private")
    drive = {"source": "gdrive", "gdrive_id": "0123456789", "sha256": ""}
    assert announce(drive) == "of a size that Google Drive does not tell"


def test_a_link_tells_its_size(site, starts: Path):
    address = {"source": "url", "url": site.url(), "sha256": site.sha256}
    assert announce(address) == "0.5 MB"
    assert not at_hand(address, starts / "a")
    site.statuses = [404]
    assert announce(address) == (
        "cannot be had now: the server answered 404 Not Found; check the link: is it right and alive?"
    )


def test_a_folder_that_the_stage_did_not_write_is_told(starts: Path):
    with pytest.raises(EffiSegError, match=r"source\.json: No such file or directory; run `dvc repro fetch`"):
        Checkpoint.read(starts / "a")
    (starts / "a").mkdir(parents=True)
    (starts / "a/source.json").write_text('{"origin": 3}')
    with pytest.raises(EffiSegError, match="not what the stage `fetch` writes; run"):
        Checkpoint.read(starts / "a")
