"""From raw folders to the prepared form, and opening it."""

import errno
import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effiseg.data import prepare as module
from effiseg.data.labels import CAMVID, CITYSCAPES
from effiseg.data.prepare import PAPER_WEIGHTS, prepare
from effiseg.data.prepared import Prepared
from effiseg.errors import EffiSegError

FULL = (24, 48)
SIZE = (8, 16)
TRAIN = ("aachen/a_0", "aachen/a_1", "ulm/u_0")
VAL = ("bonn/b_0", "bonn/b_1")
REPOSITORY = Path(__file__).parents[2]
needs_fork = pytest.mark.skipif(
    multiprocessing.get_start_method() != "fork", reason="workers inherit the patch by fork"
)


def write_png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_cityscapes(root: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for split, names in (("train", TRAIN), ("val", VAL)):
        for name in names:
            write_png(image_path(root, split, name), rng.integers(0, 256, (*FULL, 3), dtype=np.uint8))
            write_png(label_path(root, split, name), rng.integers(0, 34, FULL, dtype=np.uint8))
    return root


def image_path(root: Path, split: str, name: str) -> Path:
    return root / f"leftImg8bit/{split}/{name}_leftImg8bit.png"


def label_path(root: Path, split: str, name: str) -> Path:
    return root / f"gtFine/{split}/{name}_gtFine_labelIds.png"


def write_camvid(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(2):
            write_png(root / f"{split}/{number}.jpg", rng.integers(0, 256, (*FULL, 3), dtype=np.uint8))
            write_png(root / f"{split}annot/{number}.png", rng.integers(0, 12, FULL, dtype=np.uint8))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_cityscapes(tmp_path / "raw")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "build" / "prepared"


def prepared(root: Path, out: Path, source: str = "cityscapes", **settings) -> Prepared:
    prepare(source, root, out, **{"size": SIZE, "workers": 1, **settings})
    return Prepared.open(out)


def refused(root: Path, out: Path, source: str = "cityscapes", **settings) -> str:
    """The one-line message of a preparation that must fail and leave nothing behind."""
    with pytest.raises(EffiSegError) as caught:
        prepared(root, out, source, **settings)
    message = str(caught.value)
    assert message.isprintable()
    assert entries(out) == []
    return message


def entries(out: Path) -> list[str]:
    return sorted(entry.name for entry in out.parent.iterdir()) if out.parent.exists() else []


# --- content ----------------------------------------------------------------------------------------------------------


def test_the_arrays_are_the_decoded_and_resized_files(root: Path, out: Path):
    data = prepared(root, out)
    assert (data.path, data.source, data.size, data.full_size) == (out, "cityscapes", SIZE, FULL)
    assert (data.classes, data.colours, data.num_classes) == (CITYSCAPES.classes, CITYSCAPES.colours, 19)
    assert (data.train.names, data.val.names, len(data.train), len(data.val)) == (TRAIN, VAL, 3, 2)
    table = CITYSCAPES.lookup().astype(np.uint8)
    for split, content, label_size in (("train", data.train, SIZE), ("val", data.val, FULL)):
        assert isinstance(content.images, np.memmap)
        assert content.images.shape == (len(content), 3, *SIZE)
        assert content.labels.shape == (len(content), *label_size)
        assert content.images.dtype == content.labels.dtype == np.uint8
        for index, name in enumerate(content.names):
            image = Image.open(image_path(root, split, name)).resize(SIZE[::-1], Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(content.images[index], np.asarray(image).transpose(2, 0, 1))
            label = Image.open(label_path(root, split, name)).resize(label_size[::-1], Image.Resampling.NEAREST)
            np.testing.assert_array_equal(content.labels[index], table[np.asarray(label)])
    assert entries(out) == ["prepared"]


def test_pixels_are_counted_on_train_ids_before_resizing(root: Path, out: Path):
    data = prepared(root, out)
    for split, names in (("train", TRAIN), ("val", VAL)):
        raw = np.stack([np.asarray(Image.open(label_path(root, split, name))) for name in names])
        train_ids = CITYSCAPES.lookup()[raw]
        assert data.pixel_counts[split] == [int((train_ids == number).sum()) for number in range(19)]
        assert data.void_pixels[split] == (train_ids == 255).sum()


def test_computed_weights_follow_the_share_and_absent_classes_get_the_largest(root: Path, out: Path):
    ids = np.full(FULL, 7, np.uint8)  # road; 3/4 of what is not void
    ids[0], ids[1:6] = 0, 11  # void and building
    for name in TRAIN:
        write_png(label_path(root, "train", name), ids)
    weights = prepared(root, out).class_weights
    assert weights[0] == pytest.approx(1 / math.log(1.10 + 18 / 23))
    assert weights[2] == pytest.approx(1 / math.log(1.10 + 5 / 23))
    assert weights[1] == weights[18] == pytest.approx(1 / math.log(1.10))


def test_paper_weights_are_the_table_of_cityscapes(root: Path, out: Path):
    assert prepared(root, out, class_weights="paper").class_weights == list(PAPER_WEIGHTS)
    assert len(PAPER_WEIGHTS) == 19
    shutil.rmtree(out)
    assert "data.class_weights" in refused(root, out, "camvid", class_weights="paper")


def test_camvid(tmp_path: Path, out: Path):
    root = write_camvid(tmp_path / "camvid")
    data = prepared(root, out, "camvid")
    assert data.classes == CAMVID.classes
    assert data.val.names == ("0", "1")
    raw = np.asarray(Image.open(root / "valannot/1.png"))
    np.testing.assert_array_equal(data.val.labels[1], np.where(raw == 11, 255, raw))


def test_the_digest_depends_on_content_alone(root: Path, out: Path, tmp_path: Path):
    first = prepared(root, out).digest
    arrays = {file.relative_to(out): file.read_bytes() for file in out.rglob("*.npy")}
    elsewhere = root.rename(tmp_path / "elsewhere")
    for workers in (1, 2, 3, None):
        assert prepared(elsewhere, out, workers=workers).digest == first
        assert {file.relative_to(out): file.read_bytes() for file in out.rglob("*.npy")} == arrays
    assert prepared(elsewhere, out, "synthetic").digest == first
    assert prepared(elsewhere, out, size=(8, 8)).digest != first
    label = label_path(elsewhere, "val", VAL[0])
    ids = np.array(Image.open(label))
    ids[5, 5] = 7 if ids[5, 5] != 7 else 8
    write_png(label, ids)
    assert prepared(elsewhere, out).digest != first


def test_the_digest_depends_on_the_names(root: Path, out: Path):
    first = prepared(root, out).digest
    for path in (image_path, label_path):
        path(root, "val", VAL[1]).rename(path(root, "val", "bonn/b_2"))
    assert prepared(root, out).digest != first


# --- bad data ---------------------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("workers", [1, 2])
def test_all_problems_of_both_splits_are_reported_together(root: Path, out: Path, workers: int):
    label_path(root, "train", TRAIN[0]).unlink()
    truncate(image_path(root, "train", TRAIN[1]))
    label_path(root, "val", VAL[0]).write_bytes(b"")
    image_path(root, "val", VAL[0]).write_text("no image")
    write_png(label_path(root, "val", VAL[1]), np.full(FULL, 40, np.uint8))
    message = refused(root, out, workers=workers)
    assert message.startswith(f"data.root {root} (source cityscapes): 5 problems: [1] leftImg8bit/train/aachen/a_0_")
    assert "[2] leftImg8bit/train/aachen/a_1_leftImg8bit.png: truncated or damaged image (" in message
    assert "[3] leftImg8bit/val/bonn/b_0_leftImg8bit.png: not a PNG or JPEG file" in message
    assert "[4] gtFine/val/bonn/b_0_gtFine_labelIds.png: empty file (0 bytes): copy it again" in message
    assert "[5] gtFine/val/bonn/b_1_gtFine_labelIds.png: unknown label ids 40" in message


def test_an_image_and_its_label_must_have_one_size(root: Path, out: Path):
    write_png(label_path(root, "train", TRAIN[2]), np.zeros((12, 48), np.uint8))
    message = refused(root, out)
    assert "u_0_gtFine_labelIds.png: 12x48 (height x width), but its image is 24x48 (height x width)" in message
    assert "1 problem:" in message


@pytest.mark.parametrize("odd", VAL[:1] + TRAIN[:1])
def test_a_split_must_have_one_size(root: Path, out: Path, odd: str):
    split = "val" if odd in VAL else "train"
    if split == "val":
        for path in (image_path, label_path):
            shutil.copy(path(root, "val", VAL[1]), path(root, "val", "bonn/b_2"))
    write_png(image_path(root, split, odd), np.zeros((10, 20, 3), np.uint8))
    write_png(label_path(root, split, odd), np.zeros((10, 20), np.uint8))
    message = refused(root, out)
    assert f"1 problem: [1] leftImg8bit/{split}/{odd}_leftImg8bit.png: 10x20 (height x width), but 2 of 3" in message
    assert f"{split} images are 24x48 (height x width)" in message


def test_a_training_split_of_void_alone_is_refused_and_a_void_val_is_not(root: Path, out: Path):
    for name in VAL:
        write_png(label_path(root, "val", name), np.zeros(FULL, np.uint8))
    assert prepared(root, out).pixel_counts["val"] == [0] * 19
    shutil.rmtree(out)
    for name in TRAIN:
        write_png(label_path(root, "train", name), np.zeros(FULL, np.uint8))
    assert "every pixel of the training labels is void" in refused(root, out)


def test_no_sound_label_in_val_at_all(root: Path, out: Path):
    for name in VAL:
        truncate(label_path(root, "val", name))
    assert "2 problems" in refused(root, out)


def test_a_missing_root_and_an_empty_split(root: Path, out: Path):
    assert "1 problem: [1] no such folder" in refused(root / "none", out)
    shutil.rmtree(root / "gtFine/val")
    shutil.rmtree(root / "leftImg8bit/val")
    assert "1 problem: [1] no folder leftImg8bit/val, gtFine/val (it holds gtFine, leftImg8bit)" in refused(root, out)
    (root / "gtFine/val").mkdir()
    (root / "leftImg8bit/val").mkdir()
    assert "1 problem: [1] leftImg8bit/val: no images (expected " in refused(root, out)


# --- the folder -------------------------------------------------------------------------------------------------------


def test_a_failing_preparation_keeps_the_old_folder_and_a_sound_one_replaces_it(root: Path, out: Path):
    old = prepared(root, out).digest
    label = label_path(root, "val", VAL[0])
    whole = label.read_bytes()
    truncate(label)
    with pytest.raises(EffiSegError, match="1 problem"):
        prepared(root, out)
    assert Prepared.open(out).digest == old
    assert entries(out) == ["prepared"]
    label.write_bytes(whole)
    assert prepared(root, out, size=(16, 16)).size == (16, 16)
    assert entries(out) == ["prepared"]


def test_what_a_killed_run_left_is_cleaned_up(root: Path, out: Path):
    digest = prepared(root, out).digest
    shutil.copytree(out, out.with_name(".prepared.partial"))
    out.rename(out.with_name(".prepared.old"))  # killed between the two renames
    image_path(root, "val", VAL[0]).unlink()
    with pytest.raises(EffiSegError):
        prepared(root, out)
    assert Prepared.open(out).digest == digest
    assert entries(out) == ["prepared"]


def test_a_linked_folder_stays_a_link_and_an_empty_one_is_filled(root: Path, out: Path, tmp_path: Path):
    (tmp_path / "big_disk").mkdir()
    out.parent.mkdir()
    out.symlink_to(tmp_path / "big_disk")
    prepared(root, out)
    assert out.is_symlink()
    assert (tmp_path / "big_disk/index.json").exists()


def test_only_a_prepared_folder_is_replaced(root: Path, out: Path):
    with pytest.raises(EffiSegError, match="exists and is no prepared data set"):
        prepared(root, root)
    (root.parent / "index.json").touch()
    with pytest.raises(EffiSegError, match="would replace the raw data"):
        prepared(root, root.parent)
    file = root.parent / "file"
    file.touch()
    with pytest.raises(EffiSegError, match="exists and is no prepared data set"):
        prepared(root, file)
    assert prepared(root, out).digest


def test_a_parent_that_is_a_file(root: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(EffiSegError, match=r"file/out: cannot be written \(Not a directory\)"):
        prepared(root, tmp_path / "file" / "out")


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing past `size` bytes of a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_too_small(root: Path, out: Path):
    with file_size_limit(600):
        message = refused(root, out)
    assert message.startswith(f"{out}: cannot be written (File too large): free space there")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=needs_fork)])
def test_a_disk_that_fills_up_while_writing(root: Path, out: Path, monkeypatch: pytest.MonkeyPatch, workers: int):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.Rows, "write", full)
    message = refused(root, out, workers=workers)
    assert message.startswith(f"{out}: cannot be written (No space left on device): free space there")


# --- processes --------------------------------------------------------------------------------------------------------


@needs_fork
def test_a_killed_worker_is_an_error(root: Path, out: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "read_label", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    monkeypatch.setattr(module, "_first_size", lambda *_, **__: FULL)
    assert "a worker process was killed" in refused(root, out, workers=2)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=needs_fork)])
def test_an_unexpected_exception_comes_through_and_leaves_nothing(
    root: Path, out: Path, monkeypatch: pytest.MonkeyPatch, workers: int
):
    def fail(_: Path) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(module, "read_image", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        prepared(root, out, workers=workers)
    assert entries(out) == []


SLOW = """
import os, signal, sys, time
from pathlib import Path
from effiseg.data import prepare
def slow(path):
    (Path(sys.argv[2]).parent / f"worker{os.getpid()}").touch()
    time.sleep(0.2)
    return read(path)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
read, prepare.read_image = prepare.read_image, slow
prepare.prepare("cityscapes", Path(sys.argv[1]), Path(sys.argv[2]), size=(8, 16), workers=2)
"""


@contextmanager
def slow_run(root: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, both of whose workers are in the midst of preparing."""
    command = [sys.executable, "-c", SLOW, str(root), str(out)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=pipe, text=True, start_new_session=True) as process:
        wait_until(lambda: len(workers_seen(out)) == 2)
        yield process


def workers_seen(out: Path) -> list[Path]:
    return sorted(out.parent.glob("worker*"))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@needs_fork
def test_ctrl_c_leaves_nothing_behind(root: Path, out: Path):
    with slow_run(root, out) as process:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to parent and workers alike
        _, stderr = process.communicate(timeout=30)  # waits until nobody, worker or parent, holds the pipe
    assert process.returncode != 0
    assert stderr.count("Traceback") == 1  # the parent's own
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert len(entries(out)) == len(workers_seen(out))


@needs_fork
def test_workers_end_when_their_parent_is_killed(root: Path, out: Path):
    with slow_run(root, out) as process:
        process.kill()
        process.communicate(timeout=30)  # waits until nobody, worker or parent, holds the pipe
    assert not out.exists()
    assert prepared(root, out).digest
    assert entries(out)[0] == "prepared"  # and no hidden ones, which would sort before it


# --- opening ----------------------------------------------------------------------------------------------------------


def rewritten(out: Path, **changes: object) -> None:
    index = json.loads((out / "index.json").read_text())
    (out / "index.json").write_text(json.dumps(index | changes))


def save_images(out: Path, array: np.ndarray) -> None:
    np.save(out / "val/images.npy", array)


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda out: shutil.rmtree(out), r"index\.json: .*No such file"),
        (lambda out: (out / "index.json").write_text("{"), r"index\.json: .*Invalid JSON"),
        (lambda out: (out / "index.json").write_bytes(b"\xff{}"), r"index\.json: "),
        (lambda out: rewritten(out, format=2), r"index\.json: .*format Input should be 1"),
        (lambda out: rewritten(out, splits={}), r"index\.json: .*expected train and val"),
        (lambda out: rewritten(out, class_weights=[1.0]), r"index\.json: .*19 classes, but another number"),
        (lambda out: rewritten(out, class_weights=[-1.0] * 19), r"index\.json: .*class_weights\.0 "),
        (lambda out: rewritten(out, extra=1), r"index\.json: .*extra"),
        (lambda out: rewritten(out, ignore_index=0), r"index\.json: .*ignore_index"),
        (lambda out: rewritten(out, size=[8, 8]), r"train/images\.npy: .*expected uint8 of shape \(3, 3, 8, 8\)"),
        (lambda out: (out / "train/labels.npy").unlink(), r"train/labels\.npy: .*No such file"),
        (lambda out: truncate(out / "val/images.npy"), r"val/images\.npy: .*"),
        (lambda out: (out / "val/images.npy").write_bytes(b""), r"val/images\.npy: .*"),
        (lambda out: (out / "val/images.npy").write_bytes(b"junk" * 99), r"val/images\.npy: .*"),
        (lambda out: save_images(out, np.zeros((2, 3, *SIZE))), r"val/images\.npy: .*float64"),
        (lambda out: save_images(out, np.zeros((2, 3, *SIZE), np.uint8, "F")), r"val/images\.npy: .*"),
        (lambda out: save_images(out, np.array([None])), r"val/images\.npy: .*"),
    ],
)
def test_a_damaged_folder_is_refused(root: Path, out: Path, damage: Callable[[Path], object], match: str):
    prepared(root, out)
    damage(out)
    with pytest.raises(EffiSegError, match=match + r".*prepare the data again$") as caught:
        Prepared.open(out)
    assert str(caught.value).isprintable()
