"""The prepared form of a data set: its index, its arrays, and opening them through memory maps.

A prepared folder holds `index.json` (see `Index`) and, for each split, `images.npy` and `labels.npy`.
"""

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from effiseg.base.errors import EffiSegError
from effiseg.data.labels import IGNORE_INDEX, Colour

INDEX_FILE = "index.json"
IMAGES_FILE = "images.npy"
LABELS_FILE = "labels.npy"

Count = Annotated[int, Field(ge=0)]
Side = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SplitIndex(_Record):
    """One split: sample names in the order of the arrays, and pixels per trainId at the labels' own resolution."""

    names: Annotated[tuple[str, ...], Field(min_length=1)]
    pixel_counts: list[Count]
    void_pixels: Count


class Index(_Record):
    """The content of `index.json`. `size` and `full_size` are (height, width) of training and of the val labels."""

    format: Literal[2]
    source: str
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    colours: tuple[Colour, ...]
    ignore_index: Annotated[int, Field(ge=IGNORE_INDEX, le=IGNORE_INDEX)]
    size: tuple[Side, Side]
    full_size: tuple[Side, Side]
    class_weights: list[Weight]
    splits: dict[str, SplitIndex]

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if self.splits.keys() != {"train", "val"}:
            raise ValueError(f"splits are {', '.join(self.splits)}, expected train and val")
        per_class = [self.colours, self.class_weights, *(split.pixel_counts for split in self.splits.values())]
        if any(len(values) != len(self.classes) for values in per_class):
            raise ValueError(f"{len(self.classes)} classes, but another number of colours, weights or counts")
        return self


@dataclass(frozen=True)
class Rows:
    """A .npy file of uint8 rows, filled by several processes, each writing rows of its own.

    Rows go through plain writes: on a full disk these raise OSError, where a memory map would die of SIGBUS.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]

    @classmethod
    def create(cls, path: Path, count: int, shape: tuple[int, ...]) -> Self:
        """Reserve the file for `count` rows of `shape`; raises OSError when the disk is too small."""
        path.parent.mkdir(exist_ok=True)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *shape))
        if hasattr(os, "posix_fallocate"):  # too small a disk shows now, not after half an hour
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)
        return cls(path, array.offset, shape)

    def write(self, index: int, row: NDArray[np.uint8]) -> None:
        """Put `row`, of `shape`, at its place; raises OSError when that fails."""
        with self.path.open("r+b") as file:
            file.seek(self.offset + index * row.nbytes)
            file.write(row.tobytes())


@dataclass(frozen=True, eq=False)
class Split:
    """One split's samples.

    Attributes:
        images: (N, 3, H, W) uint8, RGB, at the training size.
        labels: uint8 trainIds, 255 = ignore; (N, H, W) for train, (N, H0, W0) at full resolution for val.
        names: N sample names.
    """

    images: np.memmap
    labels: np.memmap
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, indices: Sequence[int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Copies of the images and labels at `indices`; no more of the files stays in this process's memory."""
        rows = list(indices)
        copies = self.images[rows], self.labels[rows]
        for array in (self.images, self.labels):
            _forget_pages(array)
        return copies


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared data set, opened for reading.

    Attributes:
        digest: sha256 of the content; equal wherever and by however many processes it was prepared.
        size: (H, W) of all images and of the training labels.
        full_size: (H0, W0) of the val labels.
        class_weights: one per class, for the weighted losses.
        pixel_counts: split -> pixels per trainId, counted on the labels before resizing.
        void_pixels: split -> ignored pixels, counted likewise.
    """

    path: Path
    source: str
    digest: str
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    size: tuple[int, int]
    full_size: tuple[int, int]
    class_weights: list[float]
    pixel_counts: dict[str, list[int]]
    void_pixels: dict[str, int]
    train: Split
    val: Split

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the folder that `effiseg.preparation.prepare.prepare` wrote, and check that its files fit together.

        Raises:
            EffiSegError: a file is missing, damaged, of another format version, or does not fit the index.
        """
        index = _read_index(path)
        return cls(
            path=path,
            source=index.source,
            digest=index.digest,
            classes=index.classes,
            colours=index.colours,
            size=index.size,
            full_size=index.full_size,
            class_weights=index.class_weights,
            pixel_counts={name: split.pixel_counts for name, split in index.splits.items()},
            void_pixels={name: split.void_pixels for name, split in index.splits.items()},
            train=_open_split(path / "train", index.splits["train"].names, index.size, index.size),
            val=_open_split(path / "val", index.splits["val"].names, index.size, index.full_size),
        )


def _forget_pages(array: np.memmap) -> None:
    """Let go of what was read through a memory map: it would count as this process's memory until the whole file does.

    The system keeps the pages for the next reader.
    """
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _read_index(path: Path) -> Index:
    file = path / INDEX_FILE
    try:
        return Index.model_validate_json(file.read_bytes())
    except OSError as error:
        raise _unusable(file, error.strerror) from None
    except ValidationError as error:
        first: Any = error.errors()[0]
        raise _unusable(file, f"{'.'.join(map(str, first['loc']))} {first['msg']}") from None


def _open_split(folder: Path, names: tuple[str, ...], size: tuple[int, int], label_size: tuple[int, int]) -> Split:
    images = _open_array(folder / IMAGES_FILE, (len(names), 3, *size))
    labels = _open_array(folder / LABELS_FILE, (len(names), *label_size))
    return Split(images, labels, names)


def _open_array(file: Path, shape: tuple[int, ...]) -> np.memmap:
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except OSError as error:
        raise _unusable(file, error.strerror) from None
    except (ValueError, EOFError, TypeError, OverflowError) as error:  # a damaged header, or fewer bytes than it says
        raise _unusable(file, str(error)) from None
    if array.dtype != np.uint8 or array.shape != shape or not array.flags.c_contiguous:
        raise _unusable(file, f"{array.dtype} of shape {array.shape}, expected uint8 of shape {shape}")
    return array


def _unusable(file: Path, reason: str | None) -> EffiSegError:
    text = " ".join(str(reason).split())
    again = "prepare the data again: `dvc repro --force --single-item prepare`"
    return EffiSegError(f"{file}: no usable prepared data set ({text}): {again}")
