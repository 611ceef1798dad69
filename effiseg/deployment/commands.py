"""What `python -m effiseg` does with finished rows: export, predict, register."""

import argparse
import time
from pathlib import Path

from effiseg.base.config import load_config
from effiseg.base.device import choose_device
from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_folder
from effiseg.deployment.edge import TARGETS, export_target
from effiseg.deployment.export import CHECKPOINT, export_files
from effiseg.deployment.measure import stored
from effiseg.deployment.open import open_model
from effiseg.deployment.predict import predict, told_miou, told_problems
from effiseg.deployment.predictor import Predictor
from effiseg.deployment.targets import LABELS, list_labels, list_pictures, match_truths, name_outputs
from effiseg.runs.finished import best_run, find_run
from effiseg.runs.study import open_prepared


def export(name: str, out: Path | None, target: str | None = None, size: tuple[int, int] | None = None) -> None:
    """Write the files of one finished row, all of them or none, and say how close each is to the trained network.

    Args:
        target: one of `TARGETS`, whose files alone are written; None: a checkpoint and ONNX files of free size.
        size: (H, W) of the images that a target's files take; None: that of the training.

    Raises:
        EffiSegError: there is no such row, `out` holds something else, a size is given without a target, or a file
            cannot be made or does not answer as the row does.
    """
    if size and not target:
        raise EffiSegError("--size: only with --target, since model.onnx takes images of any size")
    config = load_config()
    data = open_prepared(config)
    run = find_run(config, data, name)
    folder = out or Path("exports", f"{run.name}-{target}" if target else run.name)
    mark = TARGETS[target].mark if target else CHECKPOINT
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / mark).exists()):
        kind = f" for {target}" if target else ""
        raise EffiSegError(f"--out {folder}: exists and is no earlier export{kind}; give a new folder")
    with whole_folder(folder) as partial:
        if target:
            parities = [export_target(run.load(), run.card, data, partial, target, size)]
        else:
            parities = export_files(run.load(), run.card, data, partial, calibration=config.deploy.calibration)
    print(f"{folder}: {run.name}, mIoU {100 * run.card.miou:.2f} on the validation split of {data.source}")
    for parity in parities:
        path = folder if target else folder / parity.file
        print(
            f"  {parity.file} in {parity.runtime}: {stored(path) / 1e6:.1f} MB, {parity.pixels:.3%} of validation "
            "pixels differ from the trained network"
        )
    if target:
        print(f"  {TARGETS[target].hint}")


def predict_pictures(arguments: argparse.Namespace) -> None:
    """Predict the pictures that the command line names, and say how many, how fast and, with the truth, how well.

    Raises:
        EffiSegError: something on the command line cannot be used (before any work), or some pictures could not be
            predicted (after all others are written).
    """
    pictures = list_pictures(arguments.pictures)
    labels = list_labels(arguments.truth) if arguments.truth else []
    outputs = name_outputs(pictures, arguments.out, labels=arguments.labels, read=labels, overwrite=arguments.overwrite)
    truths = match_truths(pictures, labels, arguments.truth) if arguments.truth else {}
    device = choose_device()
    network, card = open_model(arguments.model, device, arguments.runtime)
    folder = arguments.out / LABELS if arguments.labels else arguments.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EffiSegError(f"--out {folder}: cannot be a folder ({error.strerror}); choose another") from None
    predictor = Predictor(network, card.size, card.fit, device, flip=arguments.flip, zoom=arguments.zoom)
    start = time.perf_counter()
    answer = predict(predictor, card.space, outputs, truths)
    seconds = time.perf_counter() - start
    written = f"{answer.written} picture{'s' if answer.written != 1 else ''}"
    print(
        f"{arguments.out}: {written} by {card.name} in {seconds:.1f} s "
        f"({len(pictures) / seconds:.1f} images per second)"
    )
    if truths:
        print(told_miou(answer, card.classes))
    if problems := told_problems(answer, len(pictures)):
        raise EffiSegError(problems)


def register(row: str | None) -> None:
    """Register a finished row in MLflow under the alias `best`: the one of the highest mIoU, or `row`.

    Raises:
        EffiSegError: there is no such row, or MLflow cannot be used.
    """
    # imported late: MLflow costs seconds
    from effiseg.deployment.registry import register_run

    config = load_config()
    data = open_prepared(config)
    run = find_run(config, data, row) if row else best_run(config, data)
    uri = register_run(run.load(), run.card)
    print(f"{uri}: {run.name}, mIoU {100 * run.card.miou:.2f} on the validation split of {data.source}")
    print(f"serve it: mlflow models serve --model-uri {uri} --env-manager local --port 5001")
