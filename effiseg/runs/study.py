"""What a stage finds, held against the configuration."""

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Row
from effiseg.data.dataset import open_dataset
from effiseg.data.prepared import Prepared
from effiseg.runs.places import FINALS, PREPARED


def open_prepared(config: Config) -> Prepared:
    """The prepared data, which must be those that the configuration describes.

    Raises:
        EffiSegError: they are missing or damaged, or were made from another source or at another size.
    """
    return _checked(config, Prepared.open(PREPARED))


def open_final(config: Config, split: str) -> Prepared:
    """The prepared split of data.final_on, as `val`.

    Raises:
        EffiSegError: as of `open_prepared`; or data.final_on does not name the split.
    """
    if split not in config.data.final_on:
        found = ", ".join(config.data.final_on) or "none"
        raise EffiSegError(f"data.final_on: names no split '{split}' (found {found}); add it there")
    return _checked(config, Prepared.open_final(FINALS / split))


def _checked(config: Config, data: Prepared) -> Prepared:
    wanted = config.data
    table = open_dataset(wanted.source).fingerprint == data.table
    if data.size != tuple(wanted.size) or not table:
        found = "" if table else ", or its table was edited since"
        raise EffiSegError(
            f"{data.path}: made from {data.source} at {list(data.size)}, but params.yaml says {wanted.source} at "
            f"{wanted.size}{found}; run `dvc repro --force --single-item prepare` first"
        )
    return data


def refuse_weak_teacher(config: Config, row: Row, miou: float) -> None:
    """Stop before anything learns from a teacher that knows no more than chance.

    Raises:
        EffiSegError: the row is a teacher of the study, and its mIoU is below study.min_teacher_miou.
    """
    wanted = config.study.min_teacher_miou
    if row.name not in config.study.teachers or miou >= wanted:
        return
    cure = (
        f"train it longer (experiments.{row.name}.train.epochs)"
        if row.train.epochs
        else "it fits these classes and their order? Was it trained with model.mean and model.std?"
    )
    raise EffiSegError(
        f"study.min_teacher_miou: the teacher '{row.name}' ({row.start.source}) reaches mIoU {miou:.4f} on the "
        f"validation split, expected at least {wanted}; {cure}, or lower the bound"
    )
