"""Which files `data init` pairs, and what it makes of the values in label files."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from effiseg.base.errors import EffiSegError
from effiseg.data.dataset import open_dataset
from effiseg.intake.init import init
from effiseg.intake.pairing import find_splits
from effiseg.preparation.sources import list_splits

RNG = np.random.default_rng(0)
LAYOUTS = {
    "folders": ("images/{n}.jpg", "masks/{n}.png"),
    "one folder": ("data/{n}.jpg", "data/{n}_mask.png"),
    "one folder, one ending": ("{n}.png", "{n}_L.png"),
    "split below kind": ("img/{s}/{n}.jpg", "ann/{s}/{n}.png"),
    "kind below split": ("{s}/image/{n}.jpg", "{s}/label/{n}.png"),
    "annot": ("{s}/{n}.png", "{s}annot/{n}.png"),
    "cityscapes": ("leftImg8bit/{s}/c1/{n}_leftImg8bit.png", "gtFine/{s}/c1/{n}_gtFine_labelIds.png"),
    "other depth": ("images/10k/{s}/{n}.jpg", "labels/sem_seg/masks/{s}/{n}.png"),
    "both ends": ("{n}_sat.jpg", "{n}_mask.png"),
    "numbers": ("train/{n}.jpg", "train_gt/{n}.png"),
    "no words": ("a/{n}.jpg", "b/{n}.png"),
    "within sequences": ("q{n}/rgb/{n}.png", "q{n}/labels/{n}.png"),
    "within samples": ("{n}/image.jpg", "{n}/mask.png"),
    "within samples, named": ("{n}/images/{n}.png", "{n}/masks/{n}.png"),
    "words that hold others": ("valley contest/{n}.jpg", "valley contest masks/{n}.png"),
    "test alone": ("test/{n}.jpg", "test_masks/{n}.png"),
}


def write(root: Path, layout: tuple[str, str], splits: tuple[str, ...], count: int = 4) -> None:
    for split in splits:
        for number in range(count):
            paths = [root / form.format(s=split, n=f"scene_{number:03d}") for form in layout]
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(paths[0])
            Image.fromarray(np.repeat(RNG.integers(0, 3, (24, 1), dtype=np.uint8), 32, axis=1)).save(paths[1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_are_found_in_every_usual_layout(tmp_path: Path, layout: str):
    splits = ("train", "val", "test") if "{s}" in LAYOUTS[layout][0] else ("",)
    write(tmp_path, LAYOUTS[layout], splits)
    found = find_splits(tmp_path)
    assert {split: len(each.pairs) for split, each in found.items()} == dict.fromkeys(filter(None, splits), 4) or {
        "train": 4
    }
    for each in found.values():
        for image, label in each.pairs:
            assert Path(label).name != Path(image).name or Path(image).parent != Path(label).parent
            suffix = Path(LAYOUTS[layout][1]).suffix
            assert label.endswith(suffix)
    told = init(tmp_path, workers=1)
    assert any("pairs" in line for line in told)
    open_dataset(str(tmp_path))


def test_previews_and_instances_beside_the_labels_are_passed_over(tmp_path: Path):
    write(tmp_path, LAYOUTS["cityscapes"], ("train", "val"))
    for label in list(tmp_path.rglob("*_labelIds.png")):
        for other in ("_color", "_instanceIds"):
            label.with_name(label.name.replace("_labelIds", other)).write_bytes(label.read_bytes())
    found = find_splits(tmp_path)
    assert {split: each.labels for split, each in found.items()} == {
        "train": "gtFine/train/c1/{name}_gtFine_labelIds.png",
        "val": "gtFine/val/c1/{name}_gtFine_labelIds.png",
    }


def test_names_of_colours_come_from_a_list_in_the_folder(tmp_path: Path):
    write(tmp_path, LAYOUTS["folders"], ("",))
    for label in tmp_path.glob("masks/*.png"):
        Image.fromarray(np.array([[128, 0, 0], [0, 64, 0], [9, 9, 10]], np.uint8)[np.asarray(Image.open(label))]).save(
            label
        )
    (tmp_path / "label_colors.txt").write_text("128 0 0\tBuilding\n0 64 0 \tTree canopy\n")
    init(tmp_path, workers=1)
    classes = open_dataset(str(tmp_path)).classes
    assert {entry.name: entry.colour for entry in classes} == {
        "Building": (128, 0, 0),
        "Tree canopy": (0, 64, 0),
        "class 1": (9, 9, 10),
    }


def test_255_beside_other_ids_is_void_and_alone_with_another_a_class(tmp_path: Path):
    for folder, values in (("several", [0, 1, 255]), ("two", [0, 255, 255])):
        root = tmp_path / folder
        write(root, LAYOUTS["folders"], ("",))
        for label in root.glob("masks/*.png"):
            Image.fromarray(np.array(values, np.uint8)[np.asarray(Image.open(label))]).save(label)
        init(root, workers=1)
    several, two = (open_dataset(str(tmp_path / folder)) for folder in ("several", "two"))
    assert [entry.ids for entry in several.classes] == [(0,), (1,)]
    assert several.void.ids == (255,)
    assert [entry.ids for entry in two.classes] == [(0,), (255,)]


def test_without_a_val_split_a_part_of_train_is_scored(tmp_path: Path):
    write(tmp_path, LAYOUTS["folders"], ("",))
    assert "val: every 5th group of train" in " ".join(init(tmp_path, workers=1))


def test_label_files_that_cannot_be_used_are_told_and_the_others_count(tmp_path: Path):
    write(tmp_path, LAYOUTS["folders"], ("",))
    (tmp_path / "masks/scene_001.png").write_bytes(b"rubbish")
    assert "1 label files cannot be used" in " ".join(init(tmp_path, workers=1))


def test_what_cannot_be_begun_is_told_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(EffiSegError, match="none: not a folder"):
        init(tmp_path / "none")
    with pytest.raises(EffiSegError, match="no images with labels of the same name"):
        init(tmp_path)
    write(tmp_path, LAYOUTS["folders"], ("",))
    for label in tmp_path.glob("masks/*"):
        label.write_bytes(b"")
    with pytest.raises(EffiSegError, match=r"empty \(0 bytes\): copy it again; so are all 4 label files"):
        init(tmp_path, workers=1)
    assert not (tmp_path / "dataset.yaml").exists()
    (tmp_path / "dataset.yaml").write_text("mine")
    with pytest.raises(EffiSegError, match=r"dataset\.yaml: exists already"):
        init(tmp_path)
    assert (tmp_path / "dataset.yaml").read_text() == "mine"


def painted(root: Path, paint) -> None:
    write(root, LAYOUTS["folders"], ("",), count=6)
    for number, label in enumerate(sorted(root.glob("masks/*.png"))):
        paint(np.asarray(Image.open(label)), number).save(label)


COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)


def test_palettes_that_differ_from_file_to_file_count_by_colour(tmp_path: Path):
    def shuffled(ids: np.ndarray, number: int) -> Image.Image:
        order = np.roll(np.arange(3), number)
        image = Image.fromarray(order.argsort()[ids].astype(np.uint8))
        image.putpalette(COLOURS[order].tobytes())
        return image

    painted(tmp_path, shuffled)
    assert any("3 colours" in line for line in init(tmp_path, workers=1))
    assert {entry.colour for entry in open_dataset(str(tmp_path)).classes} == {
        tuple(colour) for colour in COLOURS.tolist()
    }


def test_a_palettes_high_indices_keep_their_colours(tmp_path: Path):
    def high(ids: np.ndarray, _: int) -> Image.Image:
        image = Image.fromarray((ids + 98).astype(np.uint8))
        image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
        return image

    painted(tmp_path, high)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        init(tmp_path, workers=1)
    assert {entry.ids: entry.colour for entry in open_dataset(str(tmp_path)).classes} == {
        (index,): (index, 255 - index, 7) for index in (98, 99, 100)
    }


def test_masks_with_smooth_edges_are_refused_with_the_reason(tmp_path: Path):
    for number in range(6):
        for folder, form in (("images", "jpg"), ("masks", "png")):
            (tmp_path / folder).mkdir(exist_ok=True)
            if folder == "images":
                image = Image.fromarray(RNG.integers(0, 256, (192, 256, 3), dtype=np.uint8))
            else:
                image = Image.new("RGB", (512, 384), tuple(COLOURS[0].tolist()))
                pen = ImageDraw.Draw(image)
                for colour in COLOURS[1:].tolist():
                    left, top = RNG.integers(0, 200, 2).tolist()
                    pen.ellipse((left, top, left + 150, top + 120), fill=tuple(colour))
                image = image.resize((256, 192), Image.Resampling.BILINEAR)
            image.save(tmp_path / f"{folder}/{number}.{form}")
    with pytest.raises(EffiSegError, match="blends of two others: the masks were saved with smooth edges"):
        init(tmp_path, workers=1)
    assert not (tmp_path / "dataset.yaml").exists()


def test_instance_ids_are_refused_with_the_reason(tmp_path: Path):
    def instances(ids: np.ndarray, number: int) -> Image.Image:
        return Image.fromarray((np.arange(ids.size).reshape(ids.shape) // 30 + 100 * number).astype(np.uint16))

    painted(tmp_path, instances)
    with pytest.raises(EffiSegError, match=r"\d+ of \d+ ids stand in one file alone, as instance ids do"):
        init(tmp_path, workers=1)


def test_ids_beyond_16_bits_are_told_with_their_file_and_nothing_is_written(tmp_path: Path):
    painted(tmp_path, lambda ids, _: Image.fromarray(ids))
    for label in tmp_path.glob("masks/*.png"):
        Image.fromarray(np.full((24, 32), 70000, np.int32)).save(label.with_suffix(".tif"))
        label.unlink()
    with pytest.raises(EffiSegError, match=r"scene_000\.tif: ids from 70000 to 70000: at most 65535"):
        init(tmp_path, workers=1)
    assert not (tmp_path / "dataset.yaml").exists()


@pytest.mark.parametrize(
    ("file", "text"),
    [("classes.txt", "meadow\npath\nhouse\n"), ("_classes.csv", "Pixel Value, Class\n0, meadow\n1, path\n2, house\n")],
)
def test_names_of_ids_come_from_a_list_of_classes(tmp_path: Path, file: str, text: str):
    write(tmp_path, LAYOUTS["folders"], ("",))
    (tmp_path / file).write_text(text, encoding="utf-8-sig")
    (tmp_path / "train.txt").write_text("scene_000\nscene_001\n")
    init(tmp_path, workers=1)
    assert open_dataset(str(tmp_path)).space.classes == ("meadow", "path", "house")


def test_a_folder_of_any_name_gives_a_plain_one(tmp_path: Path):
    write(tmp_path / "Große Flächen: é", LAYOUTS["folders"], ("",))
    init(tmp_path / "Große Flächen: é", workers=1)
    dataset = open_dataset(str(tmp_path / "Große Flächen: é"))
    assert (dataset.name, dataset.title) == ("Grosse-Flaechen-e", "Große Flächen: é")


def test_a_folder_between_those_of_a_name_and_its_file_is_said_in_the_pattern(tmp_path: Path):
    for sequence in ("seq01", "seq02"):
        write(tmp_path, (f"{sequence}/rgb/{{n}}.png", f"{sequence}/labels/{{n}}.png"), ("",))
    found = find_splits(tmp_path)["train"]
    assert (found.images, found.labels) == ("{folder}/rgb/{name}.png", "{folder}/labels/{name}.png")
    init(tmp_path, workers=1)
    dataset = open_dataset(str(tmp_path))
    listing = list_splits(dataset, tmp_path, ["train", "val"])
    assert listing.problems == []
    assert {pair.name.partition("/")[0] for pairs in listing.pairs.values() for pair in pairs} == {"seq01", "seq02"}
    assert all(pair.image.parts[-3] == pair.label.parts[-3] for pairs in listing.pairs.values() for pair in pairs)


def test_older_labels_and_masks_of_one_value_are_no_rivals(tmp_path: Path):
    write(tmp_path, ("images/{n}.jpg", "labels/{n}.png"), ("",))
    for label in list(tmp_path.glob("labels/*")):
        for other, picture in (("labels_old", Image.open(label)), ("fov", Image.new("L", (32, 24), 255))):
            (tmp_path / other).mkdir(exist_ok=True)
            picture.save(tmp_path / other / label.name)
    found = find_splits(tmp_path)
    assert list(found) == ["train"]
    assert (found["train"].images, len(found["train"].pairs)) == ("images/{name}.jpg", 4)
    assert found["train"].labels.startswith("labels")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["p1_0", "p1_1", "p2_0", "p2_1"], ("{group}_{frame}",)),
        (["a/x", "a/y", "b/x", "b/y"], ("{group}/*",)),
        (["img_1", "img_2", "img_3"], ()),
        (["one", "two", "three"], ()),
    ],
)
def test_groups_are_proposed_where_names_tell_them(tmp_path: Path, names: list[str], expected: tuple[str, ...]):
    for name in names:
        write(tmp_path, (f"images/{name}.jpg", f"masks/{name}.png"), ("",), count=1)
    init(tmp_path, workers=1)
    assert open_dataset(str(tmp_path)).groups == expected


def test_grey_masks_with_smooth_edges_are_refused_too(tmp_path: Path):
    def smooth(ids: np.ndarray, _: int) -> Image.Image:
        image = Image.fromarray(np.where(np.kron(ids, np.ones((16, 16))) == 1, 255, 0).astype(np.uint8))
        return image.resize((500, 370), Image.Resampling.BILINEAR)

    write(tmp_path, LAYOUTS["folders"], ("",), count=6)
    for number, label in enumerate(sorted(tmp_path.glob("masks/*.png"))):
        smooth(np.asarray(Image.open(label)), number).save(label)
        Image.fromarray(RNG.integers(0, 256, (370, 500, 3), dtype=np.uint8)).save(tmp_path / f"images/{label.stem}.jpg")
    with pytest.raises(EffiSegError, match="lie between 0 and 255, and cover little: the masks were saved with smooth"):
        init(tmp_path, workers=1)


def test_three_shades_are_three_classes_and_grey_files_among_coloured_ones_are_coloured(tmp_path: Path):
    painted(tmp_path / "shades", lambda ids, _: Image.fromarray(np.array([0, 128, 255], np.uint8)[ids]))
    init(tmp_path / "shades", workers=1)
    assert open_dataset(str(tmp_path / "shades")).void.ids == ()
    tints = np.array([[0, 0, 0], [99, 99, 99], [200, 0, 0]], np.uint8)
    painted(tmp_path / "rgb", lambda ids, n: Image.fromarray(tints[ids if n else ids % 2]))
    told = " ".join(init(tmp_path / "rgb", workers=1))
    assert "3 colours in 6 files" in told
