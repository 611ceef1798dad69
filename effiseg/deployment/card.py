"""What an exported file says about itself: where it came from, and how to read its answers."""

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from effiseg.base.errors import EffiSegError
from effiseg.data.labels import LABEL_SPACES, Colour, LabelSpace

PREFIX = "effiseg."  # of the keys in an ONNX file's metadata


class Card(BaseModel):
    """Provenance and label space of one trained row; it travels inside every exported file.

    Attributes:
        experiment: the row, trained with `seed` at `git_commit` on the prepared data of `data_digest`.
        miou: on the validation split at full label resolution, after the last epoch, as a fraction.
        source: the data set, whose label space is that of the predictions.
        size: (height, width) that the network was trained at.
        mean: of RGB in [0, 1], with `std`; the ONNX file normalises by itself, the checkpoint's processor does it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str
    seed: int
    git_commit: str
    data_digest: str
    miou: float
    source: str
    size: tuple[int, int]
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def name(self) -> str:
        """<experiment>-<seed>."""
        return f"{self.experiment}-{self.seed}"

    @property
    def space(self) -> LabelSpace:
        """The label space of the predictions."""
        return LABEL_SPACES[self.source]

    def to_metadata(self) -> dict[str, str]:
        """The fields as ONNX keeps them: text by key, each value in JSON."""
        return {f"{PREFIX}{key}": json.dumps(value) for key, value in self.model_dump(mode="json").items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], origin: str) -> Self:
        """Read what `to_metadata` wrote; other keys are left out.

        Raises:
            EffiSegError: a field is missing or damaged; the file is none that EffiSeg exported.
        """
        try:
            ours = {key: json.loads(text) for key, text in metadata.items() if key.startswith(PREFIX)}
        except ValueError:
            ours = {}
        return cls.checked({key.removeprefix(PREFIX): value for key, value in ours.items()}, origin)

    @classmethod
    def checked(cls, fields: Any, origin: str) -> Self:
        """The card with these fields.

        Raises:
            EffiSegError: a field is missing or wrong, or the data set is not known.
        """
        try:
            card = cls.model_validate(fields)
        except ValidationError as error:
            problem = error.errors()[0]
            reason = f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        else:
            if card.source in LABEL_SPACES and card.classes == card.space.classes:
                return card
            reason = f"classes of an unknown data set '{card.source}'"
        raise EffiSegError(
            f"{origin}: not a file that EffiSeg exported ({reason}); write one with `python -m effiseg export RUN`"
        )
