"""Narrow networks, and their tensors under the names of other projects, read off their modules one by one."""

from typing import Any

import torch
from torch import Tensor
from transformers import SegformerConfig, SegformerForSemanticSegmentation

LABELS = 5


def tiny(seed: int = 0, **changes: Any) -> SegformerForSemanticSegmentation:
    settings = {
        "num_labels": LABELS,
        "depths": [1, 2, 1, 1],
        "hidden_sizes": [8, 16, 24, 32],
        "num_attention_heads": [1, 2, 4, 8],
        "decoder_hidden_size": 16,
        "mlp_ratios": [2, 2, 2, 2],
    }
    torch.manual_seed(seed)
    network = SegformerForSemanticSegmentation(SegformerConfig(**settings | changes))
    with torch.no_grad():  # biases start at 0 and norms at 1: a mix-up of those would go unseen
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
    return network.eval()


def logits(network: SegformerForSemanticSegmentation) -> Tensor:
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network(pixels).logits


def original(network: SegformerForSemanticSegmentation, norm: str = "bn") -> dict[str, Tensor]:
    """The network's tensors as NVIDIA's SegFormer names them, read off its modules one by one."""
    found: dict[str, Tensor] = {}

    def put(name: str, module: torch.nn.Module) -> None:
        found.update({f"{name}.{key}": value.clone() for key, value in module.state_dict().items()})

    for n, stage in enumerate(network.segformer.stages, start=1):
        put(f"patch_embed{n}.proj", stage.patch_embeddings.proj)
        put(f"patch_embed{n}.norm", stage.patch_embeddings.layer_norm)
        for b, block in enumerate(stage.blocks):
            at = f"block{n}.{b}"
            attention = block.attention
            put(f"{at}.norm1", block.layernorm_before)
            put(f"{at}.attn.q", attention.q_proj)
            for key in ("weight", "bias"):
                found[f"{at}.attn.kv.{key}"] = torch.cat(
                    [getattr(attention.k_proj, key), getattr(attention.v_proj, key)]
                )
            put(f"{at}.attn.proj", attention.o_proj)
            if attention.sequence_reduction_ratio > 1:
                put(f"{at}.attn.sr", attention.sequence_reduction.sequence_reduction)
                put(f"{at}.attn.norm", attention.sequence_reduction.layer_norm)
            put(f"{at}.norm2", block.layernorm_after)
            put(f"{at}.mlp.fc1", block.mlp.fc1)
            put(f"{at}.mlp.dwconv.dwconv", block.mlp.dwconv.dwconv)
            put(f"{at}.mlp.fc2", block.mlp.fc2)
        put(f"norm{n}", stage.layer_norm)
        put(f"linear_c{n}.proj", network.decode_head.linear_projections[n - 1].proj)
    put("linear_fuse.conv", network.decode_head.linear_fuse)
    put(f"linear_fuse.{norm}", network.decode_head.batch_norm)
    put("linear_pred", network.decode_head.classifier)
    return {name: tensor.detach() for name, tensor in found.items()}
