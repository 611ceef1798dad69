"""What may stand in place of the overlapping patch embedding's convolution."""

from torch import Tensor, nn
from transformers import SegformerForSemanticSegmentation

NARROWING = 4  # output channels over those of the middle convolution


class BottleneckPatchEmbedding(nn.Module):
    """A 1x1, a strided 3x3 and a 1x1 convolution with GELU between them: fewer weights than one wide convolution.

    Shape: (N, C, H, W) -> (N, D, ceil(H / stride), ceil(W / stride)), the grid of SegFormer's own patch embedding.
    At the first stage, whose stride is 4, the 3x3 window leaves every fourth row and column unseen.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        width = out_channels // NARROWING
        self.reduce = nn.Conv2d(in_channels, width, 1)
        self.conv = nn.Conv2d(width, width, 3, stride, padding=1)
        self.expand = nn.Conv2d(width, out_channels, 1)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.expand(self.activation(self.conv(self.activation(self.reduce(x)))))
        return output


def swap_embeddings(network: SegformerForSemanticSegmentation) -> None:
    """Put bottlenecks in place of the patch embeddings' convolutions of a freshly built network."""
    for stage in network.segformer.stages:
        old = stage.patch_embeddings.proj
        (stride, _) = old.stride
        stage.patch_embeddings.proj = BottleneckPatchEmbedding(old.in_channels, old.out_channels, stride)
