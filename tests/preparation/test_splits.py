"""Which samples are learned and which are scored: splits, parts of splits, lists of names, groups."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from effiseg.base.errors import EffiSegError
from effiseg.preparation.sources import Listing, list_pairs
from tests.settings import data_settings

CLASSES = [{"name": "a", "colour": [0, 0, 0], "ids": 0}]


def made(root: Path, splits: dict[str, Any], files: list[str], **changes: Any) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    table = {"name": "mine", "title": "Mine", "classes": CLASSES, "splits": splits, **changes}
    YAML().dump(table, root / "dataset.yaml")
    return root


def listed(root: Path, **settings: Any) -> Listing:
    return list_pairs(data_settings(str(root / "dataset.yaml"), root, **settings))


def names(listing: Listing) -> dict[str, list[str]]:
    assert listing.problems == []
    return {role: [pair.name for pair in pairs] for role, pairs in listing.pairs.items()}


def own(split: str) -> dict[str, str]:
    return {"images": f"{split}/{{name}}.jpg", "labels": f"{split}/{{name}}_L.png"}


def pair(split: str, name: str) -> list[str]:
    return [f"{split}/{name}.jpg", f"{split}/{name}_L.png"]


@pytest.fixture
def three(tmp_path: Path) -> Path:
    files = [
        file for split in ("train", "val", "test") for name in ("1", "2") for file in pair(split, f"{split[0]}{name}")
    ]
    return made(tmp_path, {split: own(split) for split in ("train", "val", "test")}, files)


def test_any_split_serves_for_either(three: Path):
    assert names(listed(three)) == {"train": ["t1", "t2"], "val": ["v1", "v2"]}
    assert names(listed(three, score_on="test"))["val"] == ["t1", "t2"]
    assert names(listed(three, train_on=["val"], score_on="train")) == {"train": ["v1", "v2"], "val": ["t1", "t2"]}


def test_names_of_several_splits_begin_with_their_split(three: Path):
    found = names(listed(three, train_on=["train", "val"], score_on="test"))
    assert found["train"] == ["train/t1", "train/t2", "val/v1", "val/v2"]
    assert found["val"] == ["t1", "t2"]
    assert names(listed(three, train_on=["train", "val"], held_out=["val/"]))["val"] == ["val/v1", "val/v2"]


def test_a_split_that_the_table_lacks_is_told(tmp_path: Path):
    root = made(tmp_path, {"train": own("train"), "val": own("val")}, pair("train", "a") + pair("val", "b"))
    with pytest.raises(EffiSegError, match="data set mine has no split 'test', only train, val"):
        listed(root, score_on="test")


def test_a_part_of_a_split_takes_whole_groups_and_leaves_the_rest(tmp_path: Path):
    samples = [f"{drive}_{frame}" for drive in "abcdef" for frame in (1, 2)]
    splits = {"train": own("train"), "val": {"part_of": "train", "every": 3}}
    files = [file for name in samples for file in pair("train", name)]
    root = made(tmp_path, splits, files, groups=["{group}_{frame}"])
    found = names(listed(root))
    assert found["val"] == ["a_1", "a_2", "d_1", "d_2"]
    assert sorted(found["train"] + found["val"]) == samples
    assert listed(root).pairs["val"][1].group == ("a", 2)


def test_groups_are_held_out_by_their_names(tmp_path: Path):
    files = [file for name in ("x/d1_1", "x/d1_2", "y/d2_1") for file in pair("train", name)]
    root = made(tmp_path, {"train": own("train"), "val": own("train")}, files, groups=["*/{group}_{frame}"])
    assert names(listed(root, held_out=["d2"])) == {"train": ["x/d1_1", "x/d1_2"], "val": ["y/d2_1"]}


def test_a_list_of_names_chooses_and_names_what_is_missing(tmp_path: Path):
    both = {"images": "all/{name}.jpg", "labels": "all/{name}_L.png"}
    splits = {split: {**both, "names": f"{split}.txt"} for split in ("train", "val")}
    root = made(tmp_path, splits, [file for name in "abc" for file in pair("all", name)])
    (root / "train.txt").write_text("a\n\nc\r\n")
    (root / "val.txt").write_text("b")
    assert names(listed(root)) == {"train": ["a", "c"], "val": ["b"]}
    (root / "val.txt").write_text("b\nd")
    (problem,) = listed(root).problems
    assert problem.path == root / "val.txt"
    assert problem.text.startswith("names d, of which there is no all/d.jpg")
    (root / "val.txt").unlink()
    assert "cannot be read (No such file or directory)" in listed(root).problems[0].text


def test_images_and_labels_of_one_folder_are_told_apart(tmp_path: Path):
    files = ["a.png", "a_L.png", "b.png", "b_L.png"]
    splits = {"train": {"images": "{name}.png", "labels": "{name}_L.png"}, "val": {"part_of": "train", "every": 2}}
    assert names(listed(made(tmp_path, splits, files))) == {"train": ["b"], "val": ["a"]}
