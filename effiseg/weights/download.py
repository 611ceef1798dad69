"""Checkpoints from a URL or Google Drive: resumed, checked, and whole or not there at all."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gdown
import requests
import urllib3
from filelock import FileLock
from gdown.exceptions import DownloadError
from requests.exceptions import ChunkedEncodingError, SSLError
from tqdm import tqdm

from effiseg.base.errors import EffiSegError, masked
from effiseg.base.origins import digest

_PAUSES = (1.0, 2.0, 4.0)  # seconds between attempts
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between bytes
_CHUNK = 1 << 16  # bytes; a cut connection loses at most one
_BUSY = {408, 429, 500, 502, 503, 504}  # answers worth another attempt
_BY_HAND = "or fetch it in a browser and set start.source: file and start.path"


def fetch_url(url: str, folder: Path, *, sha256: str | None = None) -> Path:
    """Download one file over HTTP(S); an earlier download is reused, an interrupted one resumed.

    Without a digest, a file is reused when it came from the same URL and is still what was downloaded then.

    Args:
        url: a direct link.
        folder: where the file goes, under the name that the URL ends in; created if missing.
        sha256: what the file must have; printed when not given.

    Raises:
        EffiSegError: the URL, the server, the connection, the disk or the digest is at fault.
    """
    path, key = folder / url_file(url), f"start.url: {url}"
    with _destination(path):
        if not _is_there(path, key, sha256):
            part = _beside(path, ".part")
            _transfer_patiently(url, part)
            _land(part, path, key, sha256)
    return path


def fetch_gdrive(file_id: str, folder: Path, *, sha256: str | None = None) -> Path:
    """Download one publicly shared file from Google Drive; reused and checked as `fetch_url` does.

    An earlier run is resumed only when there is a digest: gdown cannot tell whether the file on Drive has changed.

    Args:
        file_id: the part of the sharing link between /d/ and /view.
        folder: where the file goes, as `gdrive-<id>`; created if missing.
        sha256: what the file must have; printed when not given.

    Raises:
        EffiSegError: Drive does not give the file out, or the connection, the disk or the digest is at fault.
    """
    path, key = folder / drive_file(file_id), f"start.gdrive_id: {file_id}"
    if not re.fullmatch(r"[\w-]{10,}", file_id):
        raise EffiSegError(f"{key}: expected the id alone: in a sharing link, the part between /d/ and /view")
    with _destination(path):
        if not _is_there(path, key, sha256):
            whole = _beside(path, ".whole")
            if not sha256:
                _clear(whole)
            _transfer_from_drive(file_id, whole, key)
            _land(whole, path, key, sha256)
    return path


def drive_file(file_id: str) -> str:
    """What `fetch_gdrive` calls its file."""
    return f"gdrive-{file_id}"


def held(file: Path, sha256: str) -> bool:
    """Whether a file has been downloaded already."""
    return file.is_file() and digest(file) == sha256.lower()


def ask_url(url: str) -> int | None:
    """The size of the file behind a link in bytes, without downloading it; None where its server does not tell.

    Raises:
        EffiSegError: it cannot be had now, with the reason.
    """
    try:
        with requests.head(url, allow_redirects=True, timeout=_TIMEOUT) as response:
            response.raise_for_status()
            return _identity(response)["size"]
    except requests.RequestException as error:
        raise EffiSegError(f"cannot be had now: {_explain(error)}") from error


def url_file(url: str) -> str:
    """What `fetch_url` calls its file."""
    match = re.match(r"https?://[^/?#\s]+([^?#]*)", url, re.IGNORECASE)
    if match is None:
        raise EffiSegError(f"start.url: found '{url}', expected a link that starts with http:// or https://")
    name = re.sub(r"[^\w.-]", "_", unquote(match[1]).rpartition("/")[2])
    return name[-100:].strip(".") or "checkpoint"


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@contextmanager
def _destination(path: Path) -> Iterator[None]:
    """Holds the file against other processes; an error of the disk becomes a message."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_beside(path, ".lock")):
            yield
    except OSError as error:
        raise EffiSegError(f"{path}: cannot be written ({line(error)}); make room or use another folder") from error


def _read_record(path: Path) -> dict[str, Any]:
    """What is noted about a file in the JSON beside it."""
    try:
        content = json.loads(_beside(path, ".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_there(path: Path, source: str, sha256: str | None) -> bool:
    record = _read_record(path)
    expected = sha256 or (record.get("sha256") if record.get("source") == source else None)
    if not expected or not path.is_file() or digest(path) != expected.lower():
        return False
    check_digest(path, source, sha256)
    return True


def _land(whole: Path, path: Path, source: str, sha256: str | None) -> None:
    """Check the file, then give it its name."""
    with whole.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        whole.unlink()
        raise EffiSegError(f"{source}: is a web page, expected a checkpoint; link to the file itself, {_BY_HAND}")
    record = {"source": source, "sha256": check_digest(whole, source, sha256)}
    whole.replace(path)
    _beside(whole, ".json").unlink(missing_ok=True)
    _beside(path, ".json").write_text(json.dumps(record), encoding="utf-8")


def check_digest(path: Path, source: str, sha256: str | None) -> str:
    """The file's digest; a file that has not the expected one is deleted.

    Raises:
        EffiSegError: it has another than `sha256`.
    """
    found = digest(path)
    if not sha256:
        print(f"{masked(source)}: to pin this file, set start.sha256: {found}")
    elif found != sha256.lower():
        path.resolve().unlink()  # in the Hub's cache, files are links
        path.unlink(missing_ok=True)
        raise EffiSegError(
            f"{source}: the file has sha256 {found}, expected {sha256.lower()} (start.sha256), and was deleted; "
            "run again in case the transfer was at fault, otherwise correct the digest or the source"
        )
    return found


def _transfer_patiently(url: str, part: Path) -> None:
    """Fill `part` completely, in a few attempts."""
    for pause in (*_PAUSES, None):
        try:
            _transfer(url, part)
            return
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            answer = getattr(error, "response", None)
            hopeless = isinstance(error, SSLError | ValueError) if answer is None else answer.status_code not in _BUSY
            if hopeless or pause is None:
                raise EffiSegError(f"start.url: {url}: {_explain(error)}") from error
        time.sleep(pause)


def _transfer(url: str, part: Path) -> None:
    """One request: append to what is there if the server still has the same file, else begin anew."""
    record = _read_record(part) if part.is_file() else {}
    resumable = record.get("source") == url and record.get("validator") and record.get("size")
    held = part.stat().st_size if resumable else 0
    headers = {"Accept-Encoding": "identity"}  # byte offsets must be those of the file
    if held:
        headers |= {"Range": f"bytes={held}-", "If-Range": record["validator"]}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code in (206, 416) and not _continues(response, record, held):
            part.unlink(missing_ok=True)
            raise ChunkedEncodingError("the server does not continue where the last attempt ended")
        response.raise_for_status()
        if response.status_code != 206:
            held, record = 0, {"source": url, **_identity(response)}
            part.unlink(missing_ok=True)  # first: old bytes must never stand beside a new record
            _beside(part, ".json").write_text(json.dumps(record), encoding="utf-8")
        _save(response, part, held, record["size"])


def _continues(response: requests.Response, record: dict[str, Any], held: int) -> bool:
    """Whether a partial answer is the rest of the very file that was begun."""
    same = _identity(response)["validator"] in (None, record.get("validator"))  # a server may ignore If-Range
    size = record.get("size") or 0
    return same and response.headers.get("Content-Range") == f"bytes {held}-{size - 1}/{size}"


def _identity(response: requests.Response) -> dict[str, Any]:
    """Size and version of the file; None where unknown, or where the bytes sent are not the file's own."""
    headers = response.headers
    if headers.get("Content-Encoding", "identity") != "identity":
        return {"size": None, "validator": None}
    length, etag = headers.get("Content-Length", ""), headers.get("ETag", "W/")
    validator = headers.get("Last-Modified") if etag.startswith("W/") else etag  # a weak tag is not about bytes
    return {"size": int(length) if length.isdecimal() else None, "validator": validator}


def _save(response: requests.Response, part: Path, held: int, total: int | None) -> None:
    bar = tqdm(desc=part.stem, initial=held, total=total, unit="B", unit_scale=True, disable=None)
    with part.open("ab" if held else "wb") as file, bar:
        for chunk in response.iter_content(_CHUNK):
            bar.update(file.write(chunk))
    if total not in (None, size := part.stat().st_size):
        raise ChunkedEncodingError(f"{size} of {total} bytes arrived")


def _explain(error: Exception) -> str:
    answer = getattr(error, "response", None)
    if answer is not None:
        login = f"use one without login, {_BY_HAND}" if answer.status_code in (401, 403) else "is it right and alive?"
        return f"the server answered {answer.status_code} {answer.reason}; check the link: {login}"
    if isinstance(error, SSLError):
        return f"no trusted TLS connection ({line(error)}); check this machine's clock and certificates"
    return f"the transfer failed ({line(error)}); check the link and the network, then run again to resume"


def _clear(whole: Path) -> None:
    for leftover in whole.parent.glob(f"{whole.name}*"):  # gdown puts eight random letters and .part behind the name
        leftover.unlink()


def _transfer_from_drive(file_id: str, whole: Path, source: str) -> None:
    try:
        # without cookies: gdown would keep them outside the folder
        gdown.download(
            id=file_id, output=str(whole), resume=True, use_cookies=False, timeout=_TIMEOUT, retries=len(_PAUSES)
        )
    except (DownloadError, requests.RequestException, KeyError, AssertionError) as error:  # the last two: odd pages
        if "byte range" in str(error):  # not the file that was begun: gdown would refuse for ever
            _clear(whole)
        raise EffiSegError(
            f"{source}: not given out by Google Drive ({line(error)}); run again if the network was at fault, check "
            f"that anyone with the link may read it, wait a day if it is over quota, {_BY_HAND}"
        ) from error


def line(error: Exception) -> str:
    """What an error says, on one line."""
    inner = getattr(error.args[0] if error.args else None, "reason", error)  # urllib3 wraps the cause
    return " ".join(str(inner).split()) or type(error).__name__
