"""dataset.yaml: what it may say, which mistakes are told with which words, and which files its patterns mean."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from effiseg.base.errors import EffiSegError
from effiseg.data.dataset import SplitFiles, open_dataset, table_file
from effiseg.data.patterns import Pattern, group_regex

TABLE: dict[str, Any] = {
    "name": "mine",
    "title": "Mine",
    "classes": [{"name": "a", "colour": [0, 0, 0], "ids": 0}, {"name": "b", "colour": [1, 0, 0], "ids": [1, 7]}],
    "splits": {"train": {"images": "i/{name}.png", "labels": "m/{name}.png"}, "val": {"part_of": "train", "every": 5}},
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "dataset.yaml"
    YAML().dump({**TABLE, **changes}, path)
    return path


def test_a_table_is_found_by_its_path_its_folder_or_its_shipped_name(tmp_path: Path):
    path = written(tmp_path)
    assert open_dataset(str(path)) == open_dataset(str(tmp_path))
    assert open_dataset("camvid").name == "camvid"
    assert table_file("camvid").name == "camvid.yaml"
    with pytest.raises(
        EffiSegError, match=r"data\.source: 'imagenet' is neither a table .*camvid, .*nor the path of a"
    ):
        open_dataset("imagenet")
    with pytest.raises(EffiSegError, match=r"Hub becomes files first.*data fetch OWNER/NAME FOLDER --revision COMMIT"):
        open_dataset("huggingface")


def test_ids_may_be_one_number_and_splits_parts_of_others(tmp_path: Path):
    dataset = open_dataset(str(written(tmp_path)))
    assert [entry.ids for entry in dataset.classes] == [(0,), (1, 7)]
    assert isinstance(dataset.splits["train"], SplitFiles)
    assert dataset.space.of_id[[0, 1, 7, 2]].tolist() == [0, 1, 1, -1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"nme": 3}, "nme: unknown key; allowed here: name, title, classes, void"),
        ({"name": "my data"}, "name: String should match pattern"),
        ({"classes": []}, "at least 1 item"),
        ({"classes": [{"name": "a", "colour": [0, 0]}]}, "classes.0.colour.2: missing"),
        ({"classes": [{"name": "a", "colour": [0, 0, 256]}]}, "classes.0.colour.2: Input should be less than or equal"),
        (
            {"classes": [{"name": "a", "color": [0, 0, 0]}]},
            "classes.0.color: unknown key; allowed here: name, colour, ids",
        ),
        ({"void": {"ids": [7]}}, "id 7 stands twice (b, void)"),
        ({"void": {"id": [9]}}, "void.id: unknown key; allowed here: ids, colours, rest"),
        ({"groups": ["{grup}_{frame}"]}, "groups.0: '{grup}_{frame}' must hold {group} once"),
        ({"groups": ["{group}_{name}"]}, "groups.0: '{group}_{name}': braces hold {group} or {frame}"),
        ({"splits": {"train": {"images": "i/{name}.png", "lables": "x"}}}, "splits.train.lables: unknown key; allowed"),
        ({"splits": {"train": {"images": "i/x.png", "labels": "x/{name}"}}}, "pattern 'i/x.png' must hold {name} once"),
        ({"splits": {"train": {"images": "/i/{name}", "labels": "x/{name}"}}}, "pattern '/i/{name}' leaves data.root"),
        ({"splits": {"train": {"images": "../{name}", "labels": "x/{name}"}}}, "pattern '../{name}' leaves data.root"),
        ({"splits": {"train": {"images": "{nam}/{name}", "labels": "x/{name}"}}}, "braces hold {name}, or two endings"),
        ({"splits": {"train": {"images": 3, "labels": "x/{name}"}}}, "a pattern is text"),
        (
            {"splits": {"valid": {"images": "i/{name}", "labels": "x/{name}"}}},
            "Input should be 'train', 'val' or 'test'",
        ),
        ({"splits": {"val": {"part_of": "train", "every": 2}}}, "splits.val.part_of: 'train' is no split with files"),
        ({"splits": {"train": {"part_of": "train", "every": 1}}}, "splits.train.every: Input should be greater than"),
        ({"splits": {}}, "splits: none"),
        ({"splits": {"train": {"images": "x/{name}.png", "labels": "x/{name}.png"}}}, "are the same pattern"),
        ({"splits": {"train": {"images": "{folder}/i/{name}", "labels": "m/{name}"}}}, "in one of images and labels"),
        ({"published_weights": [1.0]}, "published_weights: 1 for 2 classes"),
    ],
)
def test_a_mistake_is_told_with_the_file_and_the_key(tmp_path: Path, changes: dict[str, Any], told: str):
    path = written(tmp_path, **changes)
    with pytest.raises(EffiSegError) as caught:
        open_dataset(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert told in message
    assert "[" not in message.split(":")[1]  # no sign of how splits are told apart


def test_what_is_no_yaml_is_told_with_the_file(tmp_path: Path):
    path = tmp_path / "dataset.yaml"
    path.write_text("a: [")
    with pytest.raises(EffiSegError, match=r"dataset\.yaml: not valid YAML"):
        open_dataset(str(path))


def test_the_fingerprint_is_of_what_prepared_data_follow_from(tmp_path: Path):
    first = open_dataset(str(written(tmp_path))).fingerprint
    assert open_dataset(str(written(tmp_path, citation="Doe", note="x", origin="y"))).fingerprint == first
    assert open_dataset(str(written(tmp_path, groups=["{group}_{frame}"]))).fingerprint != first


@pytest.mark.parametrize(
    ("pattern", "path", "name"),
    [
        ("i/{name}.png", "i/a b.png", "a b"),
        ("i/{name}.png", "i/x/ü.PNG", "x/ü"),
        ("i/{name}.png", "i/a.jpg", None),
        ("i/{name}.png", "j/i/a.png", None),
        ("{name}_L.{png,tif}", "a_L.TIF", "a"),
        ("{name}_L.{png,tif}", "a_l.png", None),
        ("**/images/{name}.jpg", "images/a.jpg", "a"),
        ("**/images/{name}.jpg", "x/y/images/a.jpg", "a"),
        ("*/train/{name}.jpg", "fog/train/s/a.jpg", "s/a"),
        ("*/train/{name}.jpg", "a/b/train/c.jpg", None),
        ("a+b/{name}.j?g", "a+b/x.jpg", "x"),
        ("v1.2/{name}.png", "v1.2/x.png", "x"),
        ("v1.2/{name}.png", "v102/x.png", None),
    ],
)
def test_patterns(pattern: str, path: str, name: str | None):
    match = Pattern.model_validate(pattern).regex.fullmatch(path)
    assert (match and match["name"]) == name


def test_folders_of_a_name_may_stand_before_others():
    pattern = Pattern.model_validate("d/{folder}/rgb/{name}.png")
    assert pattern.name_in("d/a/b/rgb/1.png") == "a/b/1"
    assert pattern.name_in("d/rgb/1.png") is None
    assert (pattern.path("a/b/1"), pattern.folder) == ("d/a/b/rgb/1.png", "d")


def test_the_folder_and_the_length_of_a_pattern():
    patterns = [
        Pattern.model_validate(text)
        for text in ("a/b/{name}.png", "{name}_L.png", "{name}.png", "a/*/c/{name}.{png,jpg}")
    ]
    assert [pattern.folder for pattern in patterns] == ["a/b", "", "", "a"]
    assert patterns[1].fixed > patterns[2].fixed


@pytest.mark.parametrize(
    ("template", "name", "expected"),
    [
        ("{group}_{frame}", "drive_2_007", ("drive_2", "007")),
        ("{group}/*", "patient 3/slice", ("patient 3", None)),
        ("*_{group}_f{frame}", "x_y_f12", ("y", "12")),
        ("**/{group}-{frame}", "a/b/c-1", ("c", "1")),
    ],
)
def test_groups(template: str, name: str, expected: tuple[str, str | None]):
    match = group_regex(template).fullmatch(name)
    assert match is not None
    assert (match["group"], match.groupdict().get("frame")) == expected
