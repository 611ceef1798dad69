"""`python -m effiseg check` tells which weights are at hand, and what the others will cost."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.test_check import PINNED, assert_refused, check, edit
from tests.test_check import project as project  # a fixture
from tests.weights.conftest import COMMIT, Handler, Site

REPO = "source: huggingface\n      repo: owner/name\n"


@pytest.fixture
def site() -> Iterator[Site]:
    """A server with a file, which also answers as the Hub does."""
    site = Site()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"site": site})) as server:
        site.port = server.server_port
        told = {
            "id": "owner/name",
            "sha": COMMIT,
            "siblings": [{"rfilename": "model.safetensors", "size": 14_300_000}],
            "cardData": {"license": "other", "license_name": "research-only"},
        }
        for revision in ("main", COMMIT):
            page = (200, {"Content-Type": "application/json"}, json.dumps(told).encode())
            site.pages[f"/api/models/owner/name/revision/{revision}"] = page
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield site
        server.shutdown()


def lines(project: Path, repository: Path, site: Site) -> list[str]:
    ran = check(project, repository, HF_ENDPOINT=site.url("").rstrip("/"))
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.splitlines()


def test_a_link_is_told_with_its_size_until_it_is_there(project: Path, repository: Path, site: Site) -> None:
    edit(project, (PINNED, f"sha256: {site.sha256}"), ("source: file\n", f"source: url\n      url: {site.url()}\n"))
    masked = site.url().replace("token=1", "token=***")
    valid = "params.yaml is valid: 6 trainings on synthetic"
    assert lines(project, repository, site) == [f"url {masked} (teacher): to be downloaded: 0.5 MB", valid]
    (project / ".downloads").mkdir()
    (project / ".downloads/teacher_b2.pth").write_bytes(site.body)
    assert hashlib.sha256(site.body).hexdigest() == site.sha256
    assert lines(project, repository, site) == [f"url {masked} (teacher): at hand", valid]


@pytest.mark.slow
def test_a_repository_is_told_with_its_licence(project: Path, repository: Path, site: Site) -> None:
    edit(project, (PINNED, 'sha256: ""'), ("source: file\n", f"{REPO}      revision: {COMMIT}\n"))
    told = f"14.3 MB, licence: other (research-only), commit {COMMIT}"
    assert lines(project, repository, site)[0] == f"huggingface owner/name (teacher): to be downloaded: {told}"


def test_a_branch_that_nothing_pins_is_refused_with_the_commit_that_it_is_now(
    project: Path, repository: Path, site: Site
) -> None:
    edit(project, (PINNED, 'sha256: ""'), ("source: file\n", REPO))
    ran = check(project, repository, HF_ENDPOINT=site.url("").rstrip("/"))
    assert_refused(ran, "start.repo: owner/name (row 'teacher') may be replaced, and no stage would notice; set")
    assert ran.stderr.endswith(f"; main is now: 14.3 MB, licence: other (research-only), commit {COMMIT}\n")
