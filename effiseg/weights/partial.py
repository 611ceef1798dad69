"""Loading as much of a checkpoint as a network has a place for, and saying what was loaded, left aside and drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

from torch import Tensor, nn

from effiseg.base.errors import EffiSegError
from effiseg.weights.files import listed
from effiseg.weights.layouts import misfits
from effiseg.weights.reasons import reason
from effiseg.weights.select import select

Part = Literal["network", "encoder", "selected"]
ENCODER = "segformer."
_NO_LAYER_NORM = (".alpha", ".running_mean")  # by which norms of another kind are known
_HEAD = ("decode_head.linear_fuse.weight", "decode_head.classifier.weight")
_CLASSIFIER = ("decode_head.classifier.weight", "decode_head.classifier.bias")


@dataclass(frozen=True)
class Loaded:
    """What came of a checkpoint.

    Attributes:
        loaded, drawn: names of the network's tensors that are the checkpoint's, and that are not.
        left_aside: of the checkpoint's that have no place.
        why: in words.
        norms: of another kind than the LayerNorms that the checkpoint has in their places.
        fitted_by: the number of images by which these were fitted to the LayerNorms; 0 where they are as drawn.
    """

    loaded: Sequence[str]
    drawn: Sequence[str]
    left_aside: Sequence[str]
    why: Sequence[str]
    norms: Sequence[str] = ()
    fitted_by: int = 0

    def with_fitted_norms(self, images: int) -> Self:
        """The same after `norms` have been fitted to the checkpoint's LayerNorms."""
        prefixes = tuple(f"{norm}." for norm in self.norms)
        drawn = [name for name in self.drawn if not name.startswith(prefixes)]
        return replace(self, drawn=drawn, fitted_by=images)

    def told(self) -> str:
        """In one line."""
        parts = [f"{len(self.loaded)} tensors loaded"]
        parts += [f"{len(self.drawn)} drawn ({listed(self.drawn)})"] if self.drawn else []
        parts += [f"{len(self.left_aside)} left aside ({listed(self.left_aside)})"] if self.left_aside else []
        if self.norms:
            count = f"{len(self.norms)} norms are"
            fitted = f"fitted to the checkpoint's LayerNorms, by {self.fitted_by} images"
            parts.append(f"{count} {fitted if self.fitted_by else 'drawn: the checkpoint has LayerNorms there'}")
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
    norms, embeddings = _replaced(own, found)
    replaced = (*(f"{norm}." for norm in norms), *embeddings)
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
        in_head = not misfits(
            {name: each for name, each in used.items() if name.startswith(ENCODER)},
            own,
            [name for name in wanted if name.startswith(ENCODER)],
        )
        cure = ", or start.part: encoder" if part == "network" and in_head else ""
        raise EffiSegError(
            f"{origin}: does not fit the model{why_not and f': {why_not}'}; nothing was loaded: {'; '.join(told)}; use "
            f"a checkpoint of this architecture and variant{cure}"
        )
    model.load_state_dict(own | used)
    if embeddings:
        why.append(f"{len(embeddings)} patch embeddings are drawn: the checkpoint has overlapping ones")
    drawn = [name for name in own if name not in used]
    return Loaded(list(used), drawn, [name for name in tensors if name not in used], why, norms)


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


def _replaced(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Norms, and prefixes of patch embeddings, that are of another kind in the network than in the checkpoint."""
    norms = [
        name.rpartition(".")[0]
        for name in own
        if name.startswith(ENCODER) and name.endswith(_NO_LAYER_NORM) and name not in found
    ]
    embeddings = [
        name.removesuffix("reduce.weight") for name in own if name.endswith(".proj.reduce.weight") and name not in found
    ]
    return norms, embeddings
