"""What is wrong with a data set: one thing by one, told together."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Data

_SHOWN = 20
_ALIKE = 3  # problems of one kind that are told one by one


class Problem(NamedTuple):
    """One thing to mend in a data set: the file or folder, and 'what is wrong: what to do'."""

    path: Path
    text: str


def unusable(settings: Data, problems: Sequence[Problem]) -> EffiSegError:
    """All problems of a data set as one error of one line."""
    root = Path(settings.root)
    return EffiSegError(f"data.root {root} (source {settings.source}): {told_problems(root, problems)}")


def told_problems(root: Path, problems: Sequence[Problem], what: str = "problem") -> str:
    """Their number and the first of each kind, on one line."""
    alike: dict[str, list[Problem]] = {}
    for problem in problems:
        alike.setdefault(re.sub(r"\d+( in \d+ pixels)?", "#", problem.text), []).append(problem)
    told = [
        f"{_described(problem, root)}{f' (and so {len(group) - 1} more)' if len(group) > _ALIKE else ''}"
        for group in alike.values()
        for problem in (group if len(group) <= _ALIKE else group[:1])
    ]
    entries = [f"[{number}] {text}" for number, text in enumerate(told, 1)]
    if len(entries) > _SHOWN:
        entries[_SHOWN:] = [f"and {len(entries) - _SHOWN} more"]
    return f"{len(problems)} {what}{'s' if len(problems) > 1 else ''}: {'; '.join(entries)}"


def _described(problem: Problem, root: Path) -> str:
    path = str(problem.path.relative_to(root))
    where = "" if problem.path == root else f"{path if path.isprintable() else ascii(path)}: "
    return where + " ".join(problem.text.split())
