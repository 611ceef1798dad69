"""What the sections of params.yaml are made of: their base class, and kinds of values with their ranges."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=32, multiple_of=32)]  # the encoder's last grid is 1/32
Size = Annotated[list[Side], Field(min_length=2, max_length=2)]
StageWeights = Annotated[list[Weight], Field(min_length=4, max_length=4)]
Channels = Annotated[list[Share], Field(min_length=3, max_length=3)]
Deviations = Annotated[list[Rate], Field(min_length=3, max_length=3)]


class Section(BaseModel):
    """A section of params.yaml: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
