"""The folder of the prepared data: replaced as a whole or not at all."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Prepared


def test_a_failing_preparation_keeps_the_old_folder_and_a_sound_one_replaces_it(raw, out: Path, prepared, beside_out):
    old = prepared().digest
    label = raw.label("val", raw.val[0])
    whole = label.read_bytes()
    label.write_bytes(whole[:-40])
    with pytest.raises(EffiSegError, match="1 problem"):
        prepared()
    assert Prepared.open(out).digest == old
    assert beside_out() == ["prepared"]
    label.write_bytes(whole)
    assert prepared(size=(16, 16)).size == (16, 16)
    assert beside_out() == ["prepared"]


def test_what_a_killed_run_left_is_cleaned_up(raw, out: Path, prepared, beside_out):
    digest = prepared().digest
    shutil.copytree(out, out.with_name(".prepared.partial"))
    out.rename(out.with_name(".prepared.old"))  # killed between the two renames
    raw.image("val", raw.val[0]).unlink()
    with pytest.raises(EffiSegError):
        prepared()
    assert Prepared.open(out).digest == digest
    assert beside_out() == ["prepared"]


def test_a_linked_folder_stays_a_link_and_an_empty_one_is_filled(out: Path, prepared, tmp_path: Path):
    (tmp_path / "big_disk").mkdir()
    out.parent.mkdir()
    out.symlink_to(tmp_path / "big_disk")
    prepared()
    assert out.is_symlink()
    assert (tmp_path / "big_disk/index.json").exists()


def test_only_a_prepared_folder_is_replaced(raw, prepared):
    with pytest.raises(EffiSegError, match="exists and is no prepared data set"):
        prepared(raw.root, raw.root)
    (raw.root.parent / "index.json").touch()
    with pytest.raises(EffiSegError, match="would replace the raw data"):
        prepared(raw.root, raw.root.parent)
    file = raw.root.parent / "file"
    file.touch()
    with pytest.raises(EffiSegError, match="exists and is no prepared data set"):
        prepared(raw.root, file)
    assert prepared().digest


def test_a_parent_that_is_a_file(raw, prepared, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(EffiSegError, match=r"file/out: cannot be written \(Not a directory\)"):
        prepared(raw.root, tmp_path / "file" / "out")


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing past `size` bytes of a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_too_small(out: Path, refused):
    with file_size_limit(600):
        message = refused()
    assert message.startswith(f"{out}: cannot be written (File too large): free space there")
