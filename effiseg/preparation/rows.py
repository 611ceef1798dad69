"""Array files that several processes fill."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """A .npy file of rows, filled by several processes, each writing rows of its own.

    Rows go through plain writes: on a full disk these raise OSError, where a memory map would die of SIGBUS.

    Attributes:
        starts: where each row begins, in bytes; one more for the end.
    """

    path: Path
    dtype: str
    starts: tuple[int, ...] | range

    @classmethod
    def create(cls, path: Path, shapes: Sequence[tuple[int, ...]], count: int, dtype: str = "uint8") -> Self:
        """Reserve the file for `count` rows of one shape, or for rows of these shapes, one after the other in a line.

        Raises:
            OSError: the disk is too small.
        """
        path.parent.mkdir(exist_ok=True)
        sizes = [math.prod(shape) for shape in shapes]
        shape = (count, *shapes[0]) if len(shapes) == 1 else (sum(sizes),)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):  # too small a disk shows now, not after half an hour
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)
        if len(shapes) == 1:
            step = sizes[0] * array.itemsize
            starts: tuple[int, ...] | range = range(array.offset, array.offset + (count + 1) * step, step)
        else:
            starts = tuple(array.offset + array.itemsize * start for start in accumulate(sizes, initial=0))
        return cls(path, dtype, starts)

    def write(self, index: int, row: NDArray[np.generic]) -> None:
        """Put `row` at its place; raises OSError when that fails."""
        assert row.dtype == self.dtype and row.nbytes == self.starts[index + 1] - self.starts[index]
        with self.path.open("r+b") as file:
            file.seek(self.starts[index])
            file.write(row.tobytes())
