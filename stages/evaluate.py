"""Score one trained row: last and best epoch, its predictions image by image, and what its norms see."""

from effiseg.base.config import load_config
from effiseg.base.device import choose_device
from effiseg.base.files import whole_folder
from effiseg.cli import stage
from effiseg.evaluation.score import score_row
from effiseg.runs.places import Place
from effiseg.runs.records import RunMetrics, write_record
from effiseg.runs.study import open_final, open_prepared, refuse_weak_teacher
from effiseg.runs.tracked import track_place


def main() -> None:
    arguments = stage.row_arguments(__doc__, split="of data.final_on, in place of the validation split")
    config, device, split = load_config(), choose_device(), arguments.split
    row, data = config.row(arguments.experiment), open_final(config, split) if split else open_prepared(config)
    place = Place(row.name, arguments.seed, split=split)
    before = f"{split}/" if split else ""  # of names in MLflow
    with track_place(place) as tracker, whole_folder(place.scores) as out:
        last, best = score_row(place.model, data, out, batch_size=row.train.batch_size, device=device)
        if not split:
            refuse_weak_teacher(config, row, last.scores.miou)
        write_record(place.metrics, RunMetrics.model_validate(last.report() | best.report("_best")))
        tracker.dataset(data.source, config.data.root, data.digest, split or "evaluation")
        scores = last.headline() | {f"{key}_best": value for key, value in best.headline().items()}
        scores |= {f"iou/{key}": value for key, value in last.scores.iou.items()}
        tracker.metrics({before + key: value for key, value in scores.items()})
        tracker.artifact(out / "confusion.csv", split or None)


if __name__ == "__main__":
    stage.run(main)
