"""Finding the pairs of image and label in both layouts."""

import os
from pathlib import Path

import pytest

from effiseg.preparation import sources
from effiseg.preparation.problems import Problem, unusable
from effiseg.preparation.sources import Listing
from tests.settings import CAMVID, CITYSCAPES, data_settings

CITYSCAPES_FOLDERS = ("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val")
CAMVID_FOLDERS = ("train", "trainannot", "val", "valannot")


def touch(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def touch_pair(root: Path, split: str, name: str) -> None:
    touch(root, f"leftImg8bit/{split}/{name}_leftImg8bit.png", f"gtFine/{split}/{name}_gtFine_labelIds.png")


def list_pairs(source: str, root: Path) -> Listing:
    return sources.list_pairs(data_settings(source, root))


def names(listing, split: str) -> list[str]:
    return [pair.name for pair in listing.pairs[split]]


def texts(listing) -> str:
    return " | ".join(f"{problem.path}: {problem.text}" for problem in listing.problems)


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    touch_pair(tmp_path, "train", "ulm/ulm_000001_000019")
    touch_pair(tmp_path, "train", "aachen/aachen_000000_000019")
    touch_pair(tmp_path, "val", "lindau/lindau_000000_000019")
    return tmp_path


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    touch(tmp_path, "train/b.png", "trainannot/b.png", "train/a.JPG", "trainannot/a.png")
    touch(tmp_path, "val/c.jpeg", "valannot/c.PNG")
    return tmp_path


@pytest.mark.parametrize("source", ["cityscapes", "synthetic"])
def test_cityscapes_pairs_are_matched_and_sorted(cityscapes: Path, source):
    listing = list_pairs(source, cityscapes)
    assert listing.problems == []
    assert listing.dataset.space.classes == CITYSCAPES.classes
    assert names(listing, "train") == ["aachen/aachen_000000_000019", "ulm/ulm_000001_000019"]
    pair = listing.pairs["val"][0]
    assert pair.image == cityscapes / "leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png"
    assert pair.label == cityscapes / "gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png"


def test_what_else_an_official_download_holds_is_passed_over(cityscapes: Path):
    touch(cityscapes, "README", "license.txt", ".DS_Store", "leftImg8bit/train/README", "leftImg8bit/val/.DS_Store")
    touch(cityscapes, "leftImg8bit/test/berlin/berlin_0_0_leftImg8bit.png", "gtFine/test/berlin/berlin_0_0.json")
    touch(cityscapes, "leftImg8bit/train_extra/bonn/bonn_0_0_leftImg8bit.png")
    touch(cityscapes, "gtCoarse/train/ulm/ulm_000001_000019_gtCoarse_labelIds.png")
    base = "gtFine/val/lindau/lindau_000000_000019_gtFine"
    touch(cityscapes, *(f"{base}{end}" for end in ("_color.png", "_instanceIds.png", "_polygons.json")))
    touch(cityscapes, f"{base}_labelTrainIds.png", "gtFine/val/lindau/Thumbs.db")
    for twin in ("leftImg8bit/val/lindau/._lindau_000000_000019_leftImg8bit.png", "gtFine/val/._lindau"):
        touch(cityscapes, twin)
    touch(cityscapes, "gtFine/val/lindau/._lindau_000000_000019_gtFine_labelIds.png")
    listing = list_pairs("cityscapes", cityscapes)
    assert listing.problems == []
    assert sum(map(len, listing.pairs.values())) == 3


def test_camvid_pairs_are_matched_by_stem_in_any_case_and_test_is_passed_over(camvid: Path):
    touch(camvid, "test/x.png", "train/.DS_Store", "train/._a.png", "trainannot/Thumbs.db", "val/notes.txt")
    listing = list_pairs("camvid", camvid)
    assert listing.problems == []
    assert listing.dataset.space == CAMVID
    assert names(listing, "train") == ["a", "b"]
    assert names(listing, "val") == ["c"]


def test_the_same_stem_twice_is_a_problem(camvid: Path):
    touch(camvid, "train/b.jpg")
    listing = list_pairs("camvid", camvid)
    assert "train/b.png: the same sample as b.jpg: remove one" in texts(listing)


def test_images_without_labels_and_the_reverse_are_problems_and_the_rest_still_pairs(cityscapes: Path):
    touch(cityscapes, "leftImg8bit/train/ulm/alone_leftImg8bit.png", "gtFine/val/bonn/left_gtFine_labelIds.png")
    listing = list_pairs("cityscapes", cityscapes)
    assert len(listing.problems) == 2
    assert "alone_leftImg8bit.png: its label gtFine/train/ulm/alone_gtFine_labelIds.png is missing" in texts(listing)
    assert "left_gtFine_labelIds.png: its image leftImg8bit/val/bonn/left_leftImg8bit.png is missing" in texts(listing)
    assert len(listing.pairs["train"]) == 2


def test_a_root_that_is_missing_or_a_file(tmp_path: Path):
    touch(tmp_path, "file")
    assert "no such folder: correct data.root, or unpack" in texts(list_pairs("cityscapes", tmp_path / "none"))
    assert "not a folder" in texts(list_pairs("cityscapes", tmp_path / "file"))


@pytest.mark.parametrize("source", ["cityscapes", "camvid"])
def test_missing_folders_are_named_with_what_is_there(tmp_path: Path, source):
    assert "it is empty" in texts(list_pairs(source, tmp_path))
    touch(tmp_path, *(f"folder{number}/x" for number in range(9)))
    folders = CITYSCAPES_FOLDERS if source == "cityscapes" else CAMVID_FOLDERS
    for folder in folders[:-1]:
        (tmp_path / folder).mkdir(parents=True)
    listing = list_pairs(source, tmp_path)
    assert f"no folder {folders[-1]} (it holds folder0, " in texts(listing)
    assert ", ...)" in texts(listing)


def test_a_missing_val_does_not_hide_the_problems_of_train(tmp_path: Path):
    touch(tmp_path, "train/a.png", "trainannot/b.png")
    listing = list_pairs("camvid", tmp_path)
    assert [problem.text.split(":")[0] for problem in listing.problems] == [
        "no folder val, valannot (it holds train, trainannot)",
        "its label trainannot/a.{png,jpg,jpeg} is missing",
        "its image train/b.{png,jpg,jpeg} is missing",
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [("cityscapes", "leftImg8bit/val/<name>_leftImg8bit.png"), ("camvid", "val/<name>.{png,jpg,jpeg}")],
)
def test_an_empty_split_says_what_is_expected(tmp_path: Path, source, expected: str):
    for folder in CITYSCAPES_FOLDERS if source == "cityscapes" else CAMVID_FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    listing = list_pairs(source, tmp_path)
    assert f"no images (expected {expected})" in texts(listing)
    assert listing.pairs == {}


def test_a_folder_link_that_leads_nowhere_and_a_name_that_cannot_be_kept(cityscapes: Path):
    (cityscapes / "gtFine/val/bonn").symlink_to("nowhere")
    touch(cityscapes, "leftImg8bit/val/lindau/a\nb_leftImg8bit.png")
    listing = list_pairs("cityscapes", cityscapes)
    assert "gtFine/val/bonn: a link that leads nowhere" in texts(listing)
    error = unusable(data_settings("cityscapes", cityscapes), listing.problems)
    assert "'leftImg8bit/val/lindau/a\\nb_leftImg8bit.png': its name holds unprintable characters" in str(error)


def test_an_unlistable_folder_is_a_problem(cityscapes: Path, monkeypatch: pytest.MonkeyPatch):
    scandir = os.scandir

    def deny(folder):
        if Path(folder).name == "lindau":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", deny)
    assert "lindau: cannot be read (Permission denied)" in texts(list_pairs("cityscapes", cityscapes))


def test_many_problems_are_one_line_of_twenty():
    root = Path("/x")
    problems = [Problem(root / f"f{n}", f"bad\nfile{chr(96 + n)}: mend it") for n in range(1, 24)]
    message = str(unusable(data_settings("camvid", root), problems))
    assert message.startswith("data.root /x (source camvid): 23 problems: [1] f1: bad filea: mend it; [2] f2: ")
    assert message.endswith("[20] f20: bad filet: mend it; and 3 more")
    alike = [Problem(root / f"f{number}", f"{number} colours: mend it") for number in range(9)]
    assert "9 problems: [1] f0: 0 colours: mend it (and so 8 more); [2] x: gone" in str(
        unusable(data_settings("camvid", root), [*alike[:4], *alike[4:], Problem(root / "x", "gone")])
    ).replace("10 problems", "9 problems")
    assert "1 problem: [1] gone" in str(unusable(data_settings("camvid", root), [Problem(root, "gone")]))
