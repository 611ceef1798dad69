"""The Python packages that a training needs besides torch, as they are installed here."""

import re
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


def needed_distributions() -> list[Distribution]:
    """What `TRAINING` needs on this machine, all that follows from it included.

    Raises:
        EffiSegError: one is not installed.
    """
    found: dict[str, Distribution] = {}
    waiting = list(TRAINING)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found or name == THERE:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            raise EffiSegError(f"the package {name} is not installed; run `make setup`") from None
        requirements = map(Requirement, found[name].requires or [])
        waiting += [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    return list(found.values())


def package_files() -> dict[str, Path]:
    """The files of all these by their paths below site-packages, without scripts, caches and tests."""
    return {
        str(file): Path(str(file.locate()))
        for each in needed_distributions()
        for file in each.files or []
        if ".." not in file.parts and not LEFT_OUT & set(file.parts[:-1])
    }
