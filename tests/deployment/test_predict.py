"""Pictures predicted and written; one that fails stops no other."""

import argparse

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official  # noqa: N813
from PIL import Image

from effiseg.base.errors import EffiSegError
from effiseg.data.label_files import label_image
from effiseg.deployment.pictures import coloured, overlay, write_png
from effiseg.deployment.predict import predict, told_miou, told_problems
from effiseg.deployment.predictor import Predictor
from effiseg.deployment.targets import LABELS, list_labels, list_pictures, match_truths, name_outputs
from effiseg.evaluation.metrics import scores
from tests.settings import CITYSCAPES


@pytest.fixture
def predictor(model, card):
    return Predictor(model, card.size, card.fit, torch.device("cpu"))


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

    answer = predict(predictor, CITYSCAPES, outputs)

    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["p0.png", "p2.png", "p3.png", "p4.png", "p6.png"]
    assert answer.written == 5
    assert [problem.split(": damaged")[0] for problem in answer.problems] == [str(folder / f"p{i}.png") for i in (1, 5)]
    told = told_problems(answer, 7)
    assert told.startswith("2 of 7 pictures could not be predicted, the others are written: [1]")
    assert list(tmp_path.glob(".*")) == []  # no temporary file


def test_what_is_written_is_what_the_predictor_says(folder, predictor, tmp_path):
    path = folder / "p4.png"
    picture = Image.open(path)
    (found,) = predictor([picture])

    (tmp_path / "labels").mkdir()
    predict(predictor, CITYSCAPES, name_outputs([path], tmp_path, labels=True))

    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "p4.png")), np.asarray(overlay(picture, found, CITYSCAPES))
    )
    ids = np.asarray(Image.open(tmp_path / "labels/p4_labelIds.png"))
    np.testing.assert_array_equal(CITYSCAPES.of_id[ids], found)


def test_label_files_hold_the_official_ids():
    from cityscapesscripts.helpers.labels import trainId2label

    classes = np.arange(19, dtype=np.uint8)[None]
    ids = np.asarray(label_image(classes, CITYSCAPES))
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
    label_image(found, CITYSCAPES).save(truth / "city_gtFine_labelIds.png")
    paths = list_pictures([str(pictures / "*.png")])

    answer = predict(
        predictor, CITYSCAPES, name_outputs(paths, tmp_path), match_truths(paths, list_labels(truth), truth)
    )

    # its own answer as the truth
    assert told_miou(answer, data.classes) == "mIoU 100.00 over the 1 picture whose truth is known"
    assert told_problems(answer, 2) == ""
    beside, alone = (Image.open(tmp_path / f"{name}_leftImg8bit.png") for name in ("city", "alone"))
    assert beside.height - image.height < alone.height and beside.width >= 3 * image.width
    np.testing.assert_array_equal(np.asarray(beside)[: image.height, : image.width], np.asarray(image))


@pytest.mark.parametrize("broken", ["another size", "damaged", "all void"])
def test_of_a_bad_truth_the_picture_is_written_without_it(predictor, card, tmp_path, broken):
    truth = tmp_path / "truth"
    truth.mkdir()
    for name in "ab":
        Image.new("RGB", (64, 32)).save(tmp_path / f"{name}.png")
        Image.new("L", (64, 32), 7).save(truth / f"{name}.png")
    if broken == "damaged":
        (truth / "b.png").write_bytes((truth / "a.png").read_bytes()[:60])
    elif broken == "another size":
        Image.new("L", (10, 10), 7).save(truth / "b.png")
    else:
        Image.new("L", (64, 32), 0).save(truth / "b.png")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    (tmp_path / "out").mkdir()

    answer = predict(
        predictor, CITYSCAPES, name_outputs(paths, tmp_path / "out"), match_truths(paths, list_labels(truth), truth)
    )

    assert answer.written == len(list((tmp_path / "out").glob("*.png"))) == 2
    if broken == "all void":  # a truth, if of nothing
        assert "over the 2 pictures" in told_miou(answer, card.classes) and told_problems(answer, 2) == ""
        return
    assert told_miou(answer, card.classes).endswith("over the 1 picture whose truth is known")
    text = told_problems(answer, 2)
    assert text.startswith(f"1 of 2 written pictures are not scored, for want of a usable truth: [1] {truth}/b.png: ")
    assert ("10x10, but its picture, upright, is 64x32" if broken == "another size" else "damaged") in text


def test_without_any_usable_truth_there_is_no_miou(predictor, card, tmp_path):
    for folder in ("truth", "out"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (64, 32)).save(tmp_path / "a.png")
    for ids, told in (
        (None, "no mIoU: no truth could be used"),
        (0, "no mIoU: nothing but void in the truth"),
    ):
        image = Image.new("RGB", (64, 32), "red") if ids is None else Image.new("L", (64, 32), ids)
        image.save(tmp_path / "truth/a.png")
        outputs = name_outputs([tmp_path / "a.png"], tmp_path / "out", overwrite=True)
        answer = predict(predictor, CITYSCAPES, outputs, {tmp_path / "a.png": tmp_path / "truth/a.png"})
        assert told_miou(answer, card.classes).startswith(told)


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(EffiSegError, match=r"x\.png: cannot be written"):
        write_png(Image.new("RGB", (4, 4)), tmp_path / "gone/x.png")
    assert list(tmp_path.iterdir()) == []


def test_label_files_go_to_the_official_evaluator_as_they_lie(data, predictor, tmp_path, monkeypatch):
    raw, out = data.path.with_name("raw"), tmp_path / "out"
    (out / LABELS).mkdir(parents=True)
    pictures = list_pictures([str(raw / "leftImg8bit/val/*/*.png")])
    truths = match_truths(pictures, list_labels(raw / "gtFine/val"), raw)
    answer = predict(predictor, CITYSCAPES, name_outputs(pictures, out, labels=True), truths)

    monkeypatch.setattr(official, "CSUPPORT", False)  # its C extension is not part of the package
    args = argparse.Namespace(**vars(official.args))  # the module's own are global and changed by a run
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    args.predictionPath, args.predictionWalk = str(out / LABELS), None
    expected = [str(truth) for truth in truths.values()]
    found = official.evaluateImgLists([official.getPrediction(args, truth) for truth in expected], expected, args)

    assert found["averageScoreClasses"] == pytest.approx(scores(answer.confusion, data.classes).miou_official)
