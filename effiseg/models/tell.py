"""What a checkpoint is, told from its names and shapes alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from effiseg.base.errors import EffiSegError
from effiseg.base.origins import classes_of, digest, weights_file
from effiseg.weights.files import listed, read_tensors
from effiseg.weights.layouts import layout_of, to_transformers
from effiseg.weights.reasons import variant_of
from effiseg.weights.variants import VARIANTS

_CLASSIFIER = "decode_head.classifier.weight"


@dataclass(frozen=True)
class Told:
    """What a checkpoint holds.

    Attributes:
        layout: whose names it has.
        variant: b0 to b5; empty where the encoder is of no published size.
        classes: outputs of the classifier; 0 without one.
        names: of the classes, where config.json beside the file tells them.
        missing: tensors of a whole network that it lacks, under transformers' names, in order.
        misshaped: tensors of another shape than the variant's.
        encoder: whether its encoder is whole.
        others: tensors that no layout knows.
    """

    file: Path
    sha256: str
    layout: str
    variant: str
    classes: int
    names: list[str] | None
    missing: list[str]
    misshaped: list[str]
    encoder: bool
    others: list[str]

    def lines(self) -> list[str]:
        """For people."""
        whole = self.variant and not self.missing and not self.misshaped
        head = "whole network" if whole else "encoder, without a whole decode head" if self.encoder else "parts"
        lines = [
            f"{self.file}: {head}, {self.variant.upper() or 'no published size'}, {self.layout}",
            f"sha256: {self.sha256}",
        ]
        if self.classes:
            names = f": {', '.join(self.names)}" if self.names and len(self.names) == self.classes else ""
            lines.append(f"classifier: {self.classes} outputs{names}")
        if self.missing:
            lines.append(f"missing for a whole network: {len(self.missing)} ({listed(self.missing)})")
        if self.misshaped:
            lines.append(f"of another shape than {self.variant.upper()}'s: {listed(self.misshaped)}")
        if self.others:
            lines.append(f"of another kind: {len(self.others)} ({listed(self.others)})")
        part = "network" if whole else "encoder"
        if self.encoder:
            lines.append(f"to start from it: model.variant: {self.variant}, start: {{source: file, part: {part}, ...}}")
        else:
            lines.append("no row can start from it: its encoder is not whole")
        return lines


def tell(path: str) -> Told:
    """Look into a checkpoint, or a folder that transformers wrote, without running code from it.

    Raises:
        EffiSegError: it cannot be read, or is none of SegFormer.
    """
    file = weights_file(path)
    tensors = read_tensors(file)
    layout = layout_of(tensors)
    if not layout:
        raise EffiSegError(
            f"{file}: no SegFormer: none of its {len(tensors)} tensors has a known name ({listed(tensors)})"
        )
    try:
        found = to_transformers(tensors, num_labels=0)
    except EffiSegError as error:
        raise EffiSegError(f"{file}: {error}") from None
    variant, classes = variant_of(found), len(found.get(_CLASSIFIER, ()))
    expected = _expected(found, variant, classes)
    missing = [name for name in expected if name not in found]
    misshaped = [name for name, shape in expected.items() if name in found and shape not in (None, found[name].shape)]
    return Told(
        file=file,
        sha256=digest(file),
        layout=layout,
        variant=variant,
        classes=classes,
        names=classes_of(file),
        missing=missing,
        misshaped=misshaped,
        encoder=bool(variant) and not any(name.startswith("segformer.") for name in (*missing, *misshaped)),
        others=[name for name in found if name not in expected] if variant else [],
    )


def _expected(found: Mapping[str, Tensor], variant: str, classes: int) -> dict[str, torch.Size | None]:
    """A whole network's tensors by name, with their shapes.

    Norms and embeddings of other kinds, where the checkpoint has them, are of any shape.
    """
    if not variant:
        return {}
    with torch.device("meta"):
        config = SegformerConfig(num_labels=max(classes, 1), **VARIANTS[variant])
        network = SegformerForSemanticSegmentation(config).state_dict()
    expected: dict[str, torch.Size | None] = {name: tensor.shape for name, tensor in network.items()}
    norms = [name for name in found if name.endswith(".alpha") and f"{name.removesuffix('alpha')}weight" in expected]
    expected |= dict.fromkeys(norms)
    bottleneck = [name for name in found if ".patch_embeddings.proj." in name and name.count(".") == 6]
    if bottleneck:
        expected = {name: shape for name, shape in expected.items() if ".patch_embeddings.proj." not in name}
        expected |= dict.fromkeys(bottleneck)
    return expected
