"""Downloads from the Hub: huggingface_hub itself, its endpoint on the local server."""

from pathlib import Path

import huggingface_hub.constants
import pytest

from effiseg.base.errors import EffiSegError
from effiseg.weights.hub import fetch_huggingface
from tests.weights.conftest import COMMIT, hub_has


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
