"""The tour of docs/device.md, command by command, on the tiny study; and what the commands and the server refuse."""

import base64
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from effiseg.__main__ import main
from effiseg.cli import stage as cli
from tests.pipeline.study import Study, environment
from tests.settings import CITYSCAPES

PICTURE = "data/synthetic/leftImg8bit/val/eschenmark/eschenmark_000000_000019_leftImg8bit.png"
HEADER = {"Content-Type": "application/json"}


def picture_of(size: tuple[int, int], mode: str = "L") -> bytes:
    buffer = BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


REFUSED: dict[str, Any] = {
    "rubbish bytes": text(b"rubbish"),
    "no base64": "rubbish!",
    "a number": 3,
    "nothing": None,
    "an array of fractions": [[[0.5, 0.5, 0.5]]],
    "an array beyond 255": [[[0, 0, 256]]],
    "a grey array": [[1, 2], [3, 4]],
    "100 million pixels": text(picture_of((10_000, 10_000))),
}


@dataclass
class Story:
    """What the tour's commands printed, by command, and what the server answered.

    Attributes:
        answer: of the tour's own request.
        others: status and message of requests that the server should refuse, by name.
        after: status of the tour's request, sent once more at the end.
    """

    study: Study
    done: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)
    answer: Any = None
    array: Any = None
    others: dict[str, tuple[int, str]] = field(default_factory=dict)
    after: int = 0


def tour(page: Path) -> list[str]:
    """The commands of the tour, without comments; what goes over several lines is one command."""
    block = re.search(r"## The tour\n.*?```bash\n(.*?)```", page.read_text(), re.DOTALL)
    assert block is not None
    lines = re.sub(r"(\\|\|)\n\s*", lambda found: " " if found[1] == "\\" else "| ", block[1]).splitlines()
    return [command for line in lines if (command := re.sub(r"\s+# .*", "", line).strip())]


def tell_story(study: Study, folder: Path) -> Story:
    copy = study.copy(folder / "repository")
    story = Story(copy)
    activate, *commands = tour(copy.folder / "docs/device.md")
    assert activate == "source .venv/bin/activate"  # the tests run in an environment of their own
    assignment = next(command for command in commands if command.startswith("picture="))
    commands.remove(assignment)
    *before, serve, ask = commands
    for command in before:
        if command == "mlflow ui":
            with server(copy, command, "/health") as address:
                story.done[command] = copy.run("curl", "--silent", address + "/health")
        else:
            story.done[command] = copy.run("bash", "-c", command, check=False)
    with server(copy, serve, "/ping") as address:
        request = f"{assignment}; {ask.replace('http://127.0.0.1:5001', address)}"
        story.answer = json.loads(copy.run("bash", "-c", request).stdout)
        pixels = np.asarray(Image.open(copy.folder / PICTURE).convert("RGB")).tolist()
        story.array = invoke(address, {"dataframe_records": [{"image": pixels}]}).json()
        for name, value in REFUSED.items():
            response = invoke(address, {"dataframe_records": [{"image": value}]})
            story.others[name] = response.status_code, response.text
        response = requests.post(f"{address}/invocations", data=b"\xff\x00rubbish", headers=HEADER, timeout=60)
        story.others["no JSON"] = response.status_code, response.text
        response = invoke(address, {"dataframe_records": [{"picture": 1}]})
        story.others["another column"] = response.status_code, response.text
        story.after = invoke(address, {"dataframe_records": [{"image": pixels}]}).status_code
    return story


def invoke(address: str, body: dict[str, Any]) -> requests.Response:
    return requests.post(f"{address}/invocations", data=json.dumps(body), headers=HEADER, timeout=60)


@contextmanager
def server(study: Study, command: str, health: str) -> Iterator[str]:
    """The command's server on a free port, from when it answers: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [word for word in shlex.split(re.sub(r"--port \d+", "", command)) if word != "mlflow"]
    process = subprocess.Popen(
        ["python", "-m", "mlflow", *words, "--port", str(port), "--workers", "1"],
        cwd=study.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address + health, process, command)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes], command: str) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        assert process.poll() is None, f"{command}: status {process.returncode}"
        try:
            requests.get(address, timeout=5).raise_for_status()
            return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError(f"{command}: no answer after five minutes")


def test_every_command_of_the_tour_succeeds(story: Story) -> None:
    assert len(story.done) == 6
    for command, done in story.done.items():
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_the_tour_writes_what_it_says(story: Story) -> None:
    exports = story.study.folder / "exports"
    assert {path.name for path in (exports / "kd-0").iterdir()} == {
        *("checkpoint", "model.onnx", "model_fp16.onnx", "model_int8.onnx")
    }
    validation = list((story.study.folder / "data/synthetic/leftImg8bit/val").glob("*/*.png"))
    assert {path.name for path in (exports / "pictures").iterdir()} == {path.name for path in validation}
    of_city = {path.name for path in validation if path.parent.name == "eschenmark"}
    assert {path.name for path in (exports / "with_truth").glob("*.png")} == of_city
    assert len(list((exports / "with_truth/labels").glob("*_labelIds.png"))) == len(of_city)
    printed = [done.stdout for done in story.done.values()]
    assert any("mIoU" in text and "over the 2 pictures whose truth is known" in text for text in printed)


def test_the_registered_row_is_that_of_the_highest_miou(story: Story) -> None:
    scores = {name: story.study.json(f"runs/{name}/metrics.json")["miou"] for name in ("baseline-0", "kd-0")}
    tags = dict(story.study.query("SELECT key, value FROM model_version_tags WHERE name = 'effiseg-synthetic'"))
    aliases = story.study.query("SELECT alias, version FROM registered_model_aliases WHERE name = 'effiseg-synthetic'")

    assert tags["run"] == max(scores, key=lambda name: scores[name])
    assert float(tags["miou"]) == max(scores.values())
    assert aliases == [("best", 1)]


def test_the_server_answers_as_predict_does(story: Story) -> None:
    labels = story.study.folder / "labels"
    command = ("predict", PICTURE, "--model", "models:/effiseg-synthetic@best", "--out", str(labels), "--labels")
    story.study.run("python", "-m", "effiseg", *command)

    ids = np.asarray(Image.open(labels / f"labels/{Path(PICTURE).stem}_labelIds.png"))
    (served,) = story.answer["predictions"]
    np.testing.assert_array_equal(np.array(served), CITYSCAPES.of_id[ids])
    assert story.array == story.answer  # the same picture as an array


def test_the_server_refuses_what_is_no_picture_and_lives_on(story: Story) -> None:
    assert {status for status, _ in story.others.values()} == {400}
    assert "10000x10000 is more than 64 million pixels" in story.others["100 million pixels"][1]
    assert "not a PNG, JPEG, WEBP, BMP or TIFF file" in story.others["rubbish bytes"][1]
    assert "expected the bytes of a picture in base64, or an array (H, W, 3)" in story.others["a number"][1]
    assert story.after == 200


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("export", "nope-0"), "run 'nope-0': params.yaml's study has none of that name; runs are: baseline-0, kd-0"),
        (("export", "kd-0", "--out", "effiseg"), "--out effiseg: exists and is no earlier export"),
        (("predict", PICTURE, "--model", "kd-1", "--out", "new"), "run 'kd-1': params.yaml's study has none of"),
        (("predict", PICTURE, "--model", "a/b.onnx", "--out", "new"), "a/b.onnx: not found"),
        (("predict", PICTURE, "--model", "a/b", "--out", "new"), "--model a/b: not found, expected <row>-<seed>"),
        (("predict", PICTURE, "--model", "params.yaml", "--out", "new"), "--model params.yaml: a file, expected"),
        (("predict", "*.jpg", "--model", "kd-0", "--out", "new"), "*.jpg: no picture there"),
        (("predict", PICTURE, "--model", "kd-0", "--out", "dvc.yaml"), "--out dvc.yaml: a file, expected a folder"),
        (("register", "--row", "nope-0"), "run 'nope-0': params.yaml's study has none of that name"),
    ],
)
def test_wrong_commands_are_one_error_line(
    study: Study,
    command: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(study.folder)
    monkeypatch.setattr("sys.argv", ["effiseg", *command])
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the handler is for a process of its own

    with pytest.raises(SystemExit) as left:  # in this process, since importing torch costs seconds
        cli.run(main)

    printed = capsys.readouterr().err
    assert left.value.code == 1
    assert printed.startswith(f"error: {message}")
    assert printed.count("\n") == 1
    assert not (study.folder / "new").exists()


@pytest.mark.slow
def test_an_unknown_registered_model_is_one_error_line(study: Study) -> None:
    command = ("predict", PICTURE, "--model", "models:/nope@best", "--out", "new")
    done = study.run("python", "-m", "effiseg", *command, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("error: models:/nope@best/artifacts/checkpoint: not to be had from MLflow at sqlite:")
    assert done.stderr.count("\n") == 1
    assert "put a row there with `python -m effiseg register`" in done.stderr
    assert not (study.folder / "new").exists()


def test_a_model_that_is_not_there_says_what_to_run(copy: Study) -> None:
    (copy.folder / "runs/kd-0/model/last/config.json").unlink()
    (copy.folder / "runs/baseline-0/record.json").unlink()

    for name, message in (
        ("kd-0", "runs/kd-0/model/last"),
        ("baseline-0", "runs/baseline-0/record.json: No such file"),
    ):
        done = copy.run("python", "-m", "effiseg", "export", name, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {message}")
    assert "run `dvc repro`" in done.stderr
    assert not (copy.folder / "exports").exists()


def test_a_damaged_picture_ends_with_status_1_after_the_others(story: Story, tmp_path: Path) -> None:
    whole = (story.study.folder / PICTURE).read_bytes()
    (tmp_path / "in").mkdir()
    for name, content in {"a": whole, "b": whole[:500], "c": whole}.items():
        (tmp_path / f"in/{name}.png").write_bytes(content)

    command = ("predict", str(tmp_path / "in"), "--model", "kd-0", "--out", str(tmp_path / "out"))
    done = story.study.run("python", "-m", "effiseg", *command, check=False)

    assert done.returncode == 1
    assert "error: 1 of 3 pictures could not be predicted, the others are written: [1] " in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]


def test_a_killed_prediction_leaves_whole_pictures_only(story: Story, tmp_path: Path) -> None:
    whole = (story.study.folder / PICTURE).read_bytes()
    (tmp_path / "in").mkdir()
    for i in range(500):
        (tmp_path / f"in/{i}.png").write_bytes(whole)
    out = tmp_path / "out"

    command = ("predict", str(tmp_path / "in"), "--model", "kd-0", "--out", str(out))
    process = story.study.start("python", "-m", "effiseg", *command)
    while len(list(out.glob("*.png"))) < 5:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=60)

    assert process.returncode == 143
    written = list(out.iterdir())
    assert 5 <= len(written) < 500
    for path in written:
        assert path.suffix == ".png" and not path.name.startswith(".")
        Image.open(path).load()
