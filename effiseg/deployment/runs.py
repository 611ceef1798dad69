"""The finished trainings of a study, by their names."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effiseg.config import Config
from effiseg.data.labels import LABEL_SPACES
from effiseg.data.prepared import Prepared
from effiseg.deployment.card import Card
from effiseg.errors import EffiSegError
from effiseg.models.segformer import Segmenter, load_model, read_model_config
from effiseg.pipeline.workspace import run_name


@dataclass(frozen=True)
class FinishedRun:
    """One training of the study that is done and scored.

    Attributes:
        group: `train` or `distill`, as its stage.
        folder: the model after the last epoch.
    """

    name: str
    group: str
    folder: Path
    card: Card

    def load(self) -> Segmenter:
        """The network as trained, in eval mode."""
        return load_model(self.folder)


def find_run(config: Config, data: Prepared, name: str) -> FinishedRun:
    """The training `name` (<row>-<seed>).

    Raises:
        EffiSegError: the study has none of that name, it has not run, or it ran on other data.
    """
    known = {run_name(row, seed): (row, seed) for row, seed in config.runs()}
    if name not in known:
        raise EffiSegError(f"run '{name}': params.yaml's study has none of that name; runs are: {', '.join(known)}")
    row, seed = known[name]
    group = config.stage_of(row)
    folder = Path("models", group, name, "last")
    record = _read(Path("history", group, f"{name}.json"), name)
    metrics = _read(Path("results", group, name, "metrics.json"), name)
    if record.get("data_digest") != data.digest:
        raise EffiSegError(
            f"{folder}: trained on data {str(record.get('data_digest'))[:12]}, prepared now are {data.digest[:12]}; "
            "run `dvc repro`"
        )
    model, _ = read_model_config(folder)
    fields: dict[str, Any] = {
        "experiment": row,
        "seed": seed,
        "git_commit": record.get("git_commit") or "",
        "data_digest": data.digest,
        "miou": metrics.get("miou"),
        "source": data.source,
        "size": data.size,
        "classes": data.classes,
        "colours": LABEL_SPACES[data.source].colours,
        "mean": tuple(model.mean),
        "std": tuple(model.std),
    }
    return FinishedRun(name, group, folder, Card.checked(fields, f"results of {name}"))


def best_run(config: Config, data: Prepared) -> FinishedRun:
    """Of the study's finished trainings that of the highest mIoU on the validation split, after the last epoch.

    Raises:
        EffiSegError: none is finished, or one ran on other data.
    """
    done = {key: (Path("results") / config.run_path(*key) / "metrics.json").exists() for key in config.runs()}
    finished = [run_name(*key) for key, exists in done.items() if exists]
    if not finished:
        raise EffiSegError("models: no training of the study is finished; run `dvc repro`")
    return max((find_run(config, data, name) for name in finished), key=lambda run: run.card.miou)


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise EffiSegError(f"{path}: not found, so {name} is not finished; run `dvc repro`") from None
    except (OSError, ValueError) as error:
        raise EffiSegError(f"{path}: cannot be read ({' '.join(str(error).split())}); run `dvc repro`") from None
    return content
