"""A data set as its `dataset.yaml` tells it: classes, void, where files stand, how samples group, whom to cite."""

import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from effiseg.base.config import read_yaml, validate
from effiseg.base.errors import EffiSegError
from effiseg.base.schema import SplitName
from effiseg.base.section import Rate, Section
from effiseg.data.labels import MOST_CLASSES, ClassEntry, LabelSpace, Void, as_tuple
from effiseg.data.patterns import GroupTemplate, Pattern, group_regex

FILE = "dataset.yaml"
SHIPPED = Path(__file__).parents[1] / "datasets"

Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]


class SplitFiles(Section):
    """Where a split's images and labels stand.

    Attributes:
        names: a text file below the root with a sample's name on each line; empty: every file that matches.
    """

    images: Pattern
    labels: Pattern
    names: str = ""

    @model_validator(mode="after")
    def _are_two_files(self) -> Self:
        if self.images.text == self.labels.text:
            raise ValueError(f"images and labels are the same pattern, '{self.images.text}': a label is another file")
        if ("{folder}" in self.images.text) != ("{folder}" in self.labels.text):
            raise ValueError("{folder} stands in one of images and labels alone: the names would never agree")
        return self


class Share(Section):
    """A split that is a part of another: every `every`-th group of its samples, which the other then lacks."""

    part_of: SplitName
    every: Annotated[int, Field(ge=2)]


def _kind_of_split(value: Any) -> str:
    if isinstance(value, dict):
        return "[part]" if "part_of" in value else "[files]"
    return "[part]" if isinstance(value, Share) else "[files]"


# tags in brackets stand in no message
Split = Annotated[
    Annotated[SplitFiles, Tag("[files]")] | Annotated[Share, Tag("[part]")], Discriminator(_kind_of_split)
]


class DataSet(Section):
    """The content of a dataset.yaml.

    Attributes:
        name: short; it names experiments and registered models.
        title: for reports.
        groups: templates of names, of which the first that matches tells a sample's group (drive, city, sequence) and
            frame; without any, samples have nothing to do with each other.
        origin: what to do when files are missing.
        published_weights: of the classes, for `data.class_weights: paper`.
        generated: the pictures are no photographs; samples whose names begin with one of `known_by` are of this data
            set, whatever they are read as.
        paper: the numbers of the EffiSeg paper are of this data set.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    title: Annotated[str, Field(pattern=r"^[^|\r\n]+$")]
    classes: Annotated[tuple[ClassEntry, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=MOST_CLASSES)]
    void: Void = Void()
    groups: Annotated[tuple[GroupTemplate, ...], BeforeValidator(as_tuple)] = ()
    splits: dict[SplitName, Split]
    origin: str = "compare the patterns in its table with the folders"
    note: str = ""
    homepage: str = ""
    licence: str = ""
    citation: str = ""
    published_weights: Annotated[tuple[Rate, ...], BeforeValidator(as_tuple)] = ()
    generated: bool = False
    known_by: Names = ()
    paper: bool = False

    @cached_property
    def space(self) -> LabelSpace:
        """What labels mean."""
        return LabelSpace(name=self.name, entries=self.classes, void=self.void)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what prepared data follow from: not of what is only told to people."""
        told = {"origin", "note", "homepage", "licence", "citation"}
        return hashlib.sha256(self.model_dump_json(exclude=told).encode()).hexdigest()

    def group_of(self, name: str) -> tuple[str, int]:
        """The group that the sample `name` is from, and its frame there; a sample of no group is alone."""
        for template in self.groups:
            if match := group_regex(template).fullmatch(name):
                return match["group"], int(match.groupdict().get("frame") or 0)
        return name, 0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.space  # noqa: B018 - classes and void are checked as one
        for split, files in self.splits.items():
            if isinstance(files, Share) and not isinstance(self.splits.get(files.part_of), SplitFiles):
                raise ValueError(f"splits.{split}.part_of: '{files.part_of}' is no split with files of its own")
        if not any(isinstance(files, SplitFiles) for files in self.splits.values()):
            raise ValueError("splits: none; say where the images and labels of train stand")
        if self.published_weights and len(self.published_weights) != len(self.classes):
            raise ValueError(f"published_weights: {len(self.published_weights)} for {len(self.classes)} classes")
        return self


def shipped_names() -> list[str]:
    """Names of the tables that come with EffiSeg."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def table_file(source: str) -> Path:
    """The file that `data.source` names: a shipped table's name, or the path of a dataset.yaml.

    Raises:
        EffiSegError: there is no such table.
    """
    if re.fullmatch(r"[A-Za-z0-9_-]+", source) and (SHIPPED / f"{source}.yaml").is_file():
        return SHIPPED / f"{source}.yaml"
    if source == "huggingface":
        raise EffiSegError(
            "data.source: a data set of the Hugging Face Hub becomes files first, so that DVC sees them: `python -m "
            f"effiseg data fetch OWNER/NAME FOLDER --revision COMMIT`, then set data.source to FOLDER/{FILE}"
        )
    path = Path(source)
    if path.is_dir():
        path /= FILE
    if not path.is_file():
        raise EffiSegError(
            f"data.source: '{source}' is neither a table that comes with EffiSeg ({', '.join(shipped_names())}) nor "
            f"the path of a {FILE}; `python -m effiseg data init FOLDER` writes one"
        )
    return path


def open_dataset(source: str) -> DataSet:
    """The data set that `data.source` names.

    Raises:
        EffiSegError: there is no such table, or it is wrong; the message names the key.
    """
    path = table_file(source)
    try:
        return validate(DataSet, read_yaml(path), "")
    except EffiSegError as error:
        text = " ".join(str(error).split())
        raise EffiSegError(text if text.startswith(str(path)) else f"{path}: {text}") from None
