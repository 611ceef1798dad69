"""Downloads from links, against a real server on the loopback."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from effiseg.base.errors import EffiSegError
from effiseg.weights import download
from effiseg.weights.download import fetch_url


def fails(url: str, folder: Path, sha256: str | None = None) -> str:
    """The one line that fetching ends in."""
    with pytest.raises(EffiSegError) as caught:
        fetch_url(url, folder, sha256=sha256)
    assert "\n" not in str(caught.value)
    assert "start.url" in str(caught.value)
    return str(caught.value)


def test_a_file_arrives_whole_and_its_digest_is_offered(
    site, names, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fetch_url(site.url(), tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / "teacher_b2.pth"
    assert path.read_bytes() == site.body
    assert names(path.parent) == {"teacher_b2.pth", "teacher_b2.pth.json"}
    assert capsys.readouterr().out.count("\n") == 1
    fetch_url(site.url(), path.parent)
    assert f"start.sha256: {site.sha256}\n" in capsys.readouterr().out
    assert len(site.asked) == 1


def test_a_digest_is_checked_and_spares_the_second_download(
    site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fetch_url(site.url(), tmp_path, sha256=site.sha256.upper())
    assert fetch_url(site.url("elsewhere/teacher_b2.pth"), tmp_path, sha256=site.sha256) == path
    assert len(site.asked) == 1
    assert capsys.readouterr().out == ""


def test_a_wrong_digest_leaves_no_file(site, names, tmp_path: Path) -> None:
    message = fails(site.url(), tmp_path, sha256="0" * 64)
    assert site.sha256 in message
    assert "0" * 64 in message
    assert names(tmp_path) == {"teacher_b2.pth.part.json"}
    assert fetch_url(site.url(), tmp_path, sha256=site.sha256).read_bytes() == site.body


@pytest.mark.parametrize("change", ["file", "url", "record"])
def test_without_a_digest_a_changed_file_is_fetched_again(site, tmp_path: Path, change: str) -> None:
    path = fetch_url(site.url(), tmp_path)
    if change == "file":
        path.write_bytes(site.body[:-1])
    if change == "record":
        path.with_name(path.name + ".json").write_text("{")
    fetch_url(site.url("other/teacher_b2.pth") if change == "url" else site.url(), tmp_path)
    assert path.read_bytes() == site.body
    assert len(site.asked) == 2


def test_a_cut_connection_is_resumed_within_a_run(site, tmp_path: Path) -> None:
    site.cut_after = [100_000, 50_000]
    assert fetch_url(site.url(), tmp_path).read_bytes() == site.body
    assert [asked.get("Range") for asked in site.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert site.asked[1]["If-Range"] == '"one"'


def test_a_cut_connection_says_to_run_again_and_that_resumes(site, names, tmp_path: Path) -> None:
    site.cut_after = [100_000, 1000, 1000]
    assert "run again to resume" in fails(site.url(), tmp_path)
    assert names(tmp_path) == {"teacher_b2.pth.part", "teacher_b2.pth.part.json"}
    site.asked.clear()
    assert fetch_url(site.url(), tmp_path).read_bytes() == site.body
    assert [asked["Range"] for asked in site.asked] == ["bytes=102000-"]
    assert names(tmp_path) == {"teacher_b2.pth", "teacher_b2.pth.json"}


@pytest.mark.parametrize("honours_if_range", [True, False])
@pytest.mark.parametrize("longer", [b"", b"more"])
@pytest.mark.parametrize("headers", [{"ETag": '"two"'}, {"Last-Modified": "Fri, 02 Jan 2026 00:00:00 GMT"}])
def test_a_file_that_changed_between_attempts_is_begun_anew(
    site, tmp_path: Path, headers: dict[str, str], longer: bytes, honours_if_range: bool
) -> None:
    changed = bytes(reversed(site.body)) + longer

    def change() -> None:
        site.body, site.headers, site.honours_if_range = changed, headers, honours_if_range

    site.headers = {name: "Thu, 01 Jan 2026 00:00:00 GMT" if name != "ETag" else '"one"' for name in headers}
    site.cut_after, site.after = [100_000], change
    assert fetch_url(site.url(), tmp_path).read_bytes() == changed


@pytest.mark.parametrize("server", [{"ranges": False}, {"headers": {}}, {"headers": {"ETag": 'W/"weak"'}}])
def test_servers_that_cannot_resume_start_over(site, tmp_path: Path, server: dict[str, Any]) -> None:
    vars(site).update(server)
    site.cut_after = [100_000]
    assert fetch_url(site.url(), tmp_path).read_bytes() == site.body
    assert len(site.asked) == 2


def test_a_whole_part_of_a_killed_run_ends_well(site, tmp_path: Path) -> None:
    record = {"source": site.url(), "size": len(site.body), "validator": '"one"'}
    (tmp_path / "teacher_b2.pth.part").write_bytes(site.body)
    (tmp_path / "teacher_b2.pth.part.json").write_text(json.dumps(record))
    assert fetch_url(site.url(), tmp_path).read_bytes() == site.body
    assert [asked.get("Range") for asked in site.asked] == [f"bytes={len(site.body)}-", None]


def test_a_part_of_another_url_is_not_continued(site, tmp_path: Path) -> None:
    site.cut_after = [1000, 1, 1]
    fails(site.url("other/teacher_b2.pth"), tmp_path)
    site.asked.clear()
    assert fetch_url(site.url(), tmp_path).read_bytes() == site.body
    assert "Range" not in site.asked[0]


def test_a_server_without_a_length_is_believed(site, tmp_path: Path) -> None:
    site.headers = {"Content-Length": ""}
    assert fetch_url(site.url(), tmp_path).read_bytes() == site.body


def test_a_busy_server_is_asked_again(site, tmp_path: Path) -> None:
    site.statuses = [503, 429]
    assert fetch_url(site.url(), tmp_path).read_bytes() == site.body


@pytest.mark.parametrize(
    ("status", "asked", "message"),
    [
        (404, 1, "the server answered 404 Not Found; check the link"),
        (403, 1, "answered 403 Forbidden; check the link: use one without login, or fetch it in a browser"),
        (500, 3, "answered 500 Internal Server Error"),
    ],
)
def test_refusals_are_one_line(site, names, tmp_path: Path, status: int, asked: int, message: str) -> None:
    site.statuses = [status] * 3
    assert message in fails(site.url(), tmp_path)
    assert len(site.asked) == asked
    assert names(tmp_path) == set()


def test_a_web_page_is_not_a_checkpoint(site, names, tmp_path: Path) -> None:
    site.body = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"
    assert "is a web page, expected a checkpoint" in fails(site.url(), tmp_path)
    assert names(tmp_path) == {"teacher_b2.pth.part.json"}


def test_nobody_listening_no_such_host_and_no_tls(site, tmp_path: Path) -> None:
    assert "Connection refused" in fails("http://127.0.0.1:9/x.pth", tmp_path)
    assert "resolve 'nosuch.invalid'" in fails("http://nosuch.invalid/x.pth", tmp_path)
    assert "no trusted TLS connection" in fails(site.url("x.pth").replace("http:", "https:"), tmp_path)


def test_a_silent_server_times_out(site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_TIMEOUT", (0.1, 0.1))
    hold = threading.Event()
    monkeypatch.setattr(site, "answer", lambda _: (hold.wait(5), (500, {}, b""))[1])
    assert "timed out" in fails(site.url(), tmp_path)
    hold.set()


@pytest.mark.parametrize("url", ["", "teacher.pth", "ftp://host/x", "file:///etc/passwd", "http://", "https:///x"])
def test_other_schemes_are_refused(url: str, tmp_path: Path) -> None:
    assert f"found '{url}', expected a link that starts with http" in fails(url, tmp_path)


@pytest.mark.parametrize("url", ["http://[::1", "http://a..b/x", "http://127.0.0.1:99999/x"])
def test_odd_hosts_are_one_line(site, url: str, tmp_path: Path) -> None:
    fails(url, tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("", "checkpoint"), ("..", "checkpoint"), ("a/..%2F..%2Fb c.pth#x", "b_c.pth"), ("é?x=/y", "é")],
)
def test_names_stay_in_the_folder(site, tmp_path: Path, name: str, expected: str) -> None:
    url = f"http://127.0.0.1:{site.port}/{name}"
    assert fetch_url(url, tmp_path) == tmp_path / expected


def test_a_folder_that_cannot_be_is_one_line(site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EffiSegError, match=r"file/x/teacher_b2\.pth: cannot be written \(.*\); make room"):
        fetch_url(site.url(), tmp_path / "file" / "x")


def test_two_processes_do_not_write_one_file(site, tmp_path: Path) -> None:
    with FileLock(tmp_path / "teacher_b2.pth.lock"):
        thread = threading.Thread(target=fetch_url, args=(site.url(), tmp_path))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert site.asked == []
    thread.join(5)
    assert (tmp_path / "teacher_b2.pth").read_bytes() == site.body
