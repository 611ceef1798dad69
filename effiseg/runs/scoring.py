"""The scores of a training as the files that dvc.yaml declares."""

from effiseg.base.config import Config
from effiseg.base.device import choose_device
from effiseg.base.files import whole_folder
from effiseg.base.schema import Row
from effiseg.data.prepared import Prepared
from effiseg.evaluation.evaluate import Evaluation
from effiseg.evaluation.score import score_row
from effiseg.runs.places import Place
from effiseg.runs.records import RunMetrics, write_record
from effiseg.runs.study import refuse_weak_teacher


def score_run(config: Config, row: Row, place: Place, data: Prepared) -> tuple[Evaluation, Evaluation]:
    """Score what a run has learned on `data.val`, and write its scores/ and metrics.json.

    Returns:
        The last epoch's evaluation and the best one's.

    Raises:
        EffiSegError: it is a teacher that knows too little; nothing is written then.
    """
    with whole_folder(place.scores) as out:
        last, best = score_row(place.model, data, out, batch_size=row.train.batch_size, device=choose_device())
        if not place.split:
            refuse_weak_teacher(config, row, last.scores.miou)
        write_record(place.metrics, RunMetrics.model_validate(last.report() | best.report("_best")))
    return last, best
