"""What predict reads and writes: found, named, and never one over the other."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from effiseg.base.errors import EffiSegError
from effiseg.deployment.targets import list_labels, list_pictures, match_truths, name_outputs


@pytest.fixture
def folder(tmp_path):
    """Two pictures, one of them a JPEG, and what is no picture."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.JPG"):
        Image.new("RGB", (8, 8)).save(folder / name, "PNG")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"no picture")
    return folder


def test_lists_name_each_picture_once(folder):
    found = list_pictures([str(folder / "a.png"), str(folder), str(folder / "*.png")])
    assert [path.name for path in found] == ["a.png", "b.JPG"]


@pytest.mark.parametrize("target", ["nowhere.png", "*.jpg", "empty"])
def test_a_target_without_pictures_is_one_error(tmp_path, target):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EffiSegError, match="no picture there, expected"):
        list_pictures([str(tmp_path / target)])


def test_two_pictures_of_one_name_are_refused(tmp_path):
    paths = [tmp_path / "a/x.png", tmp_path / "b/x.jpg"]
    with pytest.raises(EffiSegError, match=r"x\.jpg and .*x\.png: both would be written to "):
        name_outputs(paths, tmp_path / "out")


def test_label_files_stand_apart_so_that_no_two_files_share_a_name(tmp_path):
    paths = [tmp_path / "x.png", tmp_path / "x_labelIds.png"]
    outputs = name_outputs(paths, tmp_path / "out", labels=True)
    files = [file for target in outputs.values() for file in target]
    assert len(set(files)) == 4
    assert outputs[paths[0]].label == tmp_path / "out/labels/x_labelIds.png"


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_file_that_is_read_is_written_over(folder, tmp_path, overwrite):
    """Neither a picture nor a label, behind a link or not."""
    pictures = list_pictures([str(folder)])
    with pytest.raises(EffiSegError, match="is one of the files to read; choose another folder"):
        name_outputs(pictures, folder, overwrite=overwrite)
    truth = tmp_path / "truth"
    truth.mkdir()
    Image.new("L", (8, 8)).save(truth / "a.png")
    (tmp_path / "link").symlink_to(truth)
    for out in (truth, tmp_path / "link"):
        with pytest.raises(EffiSegError, match="is one of the files to read; choose another folder"):
            name_outputs(pictures, out, read=list_labels(truth), overwrite=overwrite)


def test_what_exists_stays_unless_it_is_asked_for(folder):
    (folder / "b.png").write_text("of somebody else")
    pictures = [folder / "b.JPG"]
    with pytest.raises(EffiSegError, match=r"b\.png exists already; choose another folder, or give --overwrite"):
        name_outputs(pictures, folder)
    assert name_outputs(pictures, folder, overwrite=True)[pictures[0]].overlay == folder / "b.png"
    (folder / "b.png").unlink()
    (folder / "b.png").symlink_to("nowhere")  # the link is somebody's too
    with pytest.raises(EffiSegError, match=r"b\.png exists already"):
        name_outputs(pictures, folder)


def test_label_files_that_exist_stay_too(folder, tmp_path):
    out = tmp_path / "out"
    (out / "labels").mkdir(parents=True)
    for name in ("a", "b"):
        (out / f"labels/{name}_labelIds.png").touch()
    with pytest.raises(EffiSegError, match=r"a_labelIds\.png and 1 more exist already"):
        name_outputs(list_pictures([str(folder)]), out, labels=True)
    assert name_outputs(list_pictures([str(folder)]), out)


def test_a_file_in_place_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(EffiSegError, match="out: a file, expected a folder to write"):
        name_outputs(list_pictures([str(folder)]), tmp_path / "out")


def label(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path, "PNG")
    return path


def test_truths_are_found_behind_links_and_under_any_spelling(tmp_path):
    composed, apart = (unicodedata.normalize(form, "Münster_1") for form in ("NFC", "NFD"))
    assert composed != apart
    pictures = [tmp_path / name for name in (f"{composed}_leftImg8bit.png", "b.jpg", "c.png", "alone.png")]
    elsewhere = label(tmp_path / "elsewhere/deep/b.PNG")
    truth = tmp_path / "truth"
    expected = {
        pictures[0]: label(truth / f"{apart}_gtFine_labelIds.png"),
        pictures[1]: truth / "link/deep/b.PNG",
        pictures[2]: label(truth / "c.png"),
    }
    (truth / "link").symlink_to(elsewhere.parents[1])
    (truth / "loop").symlink_to(truth)
    assert match_truths(pictures, list_labels(truth), truth) == expected


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["a.jpg", "a_1.jpg"], ["a_mask.png", "a_1_mask.png"]),
        (["a_image.jpg", "b_image.jpg"], ["a_label.tif", "b_label.tif"]),
        (["1.png", "2.png"], ["1_L.png", "2_L.png"]),
    ],
)
def test_truths_may_have_an_ending_that_all_share_and_lie_beside_the_pictures(tmp_path, names, labels):
    pictures = [label(tmp_path / name) for name in names]
    truths = [label(tmp_path / name) for name in labels]
    assert match_truths(pictures, list_labels(tmp_path), tmp_path) == dict(zip(pictures, truths, strict=True))
    label(tmp_path / labels[0].replace(".", "_colour."))
    with pytest.raises(EffiSegError, match=r"labels end in .*_colour.*; give a folder with those of one ending"):
        match_truths(pictures, list_labels(tmp_path), tmp_path)


def test_two_truths_of_a_picture_are_refused(tmp_path):
    for place in ("x", "y"):
        label(tmp_path / "truth" / place / "a.png")
    with pytest.raises(EffiSegError, match=r"x/a\.png and .*y/a\.png could both be the truth of a\.png"):
        match_truths([tmp_path.__class__("a.png")], list_labels(tmp_path / "truth"), tmp_path / "truth")


def test_truths_of_other_pictures_are_refused(folder, tmp_path):
    (tmp_path / "truth").mkdir()
    with pytest.raises(EffiSegError, match="no label of any of the pictures"):
        match_truths(list_pictures([str(folder)]), list_labels(tmp_path / "truth"), tmp_path / "truth")
    with pytest.raises(EffiSegError, match="not a folder"):
        list_labels(tmp_path / "nowhere")
