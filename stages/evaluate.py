"""Score one trained row: last and best epoch, its predictions image by image, and what its norms see."""

from pathlib import Path

from effiseg.config import load_config
from effiseg.device import choose_device
from effiseg.pipeline import cli, workspace
from effiseg.pipeline.evaluation import score_row
from effiseg.pipeline.prepared import open_prepared
from effiseg.pipeline.tracking import track


def main() -> None:
    arguments = cli.row_arguments(__doc__)
    config, device = load_config(), choose_device()
    row, data = config.row(arguments.experiment), open_prepared(config)
    group, name = config.stage_of(row.name), workspace.run_name(row.name, arguments.seed)
    tags = {"experiment": row.name, "seed": arguments.seed, "data_digest": data.digest}
    results = Path("results", group, name)
    with track(f"evaluate-{name}", data.source, tags=tags) as tracker, workspace.whole_folder(results) as out:
        last, best = score_row(Path("models", group, name), data, out, batch_size=row.train.batch_size, device=device)
        tracker.dataset(data.source, config.data.root, data.digest, "evaluation")
        tracker.metrics(last.headline() | {f"{key}_best": value for key, value in best.headline().items()})
        tracker.metrics({f"iou/{key}": value for key, value in last.scores.iou.items()})
        tracker.artifact(out / "confusion.csv")


if __name__ == "__main__":
    cli.run(main)
