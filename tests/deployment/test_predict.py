"""Files in, files out."""

import numpy as np
import pytest
import torch
from PIL import Image

from effiseg.base.errors import EffiSegError
from effiseg.data.labels import CITYSCAPES
from effiseg.deployment.pictures import coloured, label_file, overlay, write_png
from effiseg.deployment.predict import find_truths, list_pictures, miou, name_outputs, one_line, predict
from effiseg.deployment.predictor import Predictor


@pytest.fixture
def predictor(model, card):
    return Predictor(model, card, torch.device("cpu"))


@pytest.fixture
def folder(tmp_path):
    """Seven pictures, more than a batch, of which the second and the sixth are damaged; and what is no picture."""
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(7):
        Image.fromarray(rng.integers(0, 256, (40 + i, 60, 3), dtype=np.uint8)).save(folder / f"p{i}.png")
    for name in ("p1.png", "p5.png"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"no picture")
    return folder


def test_a_damaged_picture_stops_no_other(folder, predictor, tmp_path):
    outputs = name_outputs(list_pictures([str(folder)]), tmp_path)

    answer = predict(predictor, outputs)

    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["p0.png", "p2.png", "p3.png", "p4.png", "p6.png"]
    assert answer.written == 5
    assert [problem.split(": damaged")[0] for problem in answer.problems] == [str(folder / f"p{i}.png") for i in (1, 5)]
    assert one_line(answer.problems, 7).startswith(
        "2 of 7 pictures could not be predicted, the others are written: [1]"
    )
    assert list(tmp_path.glob(".*")) == []  # no temporary file


def test_what_is_written_is_what_the_predictor_says(folder, predictor, tmp_path):
    path = folder / "p4.png"
    picture = Image.open(path)
    (found,) = predictor([picture])

    predict(predictor, {path: tmp_path / "p4.png"}, labels=True)

    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "p4.png")), np.asarray(overlay(picture, found, CITYSCAPES))
    )
    ids = np.asarray(Image.open(tmp_path / "p4_labelIds.png"))
    np.testing.assert_array_equal(CITYSCAPES.lookup()[ids], found)


def test_label_files_hold_the_official_ids():
    from cityscapesscripts.helpers.labels import trainId2label

    classes = np.arange(19, dtype=np.uint8)[None]
    ids = np.asarray(label_file(classes, CITYSCAPES))
    assert ids.tolist() == [[trainId2label[i].id for i in range(19)]]
    colours = np.asarray(coloured(classes, CITYSCAPES.colours))
    assert [tuple(colour) for colour in colours[0].tolist()] == [trainId2label[i].color for i in range(19)]


def test_the_truth_stands_beside_and_gives_the_miou(data, predictor, tmp_path):
    truth, pictures = tmp_path / "truth", tmp_path / "in"
    truth.mkdir(), pictures.mkdir()
    image = Image.fromarray(np.ascontiguousarray(data.val.images[0].transpose(1, 2, 0)))
    (found,) = predictor([image])
    image.save(pictures / "city_leftImg8bit.png")
    image.save(pictures / "alone_leftImg8bit.png")
    label_file(found, CITYSCAPES).save(truth / "city_gtFine_labelIds.png")
    paths = list_pictures([str(pictures / "*.png")])

    answer = predict(predictor, name_outputs(paths, tmp_path), truths=find_truths(paths, truth))

    assert miou(answer, data.classes) == 1  # its own answer as the truth
    beside, alone = (Image.open(tmp_path / f"{name}_leftImg8bit.png") for name in ("city", "alone"))
    assert beside.height - image.height < alone.height and beside.width >= 3 * image.width
    np.testing.assert_array_equal(np.asarray(beside)[: image.height, : image.width], np.asarray(image))


def test_a_truth_of_another_size_is_a_problem_of_that_picture(predictor, tmp_path):
    Image.new("RGB", (64, 32)).save(tmp_path / "a.png")
    (tmp_path / "truth").mkdir()
    Image.new("L", (10, 10), 7).save(tmp_path / "truth/a.png")
    paths = [tmp_path / "a.png"]

    answer = predict(predictor, {paths[0]: tmp_path / "b.png"}, truths=find_truths(paths, tmp_path / "truth"))

    assert answer.problems == [f"{tmp_path / 'truth/a.png'}: 10x10, but its picture is 64x32"]
    assert not (tmp_path / "b.png").exists()


def test_lists_name_each_picture_once(folder):
    found = list_pictures([str(folder / "p0.png"), str(folder), str(folder / "p*.png")])
    assert [path.name for path in found] == [f"p{i}.png" for i in range(7)]


@pytest.mark.parametrize("target", ["nowhere.png", "*.jpg", "empty"])
def test_a_target_without_pictures_is_one_error(tmp_path, target):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EffiSegError, match="no picture there, expected"):
        list_pictures([str(tmp_path / target)])


def test_two_pictures_of_one_name_are_refused(tmp_path):
    paths = [tmp_path / "a/x.png", tmp_path / "b/x.jpg"]
    with pytest.raises(EffiSegError, match=r"x\.jpg and .*x\.png: both would be written to "):
        name_outputs(paths, tmp_path / "out")


def test_no_picture_is_written_over(folder):
    with pytest.raises(EffiSegError, match="is one of the pictures to read; choose another folder"):
        name_outputs(list_pictures([str(folder)]), folder)


def test_a_file_in_place_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(EffiSegError, match="out: a file, expected a folder to write"):
        name_outputs(list_pictures([str(folder)]), tmp_path / "out")


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(EffiSegError, match=r"x\.png: cannot be written"):
        write_png(Image.new("RGB", (4, 4)), tmp_path / "gone/x.png")
    assert list(tmp_path.iterdir()) == []


def test_truths_of_other_pictures_are_refused(folder, tmp_path):
    (tmp_path / "truth").mkdir()
    with pytest.raises(EffiSegError, match="no label of any of the pictures"):
        find_truths(list_pictures([str(folder)]), tmp_path / "truth")
    with pytest.raises(EffiSegError, match="not a folder"):
        find_truths(list_pictures([str(folder)]), tmp_path / "nowhere")
