"""Downloads against real servers on the loopback: a plain one, a stand-in for Drive, and one for the Hub."""

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import requests
from filelock import FileLock

from effiseg.errors import EffiSegError
from effiseg.models import download
from effiseg.models.download import fetch_gdrive, fetch_huggingface, fetch_url

BODY = bytes(range(256)) * 2000
SHA = hashlib.sha256(BODY).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DRIVE_ID = "1mixZrRm-nSOhIjM4ltI_wegc14iciZZS"


@dataclass
class Site:
    """What the server says, changed by the tests, and what it was asked."""

    port: int = 0
    body: bytes = BODY
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    ranges: bool = True
    honours_if_range: bool = True
    cut_after: list[int] = field(default_factory=list)  # bytes, for one answer each
    statuses: list[int] = field(default_factory=list)  # answers before the good one
    asked: list[dict[str, str]] = field(default_factory=list)
    after: Callable[[], None] = lambda: None  # called at the end of each answer
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)  # by path, instead of the file

    def url(self, name: str = "files/teacher%20b2.pth?token=1") -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def answer(self, asked: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        headers = dict(self.headers)
        begin = int(asked.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        unchanged = asked.get("If-Range") in self.headers.values() or not self.honours_if_range
        if not (self.ranges and begin and unchanged):
            return 200, headers, self.body
        if begin >= len(self.body):
            return 416, headers, b""
        return (
            206,
            headers | {"Content-Range": f"bytes {begin}-{len(self.body) - 1}/{len(self.body)}"},
            self.body[begin:],
        )


class Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = self.site
        site.asked.append(dict(self.headers) | {"path": self.path})
        if site.statuses:
            status, headers, body = site.statuses.pop(0), {}, b"no"
        else:
            status, headers, body = site.pages.get(self.path.split("?")[0]) or site.answer(dict(self.headers))
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            if value:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: site.cut_after.pop(0)] if site.cut_after else body)
        site.after()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(download, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(download, "_CHUNK", 1000)
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
    site.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield site
    server.shutdown()
    server.server_close()


def fails(url: str, folder: Path, sha256: str | None = None) -> str:
    """The one line that fetching ends in."""
    with pytest.raises(EffiSegError) as caught:
        fetch_url(url, folder, sha256=sha256)
    assert "\n" not in str(caught.value)
    assert "teacher.url" in str(caught.value)
    return str(caught.value)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_a_file_arrives_whole_and_its_digest_is_offered(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fetch_url(site.url(), tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / "teacher_b2.pth"
    assert path.read_bytes() == BODY
    assert names(path.parent) == {"teacher_b2.pth", "teacher_b2.pth.json"}
    assert capsys.readouterr().out.count("\n") == 1
    fetch_url(site.url(), path.parent)
    assert f"teacher.sha256: {SHA}\n" in capsys.readouterr().out
    assert len(site.asked) == 1


def test_a_digest_is_checked_and_spares_the_second_download(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fetch_url(site.url(), tmp_path, sha256=SHA.upper())
    assert fetch_url(site.url("elsewhere/teacher_b2.pth"), tmp_path, sha256=SHA) == path
    assert len(site.asked) == 1
    assert capsys.readouterr().out == ""


def test_a_wrong_digest_leaves_no_file(site: Site, tmp_path: Path) -> None:
    message = fails(site.url(), tmp_path, sha256="0" * 64)
    assert SHA in message
    assert "0" * 64 in message
    assert names(tmp_path) == {"teacher_b2.pth.part.json"}
    assert fetch_url(site.url(), tmp_path, sha256=SHA).read_bytes() == BODY


@pytest.mark.parametrize("change", ["file", "url", "record"])
def test_without_a_digest_a_changed_file_is_fetched_again(site: Site, tmp_path: Path, change: str) -> None:
    path = fetch_url(site.url(), tmp_path)
    if change == "file":
        path.write_bytes(BODY[:-1])
    if change == "record":
        path.with_name(path.name + ".json").write_text("{")
    fetch_url(site.url("other/teacher_b2.pth") if change == "url" else site.url(), tmp_path)
    assert path.read_bytes() == BODY
    assert len(site.asked) == 2


def test_a_cut_connection_is_resumed_within_a_run(site: Site, tmp_path: Path) -> None:
    site.cut_after = [100_000, 50_000]
    assert fetch_url(site.url(), tmp_path).read_bytes() == BODY
    assert [asked.get("Range") for asked in site.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert site.asked[1]["If-Range"] == '"one"'


def test_a_cut_connection_says_to_run_again_and_that_resumes(site: Site, tmp_path: Path) -> None:
    site.cut_after = [100_000, 1000, 1000]
    assert "run again to resume" in fails(site.url(), tmp_path)
    assert names(tmp_path) == {"teacher_b2.pth.part", "teacher_b2.pth.part.json"}
    site.asked.clear()
    assert fetch_url(site.url(), tmp_path).read_bytes() == BODY
    assert [asked["Range"] for asked in site.asked] == ["bytes=102000-"]
    assert names(tmp_path) == {"teacher_b2.pth", "teacher_b2.pth.json"}


@pytest.mark.parametrize("honours_if_range", [True, False])
@pytest.mark.parametrize("longer", [b"", b"more"])
@pytest.mark.parametrize("headers", [{"ETag": '"two"'}, {"Last-Modified": "Fri, 02 Jan 2026 00:00:00 GMT"}])
def test_a_file_that_changed_between_attempts_is_begun_anew(
    site: Site, tmp_path: Path, headers: dict[str, str], longer: bytes, honours_if_range: bool
) -> None:
    changed = bytes(reversed(BODY)) + longer

    def change() -> None:
        site.body, site.headers, site.honours_if_range = changed, headers, honours_if_range

    site.headers = {name: "Thu, 01 Jan 2026 00:00:00 GMT" if name != "ETag" else '"one"' for name in headers}
    site.cut_after, site.after = [100_000], change
    assert fetch_url(site.url(), tmp_path).read_bytes() == changed


@pytest.mark.parametrize("server", [{"ranges": False}, {"headers": {}}, {"headers": {"ETag": 'W/"weak"'}}])
def test_servers_that_cannot_resume_start_over(site: Site, tmp_path: Path, server: dict[str, Any]) -> None:
    vars(site).update(server)
    site.cut_after = [100_000]
    assert fetch_url(site.url(), tmp_path).read_bytes() == BODY
    assert len(site.asked) == 2


def test_a_whole_part_of_a_killed_run_ends_well(site: Site, tmp_path: Path) -> None:
    record = {"source": site.url(), "size": len(BODY), "validator": '"one"'}
    (tmp_path / "teacher_b2.pth.part").write_bytes(BODY)
    (tmp_path / "teacher_b2.pth.part.json").write_text(json.dumps(record))
    assert fetch_url(site.url(), tmp_path).read_bytes() == BODY
    assert [asked.get("Range") for asked in site.asked] == [f"bytes={len(BODY)}-", None]


def test_a_part_of_another_url_is_not_continued(site: Site, tmp_path: Path) -> None:
    site.cut_after = [1000, 1, 1]
    fails(site.url("other/teacher_b2.pth"), tmp_path)
    site.asked.clear()
    assert fetch_url(site.url(), tmp_path).read_bytes() == BODY
    assert "Range" not in site.asked[0]


def test_a_server_without_a_length_is_believed(site: Site, tmp_path: Path) -> None:
    site.headers = {"Content-Length": ""}
    assert fetch_url(site.url(), tmp_path).read_bytes() == BODY


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 429]
    assert fetch_url(site.url(), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize(
    ("status", "asked", "message"),
    [
        (404, 1, "the server answered 404 Not Found; check the link"),
        (403, 1, "answered 403 Forbidden; check the link: use one without login, or fetch it in a browser"),
        (500, 3, "answered 500 Internal Server Error"),
    ],
)
def test_refusals_are_one_line(site: Site, tmp_path: Path, status: int, asked: int, message: str) -> None:
    site.statuses = [status] * 3
    assert message in fails(site.url(), tmp_path)
    assert len(site.asked) == asked
    assert names(tmp_path) == set()


def test_a_web_page_is_not_a_checkpoint(site: Site, tmp_path: Path) -> None:
    site.body = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"
    assert "is a web page, expected a checkpoint" in fails(site.url(), tmp_path)
    assert names(tmp_path) == {"teacher_b2.pth.part.json"}


def test_nobody_listening_no_such_host_and_no_tls(site: Site, tmp_path: Path) -> None:
    assert "Connection refused" in fails("http://127.0.0.1:9/x.pth", tmp_path)
    assert "resolve 'nosuch.invalid'" in fails("http://nosuch.invalid/x.pth", tmp_path)
    assert "no trusted TLS connection" in fails(site.url("x.pth").replace("http:", "https:"), tmp_path)


def test_a_silent_server_times_out(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_TIMEOUT", (0.1, 0.1))
    hold = threading.Event()
    monkeypatch.setattr(site, "answer", lambda _: (hold.wait(5), (500, {}, b""))[1])
    assert "timed out" in fails(site.url(), tmp_path)
    hold.set()


@pytest.mark.parametrize("url", ["", "teacher.pth", "ftp://host/x", "file:///etc/passwd", "http://", "https:///x"])
def test_other_schemes_are_refused(url: str, tmp_path: Path) -> None:
    assert f"found '{url}', expected a link that starts with http" in fails(url, tmp_path)


@pytest.mark.parametrize("url", ["http://[::1", "http://a..b/x", "http://127.0.0.1:99999/x"])
def test_odd_hosts_are_one_line(site: Site, url: str, tmp_path: Path) -> None:
    fails(url, tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("", "checkpoint"), ("..", "checkpoint"), ("a/..%2F..%2Fb c.pth#x", "b_c.pth"), ("é?x=/y", "é")],
)
def test_names_stay_in_the_folder(site: Site, tmp_path: Path, name: str, expected: str) -> None:
    url = f"http://127.0.0.1:{site.port}/{name}"
    assert fetch_url(url, tmp_path) == tmp_path / expected


def test_a_folder_that_cannot_be_is_one_line(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EffiSegError, match=r"file/x/teacher_b2\.pth: cannot be written \(.*\); make room"):
        fetch_url(site.url(), tmp_path / "file" / "x")


def test_two_processes_do_not_write_one_file(site: Site, tmp_path: Path) -> None:
    with FileLock(tmp_path / "teacher_b2.pth.lock"):
        thread = threading.Thread(target=fetch_url, args=(site.url(), tmp_path))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert site.asked == []
    thread.join(5)
    assert (tmp_path / "teacher_b2.pth").read_bytes() == BODY


# --- Google Drive: gdown itself, its requests led to the local server -------------------------------------------------


@pytest.fixture
def drive(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
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
    assert f"teacher.gdrive_id: {DRIVE_ID}" in str(caught.value)
    return str(caught.value)


def test_drive_gives_a_file_once(drive: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fetch_gdrive(DRIVE_ID, tmp_path)
    assert path.read_bytes() == BODY
    assert f"teacher.sha256: {SHA}" in capsys.readouterr().out
    asked = len(drive.asked)
    assert fetch_gdrive(DRIVE_ID, tmp_path) == fetch_gdrive(DRIVE_ID, tmp_path, sha256=SHA) == path
    assert len(drive.asked) == asked
    assert names(tmp_path) == {path.name, path.name + ".json"}


def test_drive_wrong_digest(drive: Site, tmp_path: Path) -> None:
    assert SHA in drive_fails(tmp_path, sha256="1" * 64)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("sha256", [None, SHA])
def test_drive_resumes_an_earlier_run_only_with_a_digest(drive: Site, tmp_path: Path, sha256: str | None) -> None:
    drive.cut_after = [100_000, 1, 1, 1]
    assert "run again" in drive_fails(tmp_path, sha256)
    drive.cut_after.clear()
    drive.asked.clear()
    assert fetch_gdrive(DRIVE_ID, tmp_path, sha256=sha256).read_bytes() == BODY
    assert any("Range" in asked for asked in drive.asked) is bool(sha256)
    assert len(names(tmp_path)) == 2


def test_drive_file_that_changed_is_begun_anew(drive: Site, tmp_path: Path) -> None:
    drive.cut_after = [100_000, 1, 1]
    drive_fails(tmp_path, SHA[::-1])
    drive.body = BODY + b"more"
    new = hashlib.sha256(drive.body).hexdigest()
    drive.ranges = False
    assert "byte range" in drive_fails(tmp_path, new)
    assert fetch_gdrive(DRIVE_ID, tmp_path, sha256=new).read_bytes() == drive.body


@pytest.mark.parametrize(
    "page",
    [
        '<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p>',
        "<html>Sign in</html>",
        '<form id="download-form"></form>',
    ],
)
def test_drive_refusal_pages(drive: Site, tmp_path: Path, page: str) -> None:
    drive.headers = {"Content-Type": "text/html; charset=utf-8"}
    drive.body = page.encode()
    message = drive_fails(tmp_path)
    assert "anyone with the link may read it, wait a day if it is over quota" in message
    assert ("Too many users" in page) <= ("Too many users" in message)


def test_drive_out_of_reach(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert "run again if the network was at fault" in drive_fails(tmp_path)


@pytest.mark.parametrize("file_id", ["", "../../etc", f"https://drive.google.com/file/d/{DRIVE_ID}/view"])
def test_drive_wants_the_id_alone(file_id: str, tmp_path: Path) -> None:
    with pytest.raises(EffiSegError, match="expected the id alone"):
        fetch_gdrive(file_id, tmp_path)


# --- the Hub: huggingface_hub itself, its endpoint on the local server ------------------------------------------------


@pytest.fixture
def hub(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", site.url("").rstrip("/"))
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", site.url("{repo_id}/resolve/{revision}/{filename}")
    )
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    site.pages = {}
    hub_has(site, "main", {"model.safetensors": BODY, "config.json": b"{}"})
    hub_has(site, COMMIT, {"model.safetensors": BODY, "config.json": b"{}"})
    return site


def hub_has(site: Site, revision: str, files: dict[str, bytes]) -> None:
    for name in ("model.safetensors", "pytorch_model.bin", "config.json", "preprocessor_config.json"):
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(files.get(name, b"")).hexdigest()}"'}
        absent = (404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"")
        page = (200, headers, files[name]) if name in files else absent
        site.pages[f"/owner/name/resolve/{revision}/{name}"] = page


def hub_fails(folder: Path, repo: str = "owner/name", revision: str = "main") -> str:
    with pytest.raises(EffiSegError) as caught:
        fetch_huggingface(repo, revision, folder)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"teacher.repo: {repo} (")
    return str(caught.value)


def test_hub_gives_the_files_of_one_commit(hub: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = fetch_huggingface("owner/name", "main", tmp_path)
    assert files.weights.read_bytes() == BODY
    assert files.config is not None
    assert files.config.read_bytes() == b"{}"
    assert files.preprocessor is None
    assert f"teacher.sha256: {SHA}" in capsys.readouterr().out
    assert [asked["path"] for asked in hub.asked if "main" in asked["path"] and "model" not in asked["path"]] == []


def test_hub_falls_back_to_the_pickle_and_works_offline_afterwards(
    hub: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_has(hub, "main", {"pytorch_model.bin": BODY})
    hub_has(hub, COMMIT, {"pytorch_model.bin": BODY})
    files = fetch_huggingface("owner/name", "main", tmp_path, sha256=SHA)
    assert files.weights.name == "pytorch_model.bin"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetch_huggingface("owner/name", "main", tmp_path) == files
    assert "the Hub cannot be reached" in hub_fails(tmp_path / "empty")


def test_hub_wrong_digest_leaves_no_file(hub: Site, tmp_path: Path) -> None:
    with pytest.raises(EffiSegError, match=f"has sha256 {SHA}, expected 2222"):
        fetch_huggingface("owner/name", "main", tmp_path, sha256="2" * 64)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == BODY]
    assert fetch_huggingface("owner/name", "main", tmp_path, sha256=SHA).weights.read_bytes() == BODY


def test_hub_repository_without_weights(hub: Site, tmp_path: Path) -> None:
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
def test_hub_refusals(hub: Site, tmp_path: Path, status: int, code: str, message: str) -> None:
    for path in hub.pages:
        hub.pages[path] = (status, {"X-Error-Code": code}, b"")
    assert message in hub_fails(tmp_path)


def test_hub_cut_connection(hub: Site, tmp_path: Path) -> None:
    hub.cut_after = [10] * 9
    assert "the transfer failed; check the network and the disk" in hub_fails(tmp_path)


def test_hub_out_of_reach_and_bad_names(hub: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not a name the Hub allows" in hub_fails(tmp_path, repo="not/a/name")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert "the Hub cannot be reached; check the network" in hub_fails(tmp_path)
