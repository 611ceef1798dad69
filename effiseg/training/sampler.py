"""Which images a training sees, in which order, and the seeds of all that is random about them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from effiseg.data.prepared import Split


class EpochSampler(Sampler[tuple[int, int]]):
    """An epoch as whole global batches of (image, seed), which follow from (seed, epoch) alone.

    However many processes and micro-batches share a global batch, each step sees the same images and the same draws.
    Uniformly, every image comes once, and the last batch is filled up from the epoch's beginning. Class-uniformly (Zhu
    et al. 2019, arXiv 1812.01593, by whole images), for each place a class is drawn, and then one of its images.
    """

    def __init__(
        self, images: Sequence[int], batch_size: int, seed: int, by_class: Sequence[NDArray[np.int64]] = ()
    ) -> None:
        """Args:
        images: indices of what is learned.
        by_class: of these the ones that show a class, for each class that any shows; empty draws uniformly.
        """
        self.images, self.seed, self.epoch = np.asarray(images), seed, 0
        self.by_class = by_class
        self.samples = -(-len(images) // batch_size) * batch_size

    def set_epoch(self, epoch: int) -> None:
        """The data loader says which epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        if self.by_class:
            classes = generator.integers(len(self.by_class), size=self.samples)
            images = np.array([generator.choice(self.by_class[each]) for each in classes])
        else:
            # repeats what is too short
            images = np.resize(self.images[generator.permutation(len(self.images))], self.samples)
        seeds = generator.integers(2**62, size=self.samples)
        return zip(images.tolist(), seeds.tolist(), strict=True)


def images_by_class(split: Split, images: Sequence[int], classes: int) -> list[NDArray[np.int64]]:
    """Which of these images show a class, for each class that any of them shows."""
    shown = np.zeros((len(images), classes), dtype=bool)
    for row, index in enumerate(images):
        _, labels = split.read([index])
        shown[row] = np.bincount(labels[0].ravel(), minlength=classes)[:classes] > 0
    return [np.asarray(images)[column] for column in shown.T if column.any()]
