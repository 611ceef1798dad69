"""Score one trained row: last and best epoch, pictures of its predictions, and what its norms see."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from effiseg.config import load_config
from effiseg.data.predictions import write_predictions
from effiseg.device import choose_device
from effiseg.evaluation.evaluate import evaluate, sample_norms
from effiseg.models.deployed import deploy
from effiseg.models.segformer import load_model
from effiseg.pipeline import cli, workspace
from effiseg.pipeline.prepared import open_prepared
from effiseg.pipeline.tracking import track


def main() -> None:
    arguments = cli.row_arguments(__doc__)
    config, device = load_config(), choose_device()
    row, data = config.row(arguments.experiment), open_prepared(config)
    group, name = config.stage_of(row.name), workspace.run_name(row.name, arguments.seed)
    trained = {which: load_model(Path("models", group, name, which)).to(device) for which in ("last", "best")}
    deployed = {which: deploy(model) for which, model in trained.items()}
    tags = {"experiment": row.name, "seed": arguments.seed, "data_digest": data.digest}
    with (
        track(f"evaluate-{name}", data.source, tags=tags) as tracker,
        workspace.whole_folder(Path("results", group, name)) as out,
    ):
        count = partial(evaluate, batch_size=row.train.batch_size, device=device, progress=True)
        with write_predictions(out / "predictions.zip") as add:
            last = count(
                deployed["last"],
                data.val,
                data.classes,
                on_prediction=lambda index, classes: add(data.val.names[index], classes.cpu().numpy()),
            )
        best = count(deployed["best"], data.val, data.classes)
        metrics = last.report() | best.report("_best")
        workspace.write_json(out / "metrics.json", metrics)
        pd.DataFrame(last.full.numpy(), index=data.classes, columns=data.classes).to_csv(out / "confusion.csv")
        # one matrix per image: what the report's intervals are drawn from
        np.savez_compressed(out / "images.npz", names=np.array(data.val.names), confusion=last.images.numpy())
        images = torch.tensor(data.val.images[: row.train.batch_size], device=device)
        np.savez_compressed(out / "norms.npz", **sample_norms(trained["last"], images))  # type: ignore[arg-type]
        tracker.dataset(data.source, config.data.root, data.digest, "evaluation")
        tracker.metrics({key: value for key, value in metrics.items() if isinstance(value, float)})
        tracker.metrics({f"iou/{key}": value for key, value in last.scores.iou.items()})
        tracker.artifact(out / "confusion.csv")


if __name__ == "__main__":
    cli.run(main)
