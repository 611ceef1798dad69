"""The bottleneck in place of a patch embedding's convolution."""

import pytest
import torch
import torch.nn.functional as F

from effiseg.models.embedding import BottleneckPatchEmbedding
from effiseg.models.segformer import build_model


@pytest.mark.parametrize("size", [(64, 64), (33, 47), (1, 1), (6, 5)])
@pytest.mark.parametrize(("kernel", "stride"), [(7, 4), (3, 2)])
def test_the_grid_is_that_of_the_overlapping_patch_embedding(size, kernel, stride):
    image = torch.randn(1, 8, *size)
    overlap = torch.nn.Conv2d(8, 16, kernel, stride, padding=kernel // 2)
    assert BottleneckPatchEmbedding(8, 16, stride)(image).shape == overlap(image).shape


def test_it_is_three_convolutions_with_gelu_between_them():
    module, image = BottleneckPatchEmbedding(3, 32, 4), torch.randn(2, 3, 24, 40)
    narrow = F.gelu(
        torch.einsum("oc,nchw->nohw", module.reduce.weight[:, :, 0, 0], image) + module.reduce.bias.view(-1, 1, 1)
    )
    strided = F.gelu(F.conv2d(F.pad(narrow, (1, 1, 1, 1)), module.conv.weight, module.conv.bias, stride=4))
    expected = torch.einsum("oc,nchw->nohw", module.expand.weight[:, :, 0, 0], strided) + module.expand.bias.view(
        -1, 1, 1
    )
    torch.testing.assert_close(module(image), expected, rtol=1e-4, atol=1e-5)


def test_a_b0_with_bottlenecks_has_the_parameters_counted_by_hand(settings_with, classes):
    def count(embedding: str) -> int:
        return sum(p.numel() for p in build_model(settings_with(embedding=embedding), classes).parameters())

    def convolution(inputs: int, outputs: int, kernel: int) -> int:
        return outputs * (inputs * kernel**2 + 1)

    difference, inputs = 0, 3
    for outputs, kernel in ((32, 7), (64, 3), (160, 3), (256, 3)):
        width = outputs // 4
        bottleneck = convolution(inputs, width, 1) + convolution(width, width, 3) + convolution(width, outputs, 1)
        difference += convolution(inputs, outputs, kernel) - bottleneck
        inputs = outputs
    assert count("overlap") - count("bottleneck") == difference
