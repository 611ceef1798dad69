"""Raw data that cannot be prepared: every problem is told, and nothing is left behind."""

import shutil
from pathlib import Path

import numpy as np
import pytest


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("workers", [1, 2])
def test_all_problems_of_both_splits_are_reported_together(raw, refused, workers: int):
    raw.label("train", raw.train[0]).unlink()
    truncate(raw.image("train", raw.train[1]))
    raw.label("val", raw.val[0]).write_bytes(b"")
    raw.image("val", raw.val[0]).write_text("no image")
    raw.write_label("val", raw.val[1], np.full(raw.size, 40, np.uint8))
    message = refused(workers=workers)
    assert message.startswith(
        f"data.root {raw.root} (source cityscapes): 5 problems: [1] leftImg8bit/train/aachen/a_0_"
    )
    assert "[2] leftImg8bit/train/aachen/a_1_leftImg8bit.png: damaged (" in message
    assert "[3] leftImg8bit/val/bonn/b_0_leftImg8bit.png: not a PNG, JPEG, WEBP, BMP or TIFF file" in message
    assert "[4] gtFine/val/bonn/b_0_gtFine_labelIds.png: empty (0 bytes): copy it again" in message
    assert "[5] gtFine/val/bonn/b_1_gtFine_labelIds.png: unknown label ids 40" in message


def test_an_image_and_its_label_must_have_one_size(raw, refused):
    raw.write_label("train", raw.train[2], np.zeros((12, 48), np.uint8))
    message = refused()
    assert (
        "u_0_gtFine_labelIds.png: 12x48 (height x width), but its image, upright, is 24x48 (height x width)" in message
    )
    assert "1 problem:" in message


@pytest.mark.parametrize(("split", "use"), [("train", "learned"), ("val", "scored")])
def test_a_split_of_void_alone_is_refused(raw, refused, split: str, use: str):
    for name in getattr(raw, split):
        raw.write_label(split, name, np.zeros(raw.size, np.uint8))
    assert f"every pixel of the {split} labels is void: nothing can be {use}" in refused()


def test_much_void_is_a_warning(raw, prepared, capsys):
    prepared()
    assert capsys.readouterr().err == ""
    for name in raw.val:  # trainIds of road to bicycle in place of ids: most of them mean void
        raw.write_label("val", name, (np.arange(raw.size[0] * raw.size[1]) % 19).astype(np.uint8).reshape(raw.size))
    prepared()
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: data.root {raw.root}: 68% of all pixels of the val labels are void")
    assert "labelIds, not labelTrainIds" in warning and len(warning.splitlines()) == 1


@pytest.mark.parametrize("linked", ["leftImg8bit", "gtFine/train", "gtFine/train/aachen"])
def test_folders_behind_links_are_refused_since_dvc_would_not_see_a_change(raw, refused, tmp_path: Path, linked: str):
    shutil.move(raw.root / linked, tmp_path / "elsewhere")
    (raw.root / linked).symlink_to(tmp_path / "elsewhere")
    assert f"1 problem: [1] {linked}: a link to a folder, behind which DVC sees no change: mount" in refused()


def test_a_file_link_that_leads_nowhere_is_told(raw, refused):
    image = raw.image("train", raw.train[0])
    image.unlink()
    image.symlink_to("gone.png")
    assert f"{raw.train[0]}_leftImg8bit.png: a link that leads nowhere: restore what it points to" in refused()


def test_the_root_and_files_may_be_links(raw, prepared, tmp_path: Path):
    image = raw.image("train", raw.train[0])
    shutil.move(image, tmp_path / "image.png")
    image.symlink_to(tmp_path / "image.png")
    (tmp_path / "link").symlink_to(raw.root)
    assert len(prepared(root=tmp_path / "link").train) == len(raw.train)


def test_no_sound_label_in_val_at_all(raw, refused):
    for name in raw.val:
        truncate(raw.label("val", name))
    assert "2 problems" in refused()


def test_a_missing_root_and_an_empty_split(raw, refused):
    assert "1 problem: [1] no such folder" in refused(raw.root / "none")
    shutil.rmtree(raw.root / "gtFine/val")
    shutil.rmtree(raw.root / "leftImg8bit/val")
    assert "1 problem: [1] no folder leftImg8bit/val, gtFine/val (it holds gtFine, leftImg8bit)" in refused()
    (raw.root / "gtFine/val").mkdir()
    (raw.root / "leftImg8bit/val").mkdir()
    assert "1 problem: [1] leftImg8bit/val: no images (expected " in refused()
