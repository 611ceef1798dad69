"""weights/: the teacher that the default study fetches."""

from pathlib import Path

from effiseg.base.config import Config
from effiseg.base.origins import digest
from effiseg.models.segformer import build_model
from effiseg.weights.files import read_tensors
from effiseg.weights.layouts import load_strictly, to_transformers
from tests.settings import CITYSCAPES


def test_the_shipped_teacher_is_the_pinned_one_fits_and_is_small(shipped: Config, repository: Path) -> None:
    row = shipped.row("teacher")
    path = repository / row.start.path
    assert (row.start.source, digest(path), row.train.epochs) == ("file", row.start.sha256, 0)
    assert path.stat().st_size < 30e6
    teacher = build_model(row.model, CITYSCAPES.classes)
    tensors = to_transformers(read_tensors(path), num_labels=len(CITYSCAPES.classes))
    load_strictly(teacher.network, tensors, origin=str(path))
