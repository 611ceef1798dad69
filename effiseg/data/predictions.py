"""Predicted class maps of a split in one file: a zip archive of grey PNGs of trainIds, one per sample.

They have 8 bits, or 16 where there are more classes than that holds.
"""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from effiseg.base.errors import EffiSegError

ClassMap = NDArray[np.uint8] | NDArray[np.int16]


@contextmanager
def write_predictions(path: Path) -> Iterator[Callable[[str, ClassMap], None]]:
    """A function that adds the class map (H, W) of the sample of a name; the same maps give the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:

        def add(name: str, classes: ClassMap) -> None:
            png = BytesIO()
            Image.fromarray(classes if classes.dtype == np.uint8 else classes.astype(np.uint16)).save(png, "png")
            archive.writestr(zipfile.ZipInfo(f"{name}.png"), png.getvalue())  # without a time stamp

        yield add


def read_predictions(path: Path, names: list[str]) -> list[ClassMap]:
    """The class maps of the samples of these names.

    Raises:
        EffiSegError: the file is missing or damaged, or has no such sample.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [np.asarray(Image.open(BytesIO(archive.read(f"{name}.png")), formats=["PNG"])) for name in names]
    except KeyError as error:
        raise EffiSegError(f"{path}: {error.args[0]}; run `dvc repro` to write it again") from None
    except (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise EffiSegError(f"{path}: not a readable archive ({reason}); run `dvc repro` to write it again") from None
