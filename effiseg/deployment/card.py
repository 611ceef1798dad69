"""What an exported file says about itself: where it came from, and how to read its answers."""

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from effiseg.base.errors import EffiSegError
from effiseg.data.fit import Fit
from effiseg.data.labels import LabelSpace

PREFIX = "effiseg."  # of the keys in an ONNX file's metadata


class Labelled(BaseModel):
    """How to read a network's answers.

    Attributes:
        space: the data set's classes, and what its label files hold.
        size: (height, width) that the network was trained at, to which `fit` brings a picture of another shape.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: LabelSpace
    size: tuple[int, int]
    fit: Fit

    @property
    def source(self) -> str:
        """The data set's name."""
        return self.space.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.space.classes


class Unexported(Labelled):
    """A model folder as the training left it: its answers can be read, and no more is said about it."""

    name: str


class Card(Labelled):
    """Provenance and label space of one trained row; it travels inside every exported file.

    Attributes:
        experiment: the row, trained with `seed` at `git_commit` on the prepared data of `data_digest`.
        miou: on the validation split at full label resolution, after the last epoch, as a fraction.
        start, licence: where its weights came from before training, and on which terms, where a model card says so.
        mean: of RGB in [0, 1], with `std`; the ONNX file normalises by itself, the checkpoint's processor does it.
    """

    experiment: str
    seed: int
    git_commit: str
    data_digest: str
    miou: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    start: str = ""
    licence: str = ""

    @property
    def name(self) -> str:
        """<experiment>-<seed>."""
        return f"{self.experiment}-{self.seed}"

    def plain(self) -> dict[str, Any]:
        """The fields as JSON has them; and plainly what other programs look for: source, classes and colours."""
        plain = {"source": self.source, "classes": self.classes, "colours": self.space.colours}
        return self.model_dump(mode="json") | plain

    def to_metadata(self) -> dict[str, str]:
        """What `plain` gives as ONNX keeps it: text by key, each value in JSON."""
        return {f"{PREFIX}{key}": json.dumps(value) for key, value in self.plain().items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], origin: str) -> Self:
        """Read what `to_metadata` wrote; other keys are left out.

        Raises:
            EffiSegError: a field is missing or damaged; the file is none that EffiSeg exported.
        """
        try:
            ours = {key: json.loads(metadata[PREFIX + key]) for key in cls.model_fields if PREFIX + key in metadata}
        except ValueError:
            ours = {}
        return cls.checked(ours, origin)

    @classmethod
    def checked(cls, fields: Any, origin: str) -> Self:
        """The card with these fields.

        Raises:
            EffiSegError: a field is missing or wrong.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            problem = error.errors()[0]
            reason = f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        raise EffiSegError(
            f"{origin}: not a file that this version of EffiSeg exported ({reason}); write one with `python -m effiseg "
            "export RUN`"
        )
