"""The sections of params.yaml: their keys, types and ranges."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from effiseg.base.objective import Loss
from effiseg.base.recipe import Train
from effiseg.base.section import Channels, Deviations, Positive, Rate, Section, Seed, Size, Weight

IGNORE_INDEX = 255  # the label of pixels that count nowhere, in every data set of at most 255 classes
_MANY_IGNORE_INDEX = 2**15 - 1  # and in the others, whose labels need 16 bits


def ignore_index(classes: int) -> int:
    """The label of pixels that count nowhere, in a data set of so many classes."""
    return IGNORE_INDEX if classes <= IGNORE_INDEX else _MANY_IGNORE_INDEX


def label_type(classes: int) -> str:
    """The type that holds the trainIds of so many classes and `ignore_index`, as numpy and torch name it."""
    return "uint8" if classes <= IGNORE_INDEX else "int16"


EmbeddingName = Literal["overlap", "bottleneck"]
NormName = Literal["layernorm", "dyt", "dyl", "derf", "batchnorm"]
SplitName = Literal["train", "val", "test"]
DrawName = Literal["mit", "transformers"]


class Data(Section):
    """Which data, and which part of them for what.

    Attributes:
        source: a shipped table's name, or the path of a dataset.yaml.
        fit: how a picture of another shape becomes `size`.
        train_on, score_on: splits of the data set.
        held_out: prefixes of names, or groups, of training samples that are scored instead of `score_on`.
        final_on: splits that finished trainings are scored on besides.
        allow_overlap: whether what is scored may have been learned.
    """

    source: Annotated[str, Field(min_length=1)]
    root: Annotated[str, Field(min_length=1)]
    size: Size
    fit: Literal["squash", "pad"]
    train_on: Annotated[list[SplitName], Field(min_length=1)]
    score_on: SplitName
    held_out: list[Annotated[str, Field(min_length=1)]]
    final_on: list[SplitName]
    allow_overlap: bool
    class_weights: Literal["computed", "paper"]

    @property
    def validation(self) -> str:
        """What is learned and scored, where it is not train and val."""
        parts = [] if self.train_on == ["train"] else [f"trained on {' + '.join(self.train_on)}"]
        if self.held_out:
            return "; ".join([*parts, f"held out: {', '.join(self.held_out)}"])
        parts += [] if self.score_on == "val" else [f"scored on {self.score_on}"]
        return "; ".join([*parts, "which it was trained on"] if self.score_on in self.train_on else parts)

    @model_validator(mode="after")
    def _looks_at_the_end_alone(self) -> Self:
        if len(set(self.final_on)) < len(self.final_on):
            raise ValueError(f"final_on {self.final_on} names a split twice")
        if self.final_on and self.held_out:
            raise ValueError(
                f"held_out {self.held_out} is for tuning, and final_on {self.final_on} for when nothing is chosen any "
                "more; leave one of them empty"
            )
        for split in self.final_on:
            if split == self.score_on:
                raise ValueError(f"final_on names '{split}', which score_on scores already; take it out")
            if split in self.train_on and not self.allow_overlap:
                raise ValueError(
                    f"final_on '{split}' is also trained on, so the scores would show what was learned by heart; take "
                    "it out, or set allow_overlap: true if it is meant"
                )
        return self

    @model_validator(mode="after")
    def _learns_and_scores_apart(self) -> Self:
        if len(set(self.train_on)) < len(self.train_on):
            raise ValueError(f"train_on {self.train_on} names a split twice")
        if self.held_out and self.score_on != "val":
            raise ValueError(
                f"held_out {self.held_out} is scored in place of a split, so score_on '{self.score_on}' would not be; "
                "leave score_on at val, or held_out empty"
            )
        if self.score_on in self.train_on and not self.held_out and not self.allow_overlap:
            raise ValueError(
                f"score_on '{self.score_on}' is also trained on, so the scores would show what was learned by heart; "
                "score on another split, hold samples out, or set allow_overlap: true if it is meant"
            )
        return self


class Synthesize(Section):
    train: Positive
    val: Positive
    height: Annotated[int, Field(ge=32, le=2048, multiple_of=2)]
    seed: Seed


class Start(Section):
    """Where a network's weights come from before it is trained, and which part of them is taken."""

    source: Literal["drawn", "huggingface", "gdrive", "url", "file", "run"]
    part: Literal["network", "encoder", "selected"]
    repo: str
    revision: str
    gdrive_id: str
    url: str
    path: str
    run: str
    sha256: Annotated[str, Field(pattern=r"^([0-9a-fA-F]{64})?$")]

    @property
    def key(self) -> str:
        """The key that `source` reads; empty for drawn weights."""
        keys = {"huggingface": "repo", "gdrive": "gdrive_id", "url": "url", "file": "path", "run": "run"}
        return keys.get(self.source, "")

    @property
    def is_fetched(self) -> bool:
        """Whether the weights come from outside of the study."""
        return self.source not in ("drawn", "run")

    @property
    def address(self) -> dict[str, str]:
        """What says which bytes are fetched, by key; empty where none are."""
        if not self.is_fetched:
            return {}
        keys = {"source", self.key, "sha256"} | ({"revision"} if self.source == "huggingface" else set())
        return self.model_dump(include=keys)

    @model_validator(mode="after")
    def _source_is_complete(self) -> Self:
        if self.key and not getattr(self, self.key):
            raise ValueError(f"source '{self.source}' needs start.{self.key}, which is empty")
        if self.source == "run" and not re.fullmatch(r".+-\d+", self.run):
            raise ValueError(f"start.run is <row>-<seed>, such as baseline-0, found '{self.run}'")
        return self


class Norms(Section):
    patch_embedding: NormName
    block: NormName
    sequence_reduction: NormName
    stage_output: NormName


class Model(Section):
    variant: Literal["b0", "b1", "b2", "b3", "b4", "b5"]
    embedding: EmbeddingName
    norms: Norms
    draw: DrawName
    alpha_init: Rate
    mean: Channels
    std: Deviations

    def drawing(self) -> set[str]:
        """The keys that say how weights are drawn: alpha's first value where a norm has an alpha."""
        has_alpha = set(self.norms.model_dump().values()) - {"layernorm", "batchnorm"}
        return {"draw", "alpha_init"} if has_alpha else {"draw"}


class Study(Section):
    experiments: list[str]
    teachers: list[str]
    distillation: list[str]
    assistant: str
    assisted: list[str]
    origin: str
    continued: list[str]
    min_teacher_miou: Annotated[float, Field(ge=0, lt=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    launcher: Annotated[str, Field(min_length=1)]


class Resources(Section):
    """What one stage takes of a machine: processors (also its threads), GPUs (also a share of one), memory.

    `all` processors are a whole machine's; `auto` is one GPU where the cluster has any. Unset: as `default` says.
    """

    cpus: Rate | Literal["all"] | None = None
    gpus: Weight | Literal["auto"] | None = None
    memory_gb: Rate | None = None

    @model_validator(mode="after")
    def _shares_are_of_one(self) -> Self:
        for name, amount in (("cpus", self.cpus), ("gpus", self.gpus)):
            if isinstance(amount, float) and amount > 1 and amount != int(amount):
                raise ValueError(f"{name} above 1 must be a whole number, found {amount}")
        return self


class Cluster(Section):
    resources: dict[str, Resources]
    retries: Annotated[int, Field(ge=0)]
    remote: str

    @model_validator(mode="after")
    def _default_is_complete(self) -> Self:
        if "default" not in self.resources or None in self.resources["default"].model_dump().values():
            raise ValueError("resources.default must say cpus, gpus and memory_gb: they hold for every other stage")
        return self

    def of(self, stage: str) -> Resources:
        """What the stage of this name in dvc.yaml takes: without a line of its own, what `profile` says of
        `profile_distilled`, its variation."""
        found = self.resources.get(stage) or self.resources.get(stage.split("_")[0])
        own = found.model_dump(exclude_none=True) if found else {}
        return Resources(**{**self.resources["default"].model_dump(), **own})


class Profile(Section):
    size: Size
    repeats: Positive


class Deploy(Section):
    calibration: Positive


class Report(Section):
    panels: Annotated[int, Field(ge=1, le=16)]


class Row(Section):
    """One experiment with everything filled in: the base sections with the row's differences merged."""

    name: str
    model: Model
    start: Start
    loss: Loss
    train: Train

    @model_validator(mode="after")
    def _untrained_weights_come_from_somewhere(self) -> Self:
        if not self.train.epochs and self.start.source == "drawn":
            raise ValueError(
                "train.epochs 0 leaves the row untrained, and start.source is 'drawn'; set train.epochs above 0, or "
                "start.source to file, url, gdrive, huggingface or run"
            )
        if not self.train.epochs and self.start.part == "encoder":
            raise ValueError("train.epochs 0 leaves the decode head as drawn, with start.part 'encoder'; train the row")
        return self

    def used(self) -> dict[str, Any]:
        """The settings that the row's weights depend on, and no others: nested, as in params.yaml.

        Of weights that are not drawn it says which part is taken: the weights themselves are seen by their content.
        """
        drawn = self.model.drawing() if self.train.epochs else set()
        model = self.model.model_dump(exclude={"draw", "alpha_init"} - drawn)
        start = {"source": "drawn"} if self.start.source == "drawn" else {"part": self.start.part}
        settings = {"model": model, "start": start}
        if not self.train.epochs:
            return settings | {"train": {"epochs": 0}}
        return settings | {"loss": self.loss.used(), "train": self.train.used()}
