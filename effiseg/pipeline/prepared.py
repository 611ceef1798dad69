"""The prepared data, held against the configuration."""

from effiseg.config import Config
from effiseg.data.prepared import Prepared
from effiseg.errors import EffiSegError
from effiseg.pipeline.workspace import PREPARED


def open_prepared(config: Config) -> Prepared:
    """The prepared data, which must be those that the configuration describes.

    Raises:
        EffiSegError: they are missing or damaged, or were made from another source or at another size.
    """
    data, wanted = Prepared.open(PREPARED), config.data
    generated = wanted.source == "cityscapes" and data.source == "synthetic"
    if data.size != tuple(wanted.size) or not (generated or data.source == wanted.source):
        raise EffiSegError(
            f"{PREPARED}: made from {data.source} at {list(data.size)}, but params.yaml says {wanted.source} at "
            f"{wanted.size}; run `dvc repro prepare` first"
        )
    return data
