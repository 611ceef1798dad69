"""Batch norm over the global batch, on any device."""

import torch
from torch import Tensor, nn

from effiseg.losses.processes import average, processes
from effiseg.models.norms import BatchNorm


class GlobalBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d whose statistics are those of all processes' images; each has an equal share of them.

    torch.nn.SyncBatchNorm does so on GPUs alone. Shape: (N, C, H, W) -> the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or processes() == 1:
            return super().forward(x)
        own_variance, own_mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
        mean = average(own_mean)
        variance = average(own_variance + (own_mean - mean) ** 2)
        self._track(mean.detach(), variance.detach(), processes() * x.numel() // x.shape[1])
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Update the running statistics as BatchNorm2d does; the running variance is the unbiased one."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


class _GlobalTokenNorm(BatchNorm, GlobalBatchNorm):
    """The same of tokens, (..., channels)."""


_SHARED: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: GlobalBatchNorm, BatchNorm: _GlobalTokenNorm}


def share_statistics(module: nn.Module) -> None:
    """Turn every batch norm within `module` into one of the global batch, with its parameters and buffers."""
    for each in module.modules():
        each.__class__ = _SHARED.get(type(each), type(each))
