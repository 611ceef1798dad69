"""What a training is known by: all that its weights follow from."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from effiseg.base.config import Config
from effiseg.base.origins import digest
from effiseg.base.schema import Row
from effiseg.runs.places import STARTS, Place
from effiseg.weights.source import Checkpoint

ROOMS = ("base", "data", "models", "weights", "losses", "training", "evaluation")  # whose code shapes the weights

Digests = dict[str, str | None]


def identity_of(config: Config, row: Row, seed: int, digests: Digests) -> str:
    """A digest of the training's settings, of what it reads, and of the code of `ROOMS`."""
    settings = {"name": row.name, "row": row.used(), "seed": seed, "launcher": config.study.launcher, **digests}
    package = Path(__file__).parents[1]
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in sorted(path for room in ROOMS for path in (package / room).rglob("*.py")):
        found.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return found.hexdigest()[:16]


def digests_of(config: Config, row: Row, data_digest: str, weights: Callable[[Place], str]) -> Digests:
    """Of what a training of the row reads, as its record has them: data_digest, teacher_digest and start_digest.

    Args:
        weights: gives the digest of what another run has learned.

    Raises:
        EffiSegError: what the row starts from was not fetched.
    """
    teacher, start_digest = config.teacher_of(row.name), None
    if row.start.source == "run":
        start_digest = weights(Place.of(row.start.run))
    elif row.start.is_fetched and (fetched := Checkpoint.read(STARTS / row.name)):
        start_digest = fetched.source.sha256
    teacher_digest = weights(Place(*teacher)) if teacher else None
    return {"data_digest": data_digest, "teacher_digest": teacher_digest, "start_digest": start_digest}


def weights_digest(place: Place) -> str:
    """The digest of what a run has learned."""
    return digest(place.last / "model.safetensors")
