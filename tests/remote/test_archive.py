"""Archives: whole or not there, and nothing that leaves their folder."""

import io
import tarfile
from pathlib import Path

import pytest

from effiseg.base.errors import EffiSegError
from effiseg.remote.archive import read_archive, write_archive


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "a b").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "link").symlink_to(tmp_path / "a b")  # as DVC may keep its files
    return {"x/a b": tmp_path / "a b", "x/deep/link": tmp_path / "link"}


def test_what_goes_in_comes_out_and_links_as_files(files: dict[str, Path], tmp_path: Path) -> None:
    write_archive(tmp_path / "it.tar", files, "last.json", {"n": 1})
    read_archive(tmp_path / "it.tar", tmp_path / "out")
    found = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found.keys() == {*files, "last.json"}
    assert not any(path.is_symlink() for path in found.values())
    assert found["x/deep/link"].read_bytes() == files["x/a b"].read_bytes()
    with tarfile.open(tmp_path / "it.tar") as tar:
        assert {(member.uname, member.uid) for member in tar} == {("", 0)}


def test_a_file_that_is_missing_leaves_no_archive(files: dict[str, Path], tmp_path: Path) -> None:
    files["x/a b"].unlink()
    with pytest.raises(EffiSegError, match=r"it\.tar: cannot be written .*a b"):
        write_archive(tmp_path / "it.tar", files, "last.json", {})
    assert not list(tmp_path.glob("*it.tar*"))


@pytest.mark.parametrize("size", [0, 100, 700, 30_000])
def test_a_part_of_an_archive_is_one_error(files: dict[str, Path], tmp_path: Path, size: int) -> None:
    write_archive(tmp_path / "it.tar", files, "last.json", {})
    (tmp_path / "cut.tar").write_bytes((tmp_path / "it.tar").read_bytes()[:size])
    with pytest.raises(EffiSegError, match=r"^.*cut\.tar: cannot be unpacked \(.+\); expected .*: copy it again$"):
        read_archive(tmp_path / "cut.tar", tmp_path / "out")


def evil(kind: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("../evil" if kind == "above" else "evil")
    info.type = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}.get(kind, info.type)
    info.linkname = "/etc/passwd" if "link" in kind else ""
    return info


@pytest.mark.parametrize("kind", ["above", "link", "hard link", "device"])
def test_nothing_but_files_below_the_folder_comes_out(tmp_path: Path, kind: str) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.addfile(evil(kind), io.BytesIO())
    with pytest.raises(EffiSegError, match=r"evil\.tar: cannot be unpacked \("):
        read_archive(tmp_path / "evil.tar", tmp_path / "out")
    assert not (tmp_path / "evil").exists()
    assert not list((tmp_path / "out").glob("*"))
