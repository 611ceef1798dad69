"""weights/: the teacher that the default study fetches."""

from pathlib import Path

from effiseg.config import Config
from effiseg.data.labels import CITYSCAPES
from effiseg.models.segformer import build_model
from effiseg.models.weights import digest, load_strictly, read_tensors, to_transformers


def test_the_shipped_teacher_is_the_pinned_one_fits_and_is_small(shipped: Config, repository: Path) -> None:
    path = repository / shipped.teacher.path
    assert (shipped.teacher.source, digest(path)) == ("file", shipped.teacher.sha256)
    assert path.stat().st_size < 30e6
    teacher = build_model(shipped.teacher.model(), CITYSCAPES.classes)
    tensors = to_transformers(read_tensors(path), num_labels=len(CITYSCAPES.classes))
    load_strictly(teacher.network, tensors, origin=str(path))
