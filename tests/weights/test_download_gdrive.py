"""Downloads from Google Drive: gdown itself, its requests led to the local server."""

import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from effiseg.base.errors import EffiSegError
from effiseg.weights.download import fetch_gdrive

DRIVE_ID = "1mixZrRm-nSOhIjM4ltI_wegc14iciZZS"


@pytest.fixture
def drive(site, monkeypatch: pytest.MonkeyPatch) -> Any:
    get = requests.Session.get

    def led(self: requests.Session, url: str, **settings: Any) -> requests.Response:
        return get(self, url.replace("https://drive.google.com", f"http://127.0.0.1:{site.port}"), **settings)

    monkeypatch.setattr(requests.Session, "get", led)
    monkeypatch.setattr(sys.modules["gdown.download"], "CHUNK_SIZE", 1000)
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)
    site.headers |= {"Content-Type": "application/octet-stream", "Content-Disposition": 'attachment; filename="x.pth"'}
    return site


def drive_fails(folder: Path, sha256: str | None = None) -> str:
    with pytest.raises(EffiSegError) as caught:
        fetch_gdrive(DRIVE_ID, folder, sha256=sha256)
    assert "\n" not in str(caught.value)
    assert f"start.gdrive_id: {DRIVE_ID}" in str(caught.value)
    return str(caught.value)


def test_drive_gives_a_file_once(drive, names, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fetch_gdrive(DRIVE_ID, tmp_path)
    assert path.read_bytes() == drive.body
    assert f"start.sha256: {drive.sha256}" in capsys.readouterr().out
    asked = len(drive.asked)
    assert fetch_gdrive(DRIVE_ID, tmp_path) == fetch_gdrive(DRIVE_ID, tmp_path, sha256=drive.sha256) == path
    assert len(drive.asked) == asked
    assert names(tmp_path) == {path.name, path.name + ".json"}


def test_drive_wrong_digest(drive, names, tmp_path: Path) -> None:
    assert drive.sha256 in drive_fails(tmp_path, sha256="1" * 64)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("known", [False, True])
def test_drive_resumes_an_earlier_run_only_with_a_digest(drive, names, tmp_path: Path, known: bool) -> None:
    sha256 = drive.sha256 if known else None
    drive.cut_after = [100_000, 1, 1, 1]
    assert "run again" in drive_fails(tmp_path, sha256)
    drive.cut_after.clear()
    drive.asked.clear()
    assert fetch_gdrive(DRIVE_ID, tmp_path, sha256=sha256).read_bytes() == drive.body
    assert any("Range" in asked for asked in drive.asked) is known
    assert len(names(tmp_path)) == 2


def test_drive_file_that_changed_is_begun_anew(drive, tmp_path: Path) -> None:
    drive.cut_after = [100_000, 1, 1]
    drive_fails(tmp_path, drive.sha256[::-1])
    drive.body += b"more"
    drive.ranges = False
    assert "byte range" in drive_fails(tmp_path, drive.sha256)
    assert fetch_gdrive(DRIVE_ID, tmp_path, sha256=drive.sha256).read_bytes() == drive.body


@pytest.mark.parametrize(
    "page",
    [
        '<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p>',
        "<html>Sign in</html>",
        '<form id="download-form"></form>',
    ],
)
def test_drive_refusal_pages(drive, tmp_path: Path, page: str) -> None:
    drive.headers = {"Content-Type": "text/html; charset=utf-8"}
    drive.body = page.encode()
    message = drive_fails(tmp_path)
    assert "anyone with the link may read it, wait a day if it is over quota" in message
    assert ("Too many users" in page) <= ("Too many users" in message)


def test_drive_out_of_reach(site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert "run again if the network was at fault" in drive_fails(tmp_path)


@pytest.mark.parametrize("file_id", ["", "../../etc", f"https://drive.google.com/file/d/{DRIVE_ID}/view"])
def test_drive_wants_the_id_alone(file_id: str, tmp_path: Path) -> None:
    with pytest.raises(EffiSegError, match="expected the id alone"):
        fetch_gdrive(file_id, tmp_path)
