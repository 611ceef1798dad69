"""What the norms of a trained network do to what they get."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effiseg.models.norms import norm_places
from effiseg.models.segformer import Segmenter


@torch.inference_mode()
def sample_norms(model: Segmenter, images: Tensor, points: int = 400) -> dict[str, NDArray[np.generic]]:
    """What each norm of the encoder gets and gives on a batch: the motive for DyT and DyL.

    Returns:
        names (M,), kinds (M,), inputs (M, points) and outputs (M, points) float32, at the same random elements.
    """
    names, kinds, inputs, outputs, hooks = [], [], [], [], []
    generator = torch.Generator().manual_seed(0)

    def record(_module: torch.nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        index = torch.randint(output.numel(), (points,), generator=generator)
        inputs.append(args[0].flatten()[index.to(output.device)].float().cpu().numpy())
        outputs.append(output.flatten()[index.to(output.device)].float().cpu().numpy())

    for _, name, holder, attribute in norm_places(model.network):
        norm = getattr(holder, attribute)
        names.append(name)
        kinds.append(type(norm).__name__.lower())
        hooks.append(norm.register_forward_hook(record))
    try:
        model.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        "names": np.array(names),
        "kinds": np.array(kinds),
        "inputs": np.stack(inputs),
        "outputs": np.stack(outputs),
    }
