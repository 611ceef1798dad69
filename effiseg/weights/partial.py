"""Loading as much of a checkpoint as a network has a place for, and saying what was loaded, left aside and drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from effiseg.base.errors import EffiSegError
from effiseg.weights.files import listed
from effiseg.weights.layouts import misfits
from effiseg.weights.reasons import reason
from effiseg.weights.select import select

Part = Literal["network", "encoder", "selected"]
ENCODER = "segformer."
_HEAD = ("decode_head.linear_fuse.weight", "decode_head.classifier.weight")
_CLASSIFIER = ("decode_head.classifier.weight", "decode_head.classifier.bias")


@dataclass(frozen=True)
class Loaded:
    """Names of tensors: of the network, loaded and as drawn; of the checkpoint, left aside; and why, in words."""

    loaded: Sequence[str]
    drawn: Sequence[str]
    left_aside: Sequence[str]
    why: Sequence[str]

    def told(self) -> str:
        """In one line."""
        parts = [f"{len(self.loaded)} tensors loaded"]
        parts += [f"{len(self.drawn)} drawn ({listed(self.drawn)})"] if self.drawn else []
        parts += [f"{len(self.left_aside)} left aside ({listed(self.left_aside)})"] if self.left_aside else []
        return "; ".join([*parts, *self.why])


def load_part(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    part: Part,
    classes: Sequence[str],
    known_as: Sequence[str] | None,
    origin: str,
) -> Loaded:
    """Put a checkpoint's tensors into a network that is drawn.

    What must be there is strict: every tensor of the part, of its shape. What has no counterpart stays as drawn: norms
    and embeddings of another kind than the checkpoint's, and a classifier of other classes. Classes of the same names
    in another order are put in order.

    Args:
        model: left untouched on an error.
        tensors: under the model's own names, as from `to_transformers`.
        part: `network` is all of it, `encoder` leaves the decode head as drawn; `selected` is a choice of a larger
            network's weights, see `select`, of its encoder and, where it has one, of its decode head.
        classes: the network's, in order.
        known_as: the checkpoint's, where it says so.
        origin: what the message calls the checkpoint.

    Raises:
        EffiSegError: tensors are missing, unexpected, or of another shape or kind.
    """
    own = model.state_dict()
    headless = part == "encoder" or (part == "selected" and not any(name in tensors for name in _HEAD))
    found = {name: tensor for name, tensor in tensors.items() if not headless or name.startswith(ENCODER)}
    why: list[str] = []
    found = found if headless else _classifier(found, own, classes, known_as, why)
    if part == "selected":
        found = select(found, own)
        why.append("weights were selected, evenly spaced, from those of a larger network")
    replaced = _replaced(own, found, why)
    wanted = [
        name
        for name in own
        if (not headless or name.startswith(ENCODER))
        and not name.startswith(replaced)
        and (name not in _CLASSIFIER or name in found)
    ]
    used = {name: tensor for name, tensor in found.items() if not name.startswith(replaced)}
    if told := misfits(used, own, wanted):
        why_not = reason(tensors, own)
        raise EffiSegError(
            f"{origin}: does not fit the model{why_not and f': {why_not}'}; nothing was loaded: {'; '.join(told)}; use "
            f"a checkpoint of this architecture and variant{', or start.part: encoder' if part == 'network' else ''}"
        )
    model.load_state_dict(own | used)
    drawn = [name for name in own if name not in used]
    return Loaded(list(used), drawn, [name for name in tensors if name not in used], why)


def _classifier(
    found: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    classes: Sequence[str],
    known_as: Sequence[str] | None,
    why: list[str],
) -> dict[str, Tensor]:
    """The tensors with a classifier of these classes in their order, or without one."""
    weight = found.get(_CLASSIFIER[0])
    if weight is None:
        return dict(found)
    others = {name: tensor for name, tensor in found.items() if name not in _CLASSIFIER}
    if known_as is not None and len(known_as) == len(weight) and set(classes) <= set(known_as):
        order = [list(known_as).index(name) for name in classes]
        if order != list(range(len(known_as))):
            why.append("the classifier's classes were put in the data set's order, by their names")
        return others | {name: found[name][order] for name in _CLASSIFIER if name in found}
    if len(weight) != len(own[_CLASSIFIER[0]]):
        why.append(f"the classifier is drawn: the checkpoint knows {len(weight)} classes, the data set {len(classes)}")
        return others
    if known_as is not None:
        why.append("the classifier is drawn: the checkpoint's classes have other names")
        return others
    why.append("the classifier is kept: the checkpoint does not name its classes, and has as many")
    return dict(found)


def _replaced(own: Mapping[str, Tensor], found: Mapping[str, Tensor], why: list[str]) -> tuple[str, ...]:
    """Prefixes of norms, and of patch embeddings, that are of another kind in the network than in the checkpoint."""
    norms = [name.removesuffix("alpha") for name in own if name.endswith(".alpha") and name not in found]
    embeddings = [
        name.removesuffix("reduce.weight") for name in own if name.endswith(".proj.reduce.weight") and name not in found
    ]
    if norms:
        why.append(f"{len(norms)} norms are drawn: the checkpoint has LayerNorms there")
    if embeddings:
        why.append(f"{len(embeddings)} patch embeddings are drawn: the checkpoint has overlapping ones")
    return (*norms, *embeddings)
