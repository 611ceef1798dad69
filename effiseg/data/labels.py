"""What the pixels of a data set's label files mean."""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from effiseg.base.schema import ignore_index
from effiseg.base.section import Section

MOST_ID = 2**16 - 1  # that a label file of 16 bits holds
MOST_CLASSES = 2**15 - 2
UNKNOWN = -1  # in lookup tables: no class, and not void

Channel = Annotated[int, Field(ge=0, le=255)]
Id = Annotated[int, Field(ge=0, le=MOST_ID)]


def as_tuple(value: Any) -> Any:
    """A list, as YAML and JSON have it, as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _as_ids(value: Any) -> Any:
    return (value,) if isinstance(value, int) else as_tuple(value)


def _as_colours(value: Any) -> Any:
    if isinstance(value, list) and value and not isinstance(value[0], list | tuple):
        value = [value]
    return as_tuple(value)


Colour = Annotated[tuple[Channel, Channel, Channel], BeforeValidator(as_tuple)]
Ids = Annotated[tuple[Id, ...], BeforeValidator(_as_ids)]
Colours = Annotated[tuple[Colour, ...], BeforeValidator(_as_colours)]


class ClassEntry(Section):
    """One class: its name, the colour that pictures show it in, and the ids or RGB colours of label files that mean it.

    Without ids and colours, its own colour stands for it in the files.
    """

    name: Annotated[str, Field(min_length=1)]
    colour: Colour
    ids: Ids = ()
    colours: Colours = ()


class Void(Section):
    """What counts nowhere: these ids, these colours, or everything that no class has (`rest`)."""

    ids: Ids = ()
    colours: Colours = ()
    rest: bool = False


class LabelSpace(Section):
    """The classes of a data set in trainId order, and what is void. It travels with whatever predicts them.

    Attributes:
        name: the data set's.
        entries: one per class.
    """

    name: str
    entries: Annotated[tuple[ClassEntry, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=MOST_CLASSES)]
    void: Void = Void()

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names, in trainId order."""
        return tuple(entry.name for entry in self.entries)

    @cached_property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """Of pictures, one RGB colour per class."""
        return tuple(entry.colour for entry in self.entries)

    @property
    def by_id(self) -> bool:
        """Whether label files may hold ids."""
        return bool(self.entries[0].ids)

    @property
    def by_colour(self) -> bool:
        """Whether label files may hold RGB colours."""
        return bool(self.label_colours[0])

    @cached_property
    def label_colours(self) -> tuple[tuple[tuple[int, int, int], ...], ...]:
        """The colours of label files that mean each class; empty ones where files hold ids alone."""
        return tuple(entry.colours if entry.ids or entry.colours else (entry.colour,) for entry in self.entries)

    @property
    def ignore_index(self) -> int:
        """The trainId of void."""
        return ignore_index(len(self.entries))

    @cached_property
    def of_id(self) -> NDArray[np.int32]:
        """Table of 65536 entries, id -> trainId; `UNKNOWN` where the id is not allowed."""
        table = np.full(MOST_ID + 1, self.ignore_index if self.void.rest else UNKNOWN, dtype=np.int32)
        table[list(self.void.ids)] = self.ignore_index
        for train_id, entry in enumerate(self.entries):
            table[list(entry.ids)] = train_id
        return table

    @cached_property
    def of_colour(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The colours that mean something, as sorted `packed` numbers, and the trainId of each."""
        known = {packed_colour(colour): self.ignore_index for colour in self.void.colours}
        for train_id, colours in enumerate(self.label_colours):
            known |= {packed_colour(colour): train_id for colour in colours}
        keys = sorted(known)
        return np.array(keys, dtype=np.int32), np.array([known[key] for key in keys], dtype=np.int32)

    @model_validator(mode="after")
    def _is_unambiguous(self) -> Self:
        _refuse_repeated("classes", "name", [[entry.name] for entry in self.entries], self.classes)
        for kind in ("ids", "colours"):
            given = [bool(getattr(entry, kind)) for entry in self.entries]
            if any(given) and not all(given):
                raise ValueError(
                    f"class '{self.classes[given.index(False)]}' has no {kind}, but others have: all or none"
                )
        names = (*self.classes, "void")
        _refuse_repeated("ids", "id", [*(entry.ids for entry in self.entries), self.void.ids], names)
        _refuse_repeated("colours", "colour", [*self.label_colours, self.void.colours], names)
        return self


def packed_colour(colour: Sequence[int]) -> int:
    """An RGB colour as one number of 24 bits."""
    red, green, blue = colour
    return (red << 16) | (green << 8) | blue


def packed(colours: NDArray[Any]) -> NDArray[np.int32]:
    """RGB colours (..., 3) as `packed_colour` packs one."""
    return colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)


def unpacked(packed: int) -> tuple[int, int, int]:
    """The RGB colour of a packed number."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def computed_weights(pixel_counts: Sequence[int]) -> list[float]:
    """1 / ln(1.10 + share) of each class (ENet, Paszke et al. 2016) from its training pixels, void left out."""
    counts = np.asarray(pixel_counts, dtype=np.float64)
    return (1 / np.log(1.10 + counts / counts.sum())).tolist()


def _refuse_repeated(kind: str, what: str, values: Sequence[Sequence[Any]], owners: Sequence[str]) -> None:
    taken: dict[Any, str] = {}
    for owner, own in zip(owners, values, strict=True):
        for value in own:
            if value in taken:
                shown = list(value) if isinstance(value, tuple) else value
                raise ValueError(f"{what} {shown} stands twice ({taken[value]}, {owner}): {kind} must differ")
            taken[value] = owner
