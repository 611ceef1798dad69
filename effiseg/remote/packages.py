"""The Python packages that a training needs besides torch, as they are installed here."""

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from effiseg.base.errors import EffiSegError

TRAINING = (  # what the code of a training imports
    "transformers",
    "accelerate",
    "kornia",
    "safetensors",
    "pydantic",
    "ruamel.yaml",
    "numpy",
    "pillow",
    "pandas",
    "tqdm",
    "filelock",
)
THERE = "torch"  # with all that it alone needs, the other machine's own
LEFT_OUT = {"__pycache__", "tests"}


def closure(names: Iterable[str], without: str = "") -> list[Distribution]:
    """Installed packages and all that these need on this machine, extras aside.

    Args:
        without: a package that is left out, with what it alone needs.

    Raises:
        EffiSegError: one is not installed.
    """
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found or name == without:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            raise EffiSegError(f"the package {name} is not installed; run `make setup`") from None
        requirements = map(Requirement, found[name].requires or [])
        waiting += [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    return list(found.values())


def package_files() -> dict[str, Path]:
    """The files of what a training needs by their paths below site-packages, without scripts, caches and tests."""
    return {
        str(file): Path(str(file.locate()))
        for each in closure(TRAINING, without=THERE)
        for file in each.files or []
        if ".." not in file.parts and not LEFT_OUT & set(file.parts[:-1])
    }
