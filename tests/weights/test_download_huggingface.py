"""Downloads from the Hub: huggingface_hub itself, its endpoint on the local server."""

import hashlib
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from effiseg.base.errors import EffiSegError
from effiseg.weights.hub import fetch_huggingface

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(site, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", site.url("").rstrip("/"))
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", site.url("{repo_id}/resolve/{revision}/{filename}")
    )
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    site.pages = {}
    hub_has(site, "main", {"model.safetensors": site.body, "config.json": b"{}"})
    hub_has(site, COMMIT, {"model.safetensors": site.body, "config.json": b"{}"})
    return site


def hub_has(site, revision: str, files: dict[str, bytes]) -> None:
    for name in ("model.safetensors", "pytorch_model.bin", "config.json", "README.md", "preprocessor_config.json"):
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(files.get(name, b"")).hexdigest()}"'}
        absent = (404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"")
        page = (200, headers, files[name]) if name in files else absent
        site.pages[f"/owner/name/resolve/{revision}/{name}"] = page


def hub_fails(folder: Path, repo: str = "owner/name", revision: str = "main") -> str:
    with pytest.raises(EffiSegError) as caught:
        fetch_huggingface(repo, revision, folder)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"start.repo: {repo} (")
    return str(caught.value)


def test_hub_gives_the_files_of_one_commit(hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = fetch_huggingface("owner/name", "main", tmp_path)
    assert files.weights.read_bytes() == hub.body
    assert files.preprocessor is None
    assert f"start.sha256: {hub.sha256}" in capsys.readouterr().out
    assert [asked["path"] for asked in hub.asked if "main" in asked["path"] and "model" not in asked["path"]] == []


def test_hub_falls_back_to_the_pickle_and_works_offline_afterwards(
    hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_has(hub, "main", {"pytorch_model.bin": hub.body})
    hub_has(hub, COMMIT, {"pytorch_model.bin": hub.body})
    files = fetch_huggingface("owner/name", "main", tmp_path, sha256=hub.sha256)
    assert files.weights.name == "pytorch_model.bin"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetch_huggingface("owner/name", "main", tmp_path) == files
    assert "the Hub cannot be reached" in hub_fails(tmp_path / "empty")


def test_hub_wrong_digest_leaves_no_file(hub, tmp_path: Path) -> None:
    with pytest.raises(EffiSegError, match=f"has sha256 {hub.sha256}, expected 2222"):
        fetch_huggingface("owner/name", "main", tmp_path, sha256="2" * 64)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == hub.body]
    assert fetch_huggingface("owner/name", "main", tmp_path, sha256=hub.sha256).weights.read_bytes() == hub.body


def test_hub_repository_without_weights(hub, tmp_path: Path) -> None:
    hub_has(hub, "main", {"config.json": b"{}"})
    assert "has neither model.safetensors nor pytorch_model.bin" in hub_fails(tmp_path)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "RepoNotFound", "not on the Hub, or private"),
        (404, "RevisionNotFound", "no such revision; expected a branch"),
        (403, "GatedRepo", "access is restricted; accept its terms"),
        (500, "", "the Hub cannot be reached"),
    ],
)
def test_hub_refusals(hub, tmp_path: Path, status: int, code: str, message: str) -> None:
    for path in hub.pages:
        hub.pages[path] = (status, {"X-Error-Code": code}, b"")
    assert message in hub_fails(tmp_path)


def test_hub_cut_connection(hub, tmp_path: Path) -> None:
    hub.cut_after = [10] * 9
    assert "the transfer failed; check the network and the disk" in hub_fails(tmp_path)


def test_hub_out_of_reach_and_bad_names(hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not a name the Hub allows" in hub_fails(tmp_path, repo="not/a/name")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert "the Hub cannot be reached; check the network" in hub_fails(tmp_path)
