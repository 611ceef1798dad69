"""Why a checkpoint does not fit, told from its names and shapes."""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from effiseg.weights.variants import VARIANTS

_WIDTH = "segformer.stages.0.layer_norm.weight"
_CLASSIFIER = "decode_head.classifier.weight"
_BLOCK = re.compile(r"segformer\.stages\.(\d+)\.blocks\.(\d+)\.")
_FOREIGN = (
    (r"(?:^|\.)(?:convs\.\d+|fusion_conv)\.(?:conv|bn)\.", "it is in mmsegmentation's layout"),
    (r"(?:^|\.)(?:decoder\.mlp_stage|segmentation_head)\.", "it is of segmentation_models.pytorch"),
)
_OF_TRAINING = re.compile(r"(?:^|\.)(?:auxiliary_head|aux_head|criterion|loss|loss_fn|optimizer|metric)\.")


def reason(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """What is the matter with a checkpoint, in a few words; empty where only its names can tell.

    Args:
        found: its tensors, under the model's names where those are understood.
        own: the model's.
    """
    for pattern, text in _FOREIGN:
        if any(re.search(pattern, name) for name in found):
            return f"{text}, whose decode head is another"
    of_training = [name for name in found if name not in own and _OF_TRAINING.search(name)]
    if of_training and found.keys() - set(of_training) == own.keys():
        names = ", ".join(of_training[:3])
        return f"it holds what belongs to a training and not to the network ({names}): leave that out"
    ours, theirs = variant_of(own), variant_of(found)
    if ours and theirs and ours != theirs:
        return f"it is a {theirs.upper()}, and model.variant says {ours}"
    head = [
        name for name in found if name.startswith("decode_head.") and not name.startswith("decode_head.classifier.")
    ]
    if not head and _blocks(found):  # of ImageNet it may have a classifier
        return "it is an encoder without a decode head"
    if _CLASSIFIER in found and _CLASSIFIER in own and len(found[_CLASSIFIER]) != len(own[_CLASSIFIER]):
        return f"it knows {len(found[_CLASSIFIER])} classes, and the data set has {len(own[_CLASSIFIER])}"
    return ""


def variant_of(tensors: Mapping[str, Tensor]) -> str:
    """Which published size an encoder has, under transformers' names; empty where it is none."""
    width = tensors[_WIDTH].shape[0] if _WIDTH in tensors else 0
    blocks = _blocks(tensors)
    for name, size in VARIANTS.items():
        if (tuple(size["depths"]), size["hidden_sizes"][0]) == (blocks, width):
            return name
    return ""


def _blocks(names: Collection[str]) -> tuple[int, ...]:
    """Blocks per stage."""
    found = {(int(match[1]), int(match[2])) for name in names if (match := _BLOCK.match(name))}
    stages = {stage for stage, _ in found}
    return tuple(sum(stage == each for stage, _ in found) for each in sorted(stages))
