"""Where a row's first weights come from: files that are there, and addresses that something pins."""

from hashlib import sha256

import pytest

from effiseg.base.errors import EffiSegError
from effiseg.base.origins import digest, refuse_unpinned, weights_file


def row_of(load, edited, **start):
    return load(edited({"experiments.new": {"start": {"source": "file", **start}}})).row("new")


@pytest.mark.parametrize("place", ["x.pth", "folder", "folder/pytorch_model.bin"])
def test_a_file_or_a_folder_that_transformers_wrote_is_found(tmp_path, place):
    file = tmp_path / ("folder/pytorch_model.bin" if "folder" in place else place)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"one")
    assert weights_file(str(tmp_path / place)) == file
    assert digest(file) == sha256(b"one").hexdigest()


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    for path, told in (
        (tmp_path / "none", "not there, so neither a checkpoint nor"),
        (tmp_path, "is neither"),
    ):
        with pytest.raises(EffiSegError, match=told):
            weights_file(str(path))


def test_weights_that_nothing_pins_are_refused_unless_nothing_is_fetched(load, edited, tmp_path):
    file = tmp_path / "x.pth"
    file.write_bytes(b"one")
    for start in ({"source": "drawn"}, {"source": "run", "run": "baseline-0"}, {"path": "/gone", "sha256": "a" * 64}):
        refuse_unpinned(row_of(load, edited, **start))
    refuse_unpinned(row_of(load, edited, source="huggingface", repo="a/b", revision="0a" * 20))
    for start in ({"path": str(file)}, {"source": "huggingface", "repo": "a/b"}, {"source": "url", "url": "http://x"}):
        with pytest.raises(EffiSegError, match="may be replaced, and no stage would notice"):
            refuse_unpinned(row_of(load, edited, **start))
