"""`predict` of a video: the same answers as of pictures, by every runtime; what is refused, and leaves nothing."""

import os
import re
import signal
import sys
import time

import numpy as np
import pytest
from PIL import Image

from effiseg.__main__ import main
from effiseg.base.errors import EffiSegError
from effiseg.deployment.predictor import Predictor
from effiseg.deployment.runtimes import openvino_installed
from effiseg.video.files import ENCODINGS
from effiseg.video.predict import Pace
from effiseg.video.pyav import INSTALL_AV, av_installed

COUNT, SIZE = 11, (43, 61)  # no whole batches; odd sides


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    """Frames of a camera as PNG, each another."""
    folder = tmp_path_factory.mktemp("camera")
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        blocks = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)[: SIZE[0], : SIZE[1]]
        Image.fromarray(blocks).save(folder / f"f{i}.png")  # of which f10 is the last
    return folder


@pytest.fixture
def installed():
    if not av_installed():
        pytest.skip(f"needs `{INSTALL_AV}`")


@pytest.fixture
def video(installed, camera, tmp_path):
    """The same frames as a video without loss."""
    import av

    pictures = [Image.open(camera / f"f{i}.png") for i in range(COUNT)]
    return encoded(av, tmp_path / "drive.mkv", "ffv1", "bgr0", [np.asarray(picture) for picture in pictures])


def encoded(av, path, codec, pixels, pictures):
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pixels
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def decoded(path):
    """A video's frames (H, W, 3), and its codec and frames per second."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        kind = stream.codec_context.name, stream.average_rate
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], kind


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["effiseg", "predict", *map(str, arguments)])
    main()


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", [None, "onnx", "openvino"])
@pytest.mark.parametrize("source", ["video", "camera"])
def test_frames_are_coloured_as_pictures_are(
    request, installed, camera, exported, card, tmp_path, monkeypatch, capsys, runtime, source
):
    if runtime == "openvino" and not openvino_installed():
        pytest.skip("needs openvino")
    model = ["--model", exported.folder, *(["--runtime", runtime] if runtime else [])]
    out = tmp_path / "new/out.mkv"

    rate = ["--fps", "10"] if source == "camera" else []
    command(monkeypatch, request.getfixturevalue(source), *model, "--out", out, *rate)

    told = r"in [\d.]+ s, [\d.]+ frames per second \(the network by itself [\d.]+\)\n"
    assert re.fullmatch(rf"{out}: by {card.name}, {COUNT} frames {told}", capsys.readouterr().out)
    assert [path.name for path in out.parent.iterdir()] == ["out.mkv"]
    command(monkeypatch, *(camera / f"f{i}.png" for i in range(COUNT)), *model, "--out", tmp_path / "pictures")
    frames, kind = decoded(out)
    assert len(frames) == COUNT and kind == ("ffv1", 10)
    for i, frame in enumerate(frames):
        picture = np.asarray(Image.open(tmp_path / f"pictures/f{i}.png"))[: SIZE[0], : SIZE[1]]  # the legend is below
        np.testing.assert_array_equal(frame, picture)


def test_options_of_the_network_count_here_too(video, exported, tmp_path, monkeypatch):
    model = ("--model", exported.folder / "checkpoint")
    for name, options in {"plain": (), "other": ("--flip", "--zoom", "1.5")}.items():
        command(monkeypatch, video, *model, "--out", tmp_path / f"{name}.mkv", *options)
    plain, other = (np.stack(decoded(tmp_path / f"{name}.mkv")[0]) for name in ("plain", "other"))
    assert plain.shape == other.shape and (plain != other).any()


def test_h264_shows_the_same_to_the_eye(video, exported, tmp_path, monkeypatch):
    for name in ("a.mp4", "a.mkv"):
        command(monkeypatch, video, "--model", exported.folder / "model.onnx", "--out", tmp_path / name)
    (lossy, kind), (exact, _) = (decoded(tmp_path / name) for name in ("a.mp4", "a.mkv"))
    assert kind == ("h264", 10)
    assert lossy[0].shape == (44, 62, 3)
    for found, expected in zip(lossy, exact, strict=True):
        assert np.abs(found[: SIZE[0], : SIZE[1]].astype(int) - expected).mean() < 10


def test_the_rates_are_told():
    assert Pace(40, 10.0, 8.0).told() == "40 frames in 10.0 s, 4.00 frames per second (the network by itself 5.00)"


# --- refusals ---------------------------------------------------------------------------------------------------------


REFUSED = {
    "a folder": (("VIDEO", "--out", "new"), "--out new: expected a video to write, named .mp4, .mov, .mkv"),
    "no container": (("VIDEO", "--out", "new.xyz"), "--out new.xyz: expected a video to write, named .mp4, .mov, .mkv"),
    "another container": (("CAMERA", "--out", "new.avi"), "--out new.avi: expected a video to write, named"),
    "two videos": (
        ("VIDEO", "VIDEO", "--out", "new.mp4"),
        "a video beside other pictures or videos",
    ),
    "no such video": (("gone.mp4", "--out", "new.mp4"), "gone.mp4: not found, expected a video"),
    "itself": (("VIDEO", "--out", "VIDEO", "--overwrite"), "is one of the files to read; choose another"),
    "what exists": (
        ("VIDEO", "--out", "old.mp4"),
        "--out old.mp4: exists already; choose another, or",
    ),
    "labels": (("VIDEO", "--out", "new.mp4", "--labels"), "--labels: of a folder of pictures, and --out new.mp4"),
    "truth": (("CAMERA", "--out", "new.mp4", "--truth", "."), "--truth: of a folder of pictures, and --out new.mp4"),
    "a rate of a video": (("VIDEO", "--out", "new.mp4", "--fps", "5"), "--fps: of pictures alone, and "),
    "a rate of a folder": (("CAMERA", "--out", "new", "--fps", "5"), "--fps: of a video, and --out new is a folder"),
    "an empty folder": (("empty", "--out", "new.mp4"), "empty: no picture there, expected a folder with pictures"),
    "no video": (("text.mp4", "--out", "new.mp4"), "text.mp4: no video that ffmpeg reads"),
    "no model": (("VIDEO", "--out", "new.mp4", "--model", "a/b.onnx"), "a/b.onnx: not found"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_one_error_and_writes_nothing(
    camera, video, exported, tmp_path, monkeypatch, capsys, case
):
    arguments, told = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("old.mp4", "text.mp4"):
        (tmp_path / name).write_text("text")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    names = {"VIDEO": video, "CAMERA": camera}

    with pytest.raises(EffiSegError, match=re.escape(told)):
        command(monkeypatch, "--model", exported.folder, *(names.get(each, each) for each in arguments))

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("rate", ["0", "-1", "fast", "1/0", "2000"])
def test_a_rate_that_is_none_is_refused(monkeypatch, capsys, rate):
    with pytest.raises(SystemExit):
        command(monkeypatch, "in", "--model", "kd-0", "--out", "a.mp4", f"--fps={rate}")
    assert f"{rate} is not above 0 and up to 1000" in capsys.readouterr().err


def test_a_rate_of_many_digits_is_rounded_to_what_a_video_can_have(camera, exported, tmp_path, monkeypatch, installed):
    out = tmp_path / "a.mkv"
    command(monkeypatch, camera, "--model", exported.folder, "--out", out, "--fps", "3.14159265358979")
    assert len(decoded(out)[0]) == COUNT


def test_what_exists_is_replaced_when_asked(video, exported, tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_text("old")
    command(monkeypatch, video, "--model", exported.folder, "--out", tmp_path / "a.mp4", "--overwrite")
    assert len(decoded(tmp_path / "a.mp4")[0]) == COUNT


@pytest.mark.parametrize("source", ["video", "camera"])
def test_damage_on_the_way_leaves_nothing(installed, camera, exported, tmp_path, monkeypatch, source):
    import av

    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(40)]
    (tmp_path / "in").mkdir()
    if source == "video":
        path = encoded(av, tmp_path / "in/a.mkv", "ffv1", "bgr0", pictures)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        for i, picture in enumerate(pictures):
            Image.fromarray(picture if i != 30 else picture[1:]).save(tmp_path / f"in/{i}.png")
        path = tmp_path / "in"

    told = {"video": r"a\.mkv: damaged after \d+ frames", "camera": r"in/30\.png: 61x42, but the first frame is 61x43"}
    with pytest.raises(EffiSegError, match=told[source]):
        command(monkeypatch, path, "--model", exported.folder, "--out", tmp_path / "out/a.mp4")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("suffix", ENCODINGS)
def test_without_the_extra_it_is_one_error_with_what_installs_it(camera, tmp_path, monkeypatch, suffix):
    monkeypatch.setitem(sys.modules, "av", None)
    told = r"^videos need av, which is not installed; run `make setup-video`, or elsewhere `pip install av==[0-9.]+`$"
    with pytest.raises(EffiSegError, match=told):
        command(monkeypatch, camera, "--model", "kd-0", "--out", tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_the_command_installs_what_the_extra_pins(repository):
    pins = (repository / "requirements-video.in").read_text().splitlines()[1:]
    assert [pin.split("#")[0].strip() for pin in pins] == [INSTALL_AV.removeprefix("pip install ")]


@pytest.mark.timeout(60)
def test_ctrl_c_leaves_nothing(camera, exported, card, tmp_path, monkeypatch, installed, ctrl_c):
    predicted = []

    def slow(self, pictures):
        predicted.extend(pictures)
        if len(predicted) >= 8:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        return [np.zeros(SIZE, np.uint8) for _ in pictures]

    monkeypatch.setattr(Predictor, "__call__", slow)
    with pytest.raises(KeyboardInterrupt):
        command(monkeypatch, camera, "--model", exported.folder, "--out", tmp_path / "out/a.mkv")
    assert list((tmp_path / "out").iterdir()) == []
