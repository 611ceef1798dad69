"""A finished row in MLflow's model registry, and back out of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from effiseg.deployment.card import Card
from effiseg.deployment.checkpoint import write_checkpoint
from effiseg.models.segformer import Segmenter
from effiseg.runs.tracked_training import NEEDED_BY_MODEL
from effiseg.tracking.tracker import download, track

ALIAS = "best"
CHECKPOINT = "checkpoint"
SERVED = Path(__file__).parents[1] / "tracking/served.py"


def register_run(model: Segmenter, card: Card) -> str:
    """Register a row as the newest version of effiseg-<data set>, under the alias `best`.

    Returns:
        models:/effiseg-<data set>@best

    Raises:
        EffiSegError: MLflow cannot be used.
    """
    tags = {"run": card.name, "miou": str(card.miou), "git.commit": card.git_commit, "data_digest": card.data_digest}
    with track(f"register-{card.name}", card.source, tags=tags) as tracker, TemporaryDirectory() as scratch:
        folder = Path(scratch) / CHECKPOINT
        write_checkpoint(model, folder, card)
        return tracker.register(
            f"effiseg-{card.source}",
            ALIAS,
            tags,
            code=SERVED,
            folder=folder,
            requirements=[f"{package}=={version(package)}" for package in NEEDED_BY_MODEL],
        )


@contextmanager
def fetch_registered(uri: str) -> Iterator[Path]:
    """The checkpoint folder of a registered row, as long as the block lasts: its weights and JSON, none of its code.

    Raises:
        EffiSegError: there is no such model, or the store cannot be reached.
    """
    with TemporaryDirectory() as scratch:
        yield download(f"{uri.rstrip('/')}/artifacts/{CHECKPOINT}", Path(scratch))
