"""Score one trained row: last and best epoch, its predictions image by image, and what its norms see."""

from effiseg.base.config import load_config
from effiseg.cli import stage
from effiseg.runs.places import Place
from effiseg.runs.scoring import score_run
from effiseg.runs.study import open_final, open_prepared
from effiseg.runs.tracked import track_place


def main() -> None:
    arguments = stage.row_arguments(__doc__, split="of data.final_on, in place of the validation split")
    config, split = load_config(), arguments.split
    row, data = config.row(arguments.experiment), open_final(config, split) if split else open_prepared(config)
    place = Place(row.name, arguments.seed, split=split)
    before = f"{split}/" if split else ""  # of names in MLflow
    with track_place(place) as tracker:
        last, best = score_run(config, row, place, data)
        tracker.dataset(data.source, config.data.root, data.digest, split or "evaluation")
        scores = last.headline() | {f"{key}_best": value for key, value in best.headline().items()}
        scores |= {f"iou/{key}": value for key, value in last.scores.iou.items()}
        tracker.metrics({before + key: value for key, value in scores.items()})
        tracker.artifact(place.scores / "confusion.csv", split or None)


if __name__ == "__main__":
    stage.run(main)
