"""Score one trained row: last and best epoch, its predictions image by image, and what its norms see."""

from effiseg.base.config import load_config
from effiseg.base.device import choose_device
from effiseg.base.files import whole_folder
from effiseg.cli import stage
from effiseg.evaluation.score import score_row
from effiseg.runs.places import Place
from effiseg.runs.records import RunMetrics, write_record
from effiseg.runs.study import open_prepared, refuse_weak_teacher
from effiseg.runs.tracked import track_place


def main() -> None:
    arguments = stage.row_arguments(__doc__)
    config, device = load_config(), choose_device()
    row, data = config.row(arguments.experiment), open_prepared(config)
    place = Place(row.name, arguments.seed)
    with track_place(place) as tracker, whole_folder(place.scores) as out:
        last, best = score_row(place.model, data, out, batch_size=row.train.batch_size, device=device)
        refuse_weak_teacher(config, row, last.scores.miou)
        write_record(place.metrics, RunMetrics.model_validate(last.report() | best.report("_best")))
        tracker.dataset(data.source, config.data.root, data.digest, "evaluation")
        tracker.metrics(last.headline() | {f"{key}_best": value for key, value in best.headline().items()})
        tracker.metrics({f"iou/{key}": value for key, value in last.scores.iou.items()})
        tracker.artifact(out / "confusion.csv")


if __name__ == "__main__":
    stage.run(main)
