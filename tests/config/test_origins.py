"""What a row's first weights came from is part of what its run follows from."""

from hashlib import sha256

import pytest

from effiseg.base.errors import EffiSegError
from effiseg.base.origins import digest, used, weights_file


def row_of(load, edited, **start):
    return load(edited({"experiments.new": {"start": {"source": "file", **start}}})).row("new")


@pytest.mark.parametrize("place", ["x.pth", "folder", "folder/pytorch_model.bin"])
def test_a_file_stands_with_its_digest_so_that_another_in_its_place_is_noticed(load, edited, tmp_path, place):
    file = tmp_path / ("folder/pytorch_model.bin" if "folder" in place else place)
    file.parent.mkdir(exist_ok=True)
    row = row_of(load, edited, path=str(tmp_path / place))
    found = []
    for content in (b"one", b"two"):
        file.write_bytes(content)
        found.append(used(row)["start"]["sha256"])
        assert digest(file) == found[-1] == sha256(content).hexdigest()
    assert found[0] != found[1]
    assert used(row) | {"start": None} == row.used() | {"start": None}


def test_a_pinned_file_need_not_be_there(load, edited):
    row = row_of(load, edited, path="/nowhere", sha256="a" * 64)
    assert used(row) == row.used()


def test_drawn_weights_have_no_origin(shipped):
    assert used(shipped.row("baseline")) == shipped.row("baseline").used()


def test_a_file_that_is_not_there_is_one_line(load, edited, tmp_path):
    for path, told in (
        (tmp_path / "none", "not there, so neither a checkpoint nor"),
        (tmp_path, "is neither"),
    ):
        with pytest.raises(EffiSegError, match=told):
            weights_file(str(path))
        with pytest.raises(EffiSegError, match=told):
            used(row_of(load, edited, path=str(path)))
