"""What git says of the repository."""

import os
import subprocess
import sys
from functools import cache

from effiseg.base.errors import EffiSegError
from effiseg.base.files import repository

_LEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")


def git(*arguments: str) -> str:
    """What a git command prints, in the repository.

    Raises:
        EffiSegError: there is no git, no repository or no commit yet, or git does not trust the folder's owner.
    """
    command = ["git", *arguments]
    try:
        # not those that a hook of another repository has set
        own = {key: value for key, value in os.environ.items() if key not in _LEADING}
        ran = subprocess.run(
            command, cwd=repository(), env=own, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise EffiSegError(f"git cannot be run ({error.strerror}); install it, or correct PATH") from None
    if ran.returncode:
        raise EffiSegError(f"{repository()}: {_cure(ran.stderr)}")
    return ran.stdout.strip()


@cache
def head() -> str:
    """The commit that the repository stands at; empty, with a warning, where git cannot tell it."""
    try:
        return git("rev-parse", "HEAD")
    except EffiSegError as error:
        print(f"warning: no commit is recorded: {error}", file=sys.stderr)
        return ""


def git_commit() -> str:
    """The commit that the repository stands at, and whether settings or code differ from it; empty outside git."""
    changed = head() and git("status", "--porcelain", "--", "params.yaml", "dvc.yaml", "effiseg", "stages")
    return head() + (" with uncommitted changes" if changed else "")


def _cure(told: str) -> str:
    if "dubious ownership" in told:
        return (
            "git does not trust it, since another user owns it; run `git config --global --add safe.directory "
            f"{repository()}`, or clone it yourself"
        )
    if "not a git repository" in told:
        return "not a git repository, where DVC keeps its results; clone the project, or `git init` and commit"
    if "unknown revision" in told or "ambiguous argument" in told:
        return "a git repository without a commit; run `git add --all` and `git commit`"
    return f"git failed ({' '.join(told.split())})"
