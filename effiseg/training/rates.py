"""Learning rates that differ within a network."""

import re
from collections.abc import Iterable, Sequence

_PLACE = re.compile(
    r"network\.segformer\.stages\.(?P<stage>\d+)\.(?:(?:blocks\.(?P<block>\d+)|(?P<norm>layer_norm))\.)?"
)


def rate_factors(names: Iterable[str], depths: Sequence[int], *, head: float, decay: float) -> dict[str, float]:
    """What the learning rate is multiplied by, for each parameter of a task.

    Layer-wise decay (as in BEiT, Bao et al. 2022): the encoder's last block learns `decay` times as fast as what stands
    behind it, and each block before it again `decay` times. A patch embedding counts to the block before it, the norm
    at a stage's end to the stage's last block. The decode head learns `head` times as fast as all else.

    Args:
        names: of parameters.
        depths: blocks in each stage.
    """
    return {name: decay ** _behind(name, depths) * (head if "decode_head." in name else 1.0) for name in names}


def _behind(name: str, depths: Sequence[int]) -> int:
    """How many blocks, and what stands behind them, come after the parameter's own; 0 outside the encoder."""
    place = _PLACE.search(name)
    if place is None:
        return 0
    stage = int(place["stage"])
    inside = int(place["block"]) + 1 if place["block"] else depths[stage] if place["norm"] else 0
    return sum(depths) + 1 - (sum(depths[:stage]) + inside)
