"""Which images a training sees, in which order, and the seeds of all that is random about them."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """An epoch as whole global batches of (image, seed), which follow from (seed, epoch) alone.

    However many processes and micro-batches share a global batch, each step sees the same images and the same draws.
    The last batch is filled up from the epoch's beginning.
    """

    def __init__(self, images: int, batch_size: int, seed: int) -> None:
        self.images, self.seed, self.epoch = images, seed, 0
        self.samples = -(-images // batch_size) * batch_size

    def set_epoch(self, epoch: int) -> None:
        """The data loader says which epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        images = np.resize(generator.permutation(self.images), self.samples)  # repeats what is too short
        seeds = generator.integers(2**62, size=self.samples)
        return zip(images.tolist(), seeds.tolist(), strict=True)
