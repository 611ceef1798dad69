"""A checkpoint as it lies in the study: the file, and beside it what is known of where it came from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from effiseg.base.errors import EffiSegError
from effiseg.base.files import write_text

CHECKPOINT_FILE, SOURCE_FILE = "checkpoint", "source.json"


class Source(BaseModel):
    """Where weights came from.

    Attributes:
        origin: in words; empty where the row's weights are drawn, or another run's.
        address: what they were asked for by, see `Start.address`; of a file its name alone, wherever it lies.
        sha256: of the file.
        licence: as the model card states it; empty where there is no card, or it states none.
        classes: that the classifier knows, where config.json tells them.
        mean, std: by which the images of its training were normalised, where the preprocessor's file tells them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: str = ""
    address: dict[str, str] = {}
    sha256: str = ""
    licence: str = ""
    classes: list[str] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights, and where it came from."""

    file: Path
    source: Source

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What `write_source` wrote; None where the row's weights are not fetched.

        Raises:
            EffiSegError: it is not there, or damaged.
        """
        file = folder / SOURCE_FILE
        try:
            source = Source.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else "not what the stage `fetch` writes"
            raise EffiSegError(f"{file}: {why}; run `dvc repro fetch`") from None
        return cls(folder / CHECKPOINT_FILE, source) if source.origin else None


def write_source(folder: Path, source: Source) -> None:
    """Write `source` into a folder, beside its checkpoint."""
    write_text(folder / SOURCE_FILE, source.model_dump_json(indent=2) + "\n")
