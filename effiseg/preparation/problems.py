"""What is wrong with a data set: one thing by one, told together."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Data

_SHOWN = 20


class Problem(NamedTuple):
    """One thing to mend in a data set: the file or folder, and 'what is wrong: what to do'."""

    path: Path
    text: str


def unusable(settings: Data, problems: Sequence[Problem]) -> EffiSegError:
    """All problems of a data set as one error of one line."""
    root = Path(settings.root)
    return EffiSegError(f"data.root {root} (source {settings.source}): {told_problems(root, problems)}")


def told_problems(root: Path, problems: Sequence[Problem], what: str = "problem") -> str:
    """Their number and the first of them, on one line."""
    entries = [f"[{number}] {_described(problem, root)}" for number, problem in enumerate(problems, 1)]
    if len(entries) > _SHOWN:
        entries[_SHOWN:] = [f"and {len(entries) - _SHOWN} more"]
    return f"{len(problems)} {what}{'s' if len(problems) > 1 else ''}: {'; '.join(entries)}"


def _described(problem: Problem, root: Path) -> str:
    path = str(problem.path.relative_to(root))
    where = "" if problem.path == root else f"{path if path.isprintable() else ascii(path)}: "
    return where + " ".join(problem.text.split())
