"""What a model costs to run: parameters, multiply-adds, latency."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from effiseg.base.device import device_name
from effiseg.base.schema import Model
from effiseg.models.deployed import deploy
from effiseg.models.embedding import swap_embeddings
from effiseg.models.segformer import build_model, transformers_config

UNTIMED_PASSES = 1


@dataclass(frozen=True)
class Macs:
    """Multiply-adds of one image, in G (1e9).

    Attributes:
        published: the published order of operations, attention included.
        paper: the same without the two matrix products of attention, as the paper counts ("FLOPs").
        executed: what our head's order of operations really computes in training, attention included.
        deployed: what the deployed form computes, attention included.
    """

    published: float
    paper: float
    executed: float
    deployed: float


def count_parameters(model: nn.Module) -> int:
    """Number of learned values."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: Model, classes: Sequence[str], size: Sequence[int]) -> Macs:
    """Count the multiply-adds of linear layers, convolutions and attention at input `size` (height, width)."""
    config = transformers_config(model, classes)
    # eager attention shows its matrix products to the counter on every device
    config._attn_implementation = "eager"
    with torch.device("meta"):
        stock = SegformerForSemanticSegmentation(config)
        if model.embedding == "bottleneck":
            swap_embeddings(stock)
        ours = build_model(model, classes)
    ours.network.set_attn_implementation("eager")
    published, attention = _count(stock, size), _attention_macs(config, size)
    return Macs(
        published=published,
        paper=published - attention,
        executed=_count(ours, size),
        deployed=_count(deploy(ours), size),
    )


def _count(model: nn.Module, size: Sequence[int]) -> float:
    image = torch.empty(1, 3, *size, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.eval()(image)
    return counter.get_total_flops() / 2e9  # one multiply-add is two floating-point operations


def _attention_macs(config: SegformerConfig, size: Sequence[int]) -> float:
    """The products of queries with keys and of weights with values: 2 * tokens * reduced tokens * channels a block."""
    total = 0
    stages = zip(config.strides, config.sr_ratios, config.hidden_sizes, config.depths, strict=True)
    height, width = size
    for stride, reduction, channels, depth in stages:
        height, width = -(-height // stride), -(-width // stride)
        reduced = (height // reduction) * (width // reduction)
        total += depth * 2 * height * width * reduced * channels
    return total / 1e9


@torch.inference_mode()
def measure_speed(model: nn.Module, size: Sequence[int], *, repeats: int, device: torch.device) -> dict[str, object]:
    """Time single-image passes in float32, from uint8 pixels on the device to logits.

    Returns:
        size, fps (1 / median latency), latency_ms (median) and latency_p95_ms.
    """
    model = model.to(device).eval()
    image = torch.zeros(1, 3, *size, dtype=torch.uint8, device=device)
    times = []
    for index in range(UNTIMED_PASSES + repeats):
        _synchronise(device)
        start = time.perf_counter()
        model(image)
        _synchronise(device)
        if index >= UNTIMED_PASSES:
            times.append(time.perf_counter() - start)
    median, p95 = np.percentile(times, [50, 95])
    return {
        "size": list(size),
        "fps": float(1 / median),
        "latency_ms": float(1e3 * median),
        "latency_p95_ms": float(1e3 * p95),
    }


def profile(
    model: Model, classes: Sequence[str], sizes: Sequence[Sequence[int]], *, repeats: int, device: torch.device
) -> dict[str, object]:
    """Everything about an architecture that does not depend on its weights, in both of its forms: as trained and
    deployed. Multiply-adds are those at the first of `sizes`."""
    network = build_model(model, classes).eval()
    forms = {"trained": network, "deployed": deploy(network)}
    macs = count_macs(model, classes, sizes[0])
    return {
        "architecture": sha256(json.dumps(model.model_dump(), sort_keys=True).encode()).hexdigest()[:12],
        "params_m": count_parameters(network) / 1e6,
        "gmacs": macs.published,
        "gmacs_paper": macs.paper,
        "gmacs_exact": macs.executed,
        "gmacs_deployed": macs.deployed,
        "device": device_name(device),
        "precision": "fp32",
        "threads": torch.get_num_threads(),
        "speeds": [
            {"form": form, **measure_speed(network, size, repeats=repeats, device=device)}
            for size in sizes
            for form, network in forms.items()
        ],
    }


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
