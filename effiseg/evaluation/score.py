"""What the evaluation of a trained row keeps."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from effiseg.data.predictions import write_predictions
from effiseg.data.prepared import Prepared
from effiseg.evaluation.evaluate import Evaluation, evaluate
from effiseg.evaluation.norms import sample_norms
from effiseg.models.deployed import deploy
from effiseg.models.segformer import load_model


def score_row(
    models: Path, data: Prepared, out: Path, *, batch_size: int, device: torch.device
) -> tuple[Evaluation, Evaluation]:
    """Score the weights of the last and of the best epoch, last/ and best/ in `models`, and write into `out`:

    of the last epoch confusion.csv (the whole split), images.npz (one confusion matrix per image: what the report's
    intervals are drawn from), predictions.zip (class maps) and norms.npz (what norms see).

    Returns:
        The last epoch's evaluation and the best one's.
    """
    trained = load_model(models / "last").to(device)
    count = partial(evaluate, split=data.val, classes=data.classes, batch_size=batch_size, device=device, progress=True)
    with write_predictions(out / "predictions.zip") as add:
        last = count(deploy(trained), on_prediction=lambda i, classes: add(data.val.names[i], classes.cpu().numpy()))
    best = count(deploy(load_model(models / "best").to(device)))
    pd.DataFrame(last.full.numpy(), index=data.classes, columns=data.classes).to_csv(out / "confusion.csv")
    np.savez_compressed(out / "images.npz", names=np.array(data.val.names), confusion=last.images.numpy())
    norms = sample_norms(trained, torch.tensor(data.val.images[:batch_size], device=device))
    np.savez_compressed(out / "norms.npz", **norms)  # type: ignore[arg-type]
    return last, best
