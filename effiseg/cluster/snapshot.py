"""The repository as it stands, packed for the workers' checkouts: the commit, and what is not committed yet."""

import io
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from effiseg.base.errors import EffiSegError

LIMIT = 2**28  # bytes
# settings of DVC that git ignores (where a remote is, and how to get in), needed by whoever uses the remote
LOCAL_SETTINGS = Path(".dvc/config.local")


def pack(needed: Iterable[str] = ()) -> bytes:
    """A tar of the working folder's repository: every file that git does not ignore, and its history of one commit.

    Args:
        needed: paths, of files and folders, that have to be in it.

    Raises:
        EffiSegError: the folder is no git repository, or nothing is committed, git ignores what is needed, or
            it holds more than `LIMIT` bytes.
    """
    listed = _git("ls-files", "--cached", "--others", "--exclude-standard", "-z").decode().split("\0")
    files = [Path(name) for name in dict.fromkeys(listed) if name] + [LOCAL_SETTINGS]
    _check(files, needed)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive, TemporaryDirectory() as scratch:
        # the commit by its own name, so that a run's record says the same on every machine
        _git("clone", "--quiet", "--depth", "1", "--no-checkout", Path.cwd().as_uri(), scratch)
        _git("-C", scratch, "reset", "--quiet")
        archive.add(Path(scratch) / ".git", ".git")
        for path in files:
            if path.exists() or path.is_symlink():
                archive.add(path, recursive=False)
    return packed.getvalue()


def _check(files: list[Path], needed: Iterable[str]) -> None:
    held = {str(place) for path in files for place in (path, *path.parents)}
    for missing in sorted(set(needed) - held):
        raise EffiSegError(
            f"{missing}: a stage reads it, and no worker will find it, since git ignores it or it lies outside the "
            "repository; give its absolute path (data.root), or track it with `dvc add`"
        )
    sizes = {path: path.lstat().st_size for path in files if path.exists()}
    if sum(sizes.values()) > LIMIT:
        largest = max(sizes, key=lambda path: sizes[path])
        raise EffiSegError(
            f"{largest}: the largest of the files that git does not ignore; together they are "
            f"{sum(sizes.values()) / 2**20:.0f} MB, and every worker gets them: more than {LIMIT / 2**20:.0f} MB is "
            "taken for a mistake; name it in .gitignore, or track it with `dvc add`"
        )


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").split())
        raise EffiSegError(f"git {arguments[0]}: {reason}; the study needs a git repository with at least one commit")
    return done.stdout
