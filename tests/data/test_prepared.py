"""Opening prepared data that are damaged, and reading whole ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Prepared, Split


@pytest.fixture
def out(data: Prepared, tmp_path: Path) -> Path:
    """A sound folder to be damaged."""
    return Path(shutil.copytree(data.path, tmp_path / "prepared"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


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
        (lambda out: rewritten(out, format=1), r"index\.json: .*format Input should be 3"),
        (lambda out: rewritten(out, splits={}), r"index\.json: .*expected train and val"),
        (lambda out: rewritten(out, class_weights=[1.0]), r"index\.json: .*19 classes, but another number"),
        (lambda out: rewritten(out, class_weights=[-1.0] * 19), r"index\.json: .*class_weights\.0 "),
        (lambda out: rewritten(out, extra=1), r"index\.json: .*extra"),
        (lambda out: rewritten(out, label_sizes=[[64, 128]] * 3), r"index\.json: .*3 sizes of 5 val labels"),
        (lambda out: rewritten(out, size=[8, 8]), r"train/images\.npy: .*expected uint8 of shape \(10, 3, 8, 8\)"),
        (lambda out: (out / "train/labels.npy").unlink(), r"train/labels\.npy: .*No such file"),
        (lambda out: truncate(out / "val/images.npy"), r"val/images\.npy: .*"),
        (lambda out: (out / "val/images.npy").write_bytes(b""), r"val/images\.npy: .*"),
        (lambda out: (out / "val/images.npy").write_bytes(b"junk" * 99), r"val/images\.npy: .*"),
        (lambda out: save_images(out, np.zeros((5, 3, 32, 64))), r"val/images\.npy: .*float64"),
        (lambda out: save_images(out, np.zeros((5, 3, 32, 64), np.uint8, "F")), r"val/images\.npy: .*"),
        (lambda out: save_images(out, np.array([None])), r"val/images\.npy: .*"),
    ],
)
def test_a_damaged_folder_is_refused(out: Path, damage: Callable[[Path], object], match: str):
    damage(out)
    with pytest.raises(
        EffiSegError, match=match + r".*prepare the data again: `dvc repro --force --single-item prepare`$"
    ) as caught:
        Prepared.open(out)
    assert str(caught.value).isprintable()


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Split]:
    """A split of random images and labels in files of their own, opened as prepared data are."""

    def make(count: int, height: int = 4, width: int = 6) -> Split:
        rng = np.random.default_rng(0)
        for name, shape in (("images", (count, 3, height, width)), ("labels", (count, height, width))):
            np.save(tmp_path / f"{name}.npy", rng.integers(0, 256, shape, dtype=np.uint8))
        arrays = [np.lib.format.open_memmap(tmp_path / f"{name}.npy", mode="r") for name in ("images", "labels")]
        return Split(*arrays, tuple(map(str, range(count))))

    return make


def whole(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """All of a split in plain arrays."""
    return np.array(split.images), np.array(split.labels)


@pytest.mark.parametrize("indices", [[3], [4, 0, 2], [1, 1, 5], [], range(1, 6, 2), np.array([5, 3])], ids=repr)
def test_what_is_read_are_the_samples_asked_for_in_that_order(stored: Callable[..., Split], indices):
    split = stored(6)
    images, labels = whole(split)
    for _ in range(2):  # the first call lets go of the file's pages
        read_images, read_labels = split.read(indices)
        assert read_images.shape == (len(indices), 3, 4, 6)
        assert read_labels.shape == (len(indices), 4, 6)
        for place, index in enumerate(indices):
            assert np.array_equal(read_images[place], images[index])
            assert np.array_equal(read_labels[place], labels[index])


def test_what_is_read_are_copies(stored: Callable[..., Split]):
    split = stored(3)
    images, labels = whole(split)
    for array in split.read([0, 1]):
        assert type(array) is np.ndarray
        assert array.flags.writeable
        array[:] = 7
    assert np.array_equal(split.images, images)
    assert np.array_equal(split.labels, labels)


def test_a_part_of_the_files_and_plain_arrays_are_read_alike(stored: Callable[..., Split]):
    split = stored(6)
    images, labels = whole(split)
    part = Split(split.images[2:5], split.labels[2:5], split.names[2:5])
    plain = Split(images[2:5], labels[2:5], split.names[2:5])
    changed = Split(split.images, np.full_like(split.labels, 255), split.names)
    for each in (part, plain):
        read_images, read_labels = each.read([2, 0])
        assert np.array_equal(read_images, images[[4, 2]])
        assert np.array_equal(read_labels, labels[[4, 2]])
    assert np.array_equal(changed.read([1])[0], images[[1]])
    assert (changed.read([1])[1] == 255).all()


if Path("/proc/self/smaps").exists():  # where the system tells how much of a file is in a process's memory

    def resident_mb(path: Path) -> float:
        """How much of a file's memory maps counts as this process's memory."""
        total, inside = 0, False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            first = line.split()[0]
            if not first.endswith(":"):  # the head of a map, which ends in the path
                inside = line.endswith(str(path))
            elif inside and first == "Rss:":
                total += int(line.split()[1])
        return total / 1024

    def test_reading_all_of_a_file_leaves_none_of_it_in_memory(tmp_path: Path):
        arrays = []
        for name, shape in (("images", (64, 3, 512, 512)), ("labels", (64, 512, 512))):  # 48 and 16 MB, of holes
            np.lib.format.open_memmap(tmp_path / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape)
            arrays.append(np.lib.format.open_memmap(tmp_path / f"{name}.npy", mode="r"))
        split = Split(*arrays, tuple(map(str, range(64))))
        for start in range(0, len(split), 4):
            split.read(range(start, start + 4))
        assert resident_mb(tmp_path / "images.npy") < 2
        assert resident_mb(tmp_path / "labels.npy") < 2
        whole(split)  # without letting go
        assert resident_mb(tmp_path / "images.npy") > 40
        assert resident_mb(tmp_path / "labels.npy") > 12
