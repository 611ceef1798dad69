"""`data check`: all problems together, what is only remarkable, and the page."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effiseg.base.errors import EffiSegError
from effiseg.data.dataset import open_dataset
from effiseg.intake.commands import data_check
from effiseg.intake.init import init
from effiseg.intake.inspect import Inspection, inspect, shift_of
from tests.datasets.made_up import KINDS, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(KINDS["colours"], tmp_path / "data")
    init(tmp_path / "data", workers=1)
    return tmp_path / "data"


def found(root: Path) -> Inspection:
    return inspect(open_dataset(str(root)), root, workers=1)


def files(root: Path, split: str, number: int) -> tuple[Path, Path]:
    return root / f"{split}/bild {number} ä.png", root / f"{split}_labels/bild {number} ä_L.png"


def test_a_sound_data_set_has_no_problems_and_is_counted(root: Path):
    result = found(root)
    assert result.problems == []
    train = result.splits["train"]
    assert (len(train.pairs), train.groups, dict(train.sizes)) == (6, 6, {(48, 96): 6})
    labels = np.stack([np.asarray(Image.open(path)) for path in sorted((root / "train_labels").iterdir())])
    for index, entry in enumerate(result.dataset.classes):
        mask = (labels == entry.colour).all(axis=-1)
        assert train.pixels[index] == mask.sum()
        assert train.images[index] == mask.any(axis=(1, 2)).sum()


def test_all_problems_are_told_together(root: Path, tmp_path: Path):
    files(root, "train", 0)[1].unlink()
    files(root, "train", 1)[0].write_bytes(b"rubbish")
    painted = np.array(Image.open(files(root, "train", 2)[1]))
    painted[0, :3] = [1, 2, 3]
    Image.fromarray(painted).save(files(root, "train", 2)[1])
    Image.open(files(root, "train", 3)[1]).resize((48, 24), Image.Resampling.NEAREST).save(files(root, "train", 3)[1])
    Image.open(files(root, "val", 0)[1]).save(files(root, "val", 0)[1], format="JPEG")
    shutil.copy(files(root, "train", 4)[0], files(root, "val", 1)[0])
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    with pytest.raises(EffiSegError) as caught:
        data_check(root, None, tmp_path / "page")
    message = str(caught.value)
    assert message.startswith(f"{root}: 6 problems: [1] ")
    for told in (
        "bild 0 ä.png: its label train_labels/bild 0 ä_L.png is missing",
        "bild 1 ä.png: not a PNG, JPEG, WEBP, BMP or TIFF file",
        "[1, 2, 3] in 3 pixels (nearest: class 0 [0, 64, 64])",
        "24x48 (height x width), but its image, upright, is 48x96 (height x width): one of them was resized",
        "JPEG changes labels as it compresses",
        "val/bild 1 ä.png: the same picture as bild 4 ä.png of train, in val",
    ):
        assert told in message
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    page = (tmp_path / "page/index.html").read_text()
    assert "Problems: 6" in page and "data:image/png;base64," in page


def test_what_only_people_can_judge_is_a_warning(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    Image.fromarray(np.full((48, 96, 3), [0, 64, 64], np.uint8)).save(files(root, "train", 0)[1])
    shutil.copy(files(root, "train", 1)[0], files(root, "train", 2)[0])
    data_check(root, None, tmp_path / "page")
    out, err = capsys.readouterr()
    assert "train: 6 images, 6 groups, 48x96 (height x width), void 0.0%" in out
    assert err.startswith("warning: ")
    assert "one class alone, class 0: look whether the label is complete" in err
    assert "bild 2 ä.png: the same picture as bild 1 ä.png, twice in train" in err


def test_a_split_that_is_not_there_is_a_remark_and_no_split_at_all_a_problem(root: Path, tmp_path: Path):
    for folder in ("val", "val_labels"):
        shutil.rmtree(root / folder)
    result = found(root)
    assert (result.problems, [remark.text for remark in result.remarks]) == ([], ["the split val is not there"])
    with pytest.raises(EffiSegError, match="no folder train, train_labels, val, val_labels"):
        (tmp_path / "empty").mkdir()
        data_check(tmp_path / "empty", str(root / "dataset.yaml"), tmp_path / "page")


def test_a_label_that_is_shifted_is_remarked_and_one_in_place_is_not():
    draw = np.random.default_rng(3)
    label = np.kron(draw.integers(0, 4, (6, 8)), np.ones((32, 32), int)).astype(np.uint8)
    image = Image.fromarray((label * 60 + draw.integers(0, 20, label.shape)).astype(np.uint8)).convert("RGB")
    assert shift_of(image, label) == (0, 0)
    down, right = shift_of(image, np.roll(label, (16, -20), axis=(0, 1)))
    assert (down, right) == pytest.approx((-8, 8), abs=2)
    flat = Image.new("RGB", (256, 192))
    assert shift_of(flat, label) == (0, 0)


def test_the_page_goes_nowhere_into_the_data_and_a_table_is_asked_for(root: Path, tmp_path: Path):
    with pytest.raises(EffiSegError, match="lies in the data set, where DVC would see a change"):
        data_check(root, None, root / "page")
    (root / "dataset.yaml").rename(tmp_path / "table.yaml")
    with pytest.raises(EffiSegError, match=r"dataset\.yaml: not found; `python -m effiseg data init"):
        data_check(root, None, tmp_path / "page")
    data_check(root, str(tmp_path / "table.yaml"), tmp_path / "page")


def test_groups_that_fit_nothing_or_stand_in_two_splits_are_remarked(root: Path):
    table = root / "dataset.yaml"
    text = table.read_text()
    table.write_text(text.replace("groups: []", "groups: ['{group}_{frame}']"))
    assert any("9 of 9 names fit no template of `groups`" in each.text for each in found(root).remarks)
    table.write_text(text.replace("groups: []", "groups: ['bild {frame} {group}']"))
    assert any("the group ä stands in train and val" in each.text for each in found(root).remarks)


def test_one_class_alone_and_palettes_that_differ_are_remarked(tmp_path: Path):
    root = tmp_path / "data"
    write(KINDS["palette"], root)
    init(root, workers=1)
    label = next((root / "SegmentationClass/train").iterdir())
    image = Image.open(label)
    image.putpalette([value for i in range(256) for value in (i, i, 9)])
    image.save(label)
    assert any("in its palette and" in each.text for each in found(root).remarks)
    table = root / "dataset.yaml"
    lines = [line for line in table.read_text().splitlines() if not line.startswith("void")]
    kept = [line for line in lines if "ids: [" not in line or "ids: [1]" in line]
    table.write_text("\n".join([*kept, "void: {rest: true}"]))
    assert any("one class and nothing beside it" in each.text for each in found(root).remarks)


def test_a_list_without_names_is_a_problem(root: Path):
    table = root / "dataset.yaml"
    table.write_text(table.read_text().replace("  val:\n", "  val:\n    names: none.txt\n"))
    (root / "none.txt").write_text("\n")
    assert any("names no sample" in each.text for each in found(root).problems)
