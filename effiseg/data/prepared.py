"""The prepared form of a data set: its index, its arrays, and opening them through memory maps.

A prepared folder holds `index.json` (see `Index`) and, for what is learned (`train`) and what is scored (`val`),
`images.npy` and `labels.npy`; where the scored labels differ in size, these stand one after the other in one line.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import label_type
from effiseg.data.fit import Fit, frame
from effiseg.data.index import IMAGES_FILE, INDEX_FILE, LABELS_FILE, Index
from effiseg.data.labels import LabelSpace


@dataclass(frozen=True, eq=False)
class Ragged(Sequence[NDArray[Any]]):
    """Labels (H, W) of differing sizes, one after the other in one line of memory.

    Attributes:
        line: (pixels,), a memory map.
        sizes: of each label.
    """

    line: np.memmap
    sizes: Sequence[tuple[int, int]]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            index = range(*index.indices(len(self)))
        if not isinstance(index, int | np.integer):
            return [self[int(each)] for each in index]
        start, (height, width) = self.starts[index], self.sizes[int(index)]
        return self.line[start : start + height * width].reshape(height, width)


@dataclass(frozen=True, eq=False)
class Split:
    """One split's samples.

    Attributes:
        images: (N, 3, H, W) uint8, RGB, at the training size, to which `fit` brought them.
        labels: trainIds and the index of void; (N, H, W) for train and (N, H0, W0) at their own resolution for val;
            `Ragged` where that differs.
        names: N sample names.
        groups: of each the group (drive, city, sequence) that it is from, and its frame there.
    """

    images: np.memmap
    labels: np.memmap | Ragged
    names: tuple[str, ...]
    groups: tuple[tuple[str, int], ...] = ()
    fit: Fit = "squash"

    def __len__(self) -> int:
        return len(self.names)

    def read(self, indices: Sequence[int]) -> tuple[NDArray[np.uint8], Any]:
        """Copies of the images and labels at `indices`; no more of the files stays in this process's memory.

        Labels are an array (n, H, W), or a list of arrays where their sizes differ.
        """
        rows = list(indices)
        labels = self.labels[rows]
        copies = self.images[rows], [label.copy() for label in labels] if isinstance(labels, list) else labels
        for array in (self.images, self.labels.line if isinstance(self.labels, Ragged) else self.labels):
            _forget_pages(array)
        return copies

    def frame(self, index: int) -> tuple[int, int]:
        """The whole image's (H, W) in pixels of the label at `index`, which is its upper left part."""
        height, width = self.labels[index].shape
        return frame((height, width), (self.images.shape[2], self.images.shape[3]), self.fit)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared data set, opened for reading.

    Attributes:
        title: the data set's, for reports.
        digest: sha256 of the content; equal wherever and by however many processes it was prepared.
        table: the fingerprint of the data set's table.
        space: classes and what label files mean.
        size: (H, W) of all images and of the training labels, to which `fit` brought them.
        label_sizes: (H0, W0) of the val labels, one for each or, where all are alike, one.
        class_weights: one per class, for the weighted losses.
        pixel_counts: split -> pixels per trainId, counted on the labels before resizing.
        void_pixels: split -> ignored pixels, counted likewise.
        used: what is learned (`train`) and what is scored (`val`) -> splits of the data set.
        generated: the pictures are no photographs.
        paper: the EffiSeg paper's numbers are of this data set.
    """

    path: Path
    title: str
    digest: str
    table: str
    space: LabelSpace
    size: tuple[int, int]
    fit: Fit
    label_sizes: Sequence[tuple[int, int]]
    class_weights: list[float]
    pixel_counts: dict[str, list[int]]
    void_pixels: dict[str, int]
    used: dict[str, tuple[str, ...]]
    generated: bool
    paper: bool
    train: Split
    val: Split

    @property
    def source(self) -> str:
        """The data set's name."""
        return self.space.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.space.classes

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        return self.space.colours

    @property
    def num_classes(self) -> int:
        return len(self.space.classes)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the folder that `effiseg.preparation.prepare.prepare` wrote, and check that its files fit together.

        Raises:
            EffiSegError: a file is missing, damaged, of another format version, or does not fit the index.
        """
        index = read_index(path)
        train = _open_split(path / "train", index, "train", [index.size])
        return cls._of(path, index, train, _open_split(path / "val", index, "val", index.label_sizes))

    @classmethod
    def open_final(cls, path: Path) -> Self:
        """Open the folder that `prepare_final` wrote: `val` is its split, and of `train` there are no arrays.

        Raises:
            EffiSegError: as of `open`.
        """
        index = read_index(path)
        val = _open_split(path / "val", index, "val", index.label_sizes)
        return cls._of(path, index, _without_arrays(index, "train"), val)

    @classmethod
    def described(cls, path: Path) -> Self:
        """What the folder's index says, without the arrays, which need not be there: images and labels are empty.

        Raises:
            EffiSegError: the index is missing, damaged or of another format version.
        """
        index = read_index(path)
        train, val = (_without_arrays(index, role) for role in ("train", "val"))
        return cls._of(path, index, train, val)

    @classmethod
    def _of(cls, path: Path, index: Index, train: Split, val: Split) -> Self:
        return cls(
            path=path,
            title=index.title,
            digest=index.digest,
            table=index.table,
            space=index.space,
            size=index.size,
            fit=index.fit,
            label_sizes=index.label_sizes,
            class_weights=index.class_weights,
            pixel_counts={name: split.pixel_counts for name, split in index.splits.items()},
            void_pixels={name: split.void_pixels for name, split in index.splits.items()},
            used={name: split.splits for name, split in index.splits.items()},
            generated=index.generated,
            paper=index.paper,
            train=train,
            val=val,
        )


def _forget_pages(array: np.memmap) -> None:
    """Let go of what was read through a memory map: it would count as this process's memory until the whole file does.

    The system keeps the pages for the next reader.
    """
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def read_index(path: Path) -> Index:
    """The index of a prepared folder.

    Raises:
        EffiSegError: it is missing, damaged or of another format version.
    """
    file = path / INDEX_FILE
    try:
        return Index.model_validate_json(file.read_bytes())
    except OSError as error:
        raise _unusable(file, error.strerror) from None
    except ValidationError as error:
        first: Any = error.errors()[0]
        raise _unusable(file, f"{'.'.join(map(str, first['loc']))} {first['msg']}") from None


def _open_split(folder: Path, index: Index, role: str, sizes: Sequence[tuple[int, int]]) -> Split:
    split, dtype = index.splits[role], label_type(len(index.space.classes))
    images = _open_array(folder / IMAGES_FILE, (len(split.names), 3, *index.size), "uint8")
    if len(sizes) == 1:
        labels: np.memmap | Ragged = _open_array(folder / LABELS_FILE, (len(split.names), *sizes[0]), dtype)
    else:
        starts = np.cumsum([0, *(height * width for height, width in sizes)])
        labels = Ragged(_open_array(folder / LABELS_FILE, (int(starts[-1]),), dtype), sizes, starts)
    return Split(images, labels, split.names, split.groups, index.fit)


def _without_arrays(index: Index, role: str) -> Split:
    split = index.splits[role]
    none: Any = np.zeros((0, 3, *index.size), dtype=np.uint8)
    return Split(none, none[:, 0], split.names, split.groups, index.fit)


def _open_array(file: Path, shape: tuple[int, ...], dtype: str) -> np.memmap:
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except OSError as error:
        raise _unusable(file, error.strerror) from None
    except (ValueError, EOFError, TypeError, OverflowError) as error:  # a damaged header, or fewer bytes than it says
        raise _unusable(file, str(error)) from None
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise _unusable(file, f"{array.dtype} of shape {array.shape}, expected {dtype} of shape {shape}")
    return array


def _unusable(file: Path, reason: str | None) -> EffiSegError:
    text = " ".join(str(reason).split())
    again = "prepare the data again: `dvc repro --force --single-item prepare`"
    return EffiSegError(f"{file}: no usable prepared data set ({text}): {again}")
