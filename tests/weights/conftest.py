"""A server to download from."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from effiseg.weights import download

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Site:
    """What the server says, changed by the tests, and what it was asked."""

    port: int = 0
    body: bytes = bytes(range(256)) * 2000
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    ranges: bool = True
    honours_if_range: bool = True
    cut_after: list[int] = field(default_factory=list)  # bytes, for one answer each
    statuses: list[int] = field(default_factory=list)  # answers before the good one
    asked: list[dict[str, str]] = field(default_factory=list)
    after: Callable[[], None] = lambda: None  # called at the end of each answer
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)  # by path, instead of the file

    @property
    def sha256(self) -> str:
        """Digest of the file as it is now."""
        return hashlib.sha256(self.body).hexdigest()

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
    """A server of one file on the loopback; downloads from it take small chunks and no pauses."""
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


@pytest.fixture
def names() -> Callable[[Path], set[str]]:
    """The names of a folder's files but for locks."""
    return lambda folder: {path.name for path in folder.iterdir() if path.suffix != ".lock"}


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
