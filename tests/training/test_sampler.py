"""Every step sees the same images and seeds, however many processes and micro-batches share it."""

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from effiseg.training.sampler import EpochSampler


@pytest.mark.parametrize(("images", "batch", "samples"), [(10, 4, 12), (8, 4, 8), (3, 8, 8), (1, 1, 1), (1, 4, 4)])
def test_an_epoch_holds_every_image_and_is_filled_up_from_its_beginning(images: int, batch: int, samples: int):
    sampler = EpochSampler(range(images), batch, seed=0)
    order = [image for image, _ in sampler]
    assert len(sampler) == len(order) == samples
    assert sorted(order[:images]) == list(range(images))
    assert order == (order[:images] * samples)[:samples]


def test_an_image_that_is_seen_twice_is_drawn_anew():
    seeds = [seed for _, seed in EpochSampler(range(2), 100, seed=0)]
    assert len(set(seeds)) == 100
    assert min(seeds) >= 0
    assert max(seeds) < 2**62


def test_epochs_and_seeds_differ_and_repeat():
    def epoch(seed: int, epoch: int) -> list[tuple[int, int]]:
        sampler = EpochSampler(range(50), 4, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert epoch(1, 2) == epoch(1, 2)
    assert len({tuple(epoch(*each)) for each in ((1, 2), (2, 1), (1, 3), (0, 0))}) == 4


@pytest.mark.parametrize(("processes", "accumulation"), [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (8, 1), (2, 4)])
def test_a_step_of_all_processes_is_the_same_global_batch(processes: int, accumulation: int):
    batch = 8
    sampler = EpochSampler(range(21), batch, seed=3)
    shards = [
        list(BatchSamplerShard(BatchSampler(sampler, batch // processes // accumulation, False), processes, rank))
        for rank in range(processes)
    ]
    whole, steps = list(sampler), len(sampler) // batch
    assert [len(shard) for shard in shards] == [steps * accumulation] * processes
    for step in range(steps):
        micro = slice(step * accumulation, (step + 1) * accumulation)
        seen = [
            sample
            for parts in zip(*(shard[micro] for shard in shards), strict=True)
            for part in parts
            for sample in part
        ]
        assert seen == whole[step * batch : (step + 1) * batch]
