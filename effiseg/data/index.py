"""What the prepared form of a data set says about itself: `index.json`, beside the arrays."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from effiseg.data.fit import Fit
from effiseg.data.labels import LabelSpace

INDEX_FILE = "index.json"
IMAGES_FILE = "images.npy"
LABELS_FILE = "labels.npy"

Count = Annotated[int, Field(ge=0)]
Side = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SplitIndex(_Record):
    """What is learned, or scored.

    Attributes:
        splits: of the data set, that it is from.
        names: of the samples, in the order of the arrays.
        groups: of each sample the group (drive, city, sequence) and its frame there.
        pixel_counts: per trainId, with `void_pixels` at the labels' own resolution.
    """

    splits: Annotated[tuple[str, ...], Field(min_length=1)]
    names: Annotated[tuple[str, ...], Field(min_length=1)]
    groups: tuple[tuple[str, int], ...]
    pixel_counts: list[Count]
    void_pixels: Count


class Index(_Record):
    """The content of `index.json`.

    Attributes:
        space: classes and what label files mean.
        table: the fingerprint of the data set's table.
        size: (height, width) of images and training labels, to which `fit` brought them.
        label_sizes: of the val labels, one for each or, where all are alike, one.
        generated: the pictures are no photographs.
        paper: the EffiSeg paper's numbers are of this data set.
    """

    format: Literal[3]
    title: str
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    table: str
    space: LabelSpace
    size: tuple[Side, Side]
    fit: Fit
    label_sizes: Annotated[list[tuple[Side, Side]], Field(min_length=1)]
    class_weights: list[Weight]
    generated: bool
    paper: bool
    splits: dict[str, SplitIndex]

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if self.splits.keys() != {"train", "val"}:
            raise ValueError(f"splits are {', '.join(self.splits)}, expected train and val")
        classes = len(self.space.classes)
        per_class: list[Sequence[float]] = [self.class_weights, *(split.pixel_counts for split in self.splits.values())]
        if any(len(values) != classes for values in per_class):
            raise ValueError(f"{classes} classes, but another number of weights or counts")
        if any(len(split.groups) != len(split.names) for split in self.splits.values()):
            raise ValueError("another number of groups than of names")
        if len(self.label_sizes) not in (1, len(self.splits["val"].names)):
            raise ValueError(f"{len(self.label_sizes)} sizes of {len(self.splits['val'].names)} val labels")
        return self
