"""The MLflow run of a training, for the stages that come after it."""

from collections.abc import Iterator
from contextlib import contextmanager

from effiseg.runs.places import Place
from effiseg.runs.records import RunRecord, read_record
from effiseg.tracking.tracker import Tracker, track_run


@contextmanager
def track_place(place: Place) -> Iterator[Tracker]:
    """Go on in the run that the training at `place` began; what is logged stands at the training's last step.

    Raises:
        EffiSegError: the training has left no record, or the tracking store cannot be reached or used.
    """
    record = read_record(place.record, RunRecord)
    tags = {"experiment": place.row, "seed": place.seed, "data_digest": record.data_digest}
    with track_run(place.name, record.identity, record.data_source, tags=tags, step=record.steps) as tracker:
        yield tracker
