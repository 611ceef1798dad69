"""What a network hands to the losses."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Outputs:
    """One forward pass. Lists run from the finest stage (1/4) to the coarsest (1/32).

    Attributes:
        logits: (N, classes, H/4, W/4); None when nobody asked for them.
        features: stage outputs, each (N, C_i, H_i, W_i).
        embeddings: patch embeddings after their norm, as tokens (N, H_i * W_i, C_i).
    """

    logits: Tensor | None = None
    features: list[Tensor] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)

    def copied(self) -> "Outputs":
        """The same values in tensors of their own."""
        logits = None if self.logits is None else self.logits.clone()
        return Outputs(logits, [x.clone() for x in self.features], [x.clone() for x in self.embeddings])
