"""The finished trainings of a study, by their names."""

from dataclasses import dataclass
from typing import Any

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Prepared
from effiseg.deployment.card import Card
from effiseg.models.segformer import Segmenter, load_model, read_model_config
from effiseg.runs.places import Place
from effiseg.runs.records import RunMetrics, RunRecord, read_record


@dataclass(frozen=True)
class FinishedRun:
    """One training of the study that is done and scored; its network is that after the last epoch."""

    place: Place
    card: Card

    @property
    def name(self) -> str:
        """<row>-<seed>."""
        return self.place.name

    def load(self) -> Segmenter:
        """The network as trained, in eval mode."""
        return load_model(self.place.last)


def find_run(config: Config, data: Prepared, name: str) -> FinishedRun:
    """The training `name` (<row>-<seed>), of a teacher too.

    Raises:
        EffiSegError: the study has none of that name, it has not run, or it ran on other data.
    """
    places = {place.name: place for place in (Place(*key) for key in (*config.runs(), *config.teachers()))}
    if name not in places:
        raise EffiSegError(f"run '{name}': params.yaml's study has none of that name; runs are: {', '.join(places)}")
    place = places[name]
    record, metrics = read_record(place.record, RunRecord), read_record(place.metrics, RunMetrics)
    if record.data_digest != data.digest:
        raise EffiSegError(
            f"{place.folder}: trained on data {record.data_digest[:12]}, prepared now are {data.digest[:12]}; "
            "run `dvc repro`"
        )
    model, _ = read_model_config(place.last)
    fields: dict[str, Any] = {
        "experiment": place.row,
        "seed": place.seed,
        "git_commit": record.git_commit,
        "data_digest": data.digest,
        "miou": metrics.miou,
        "space": data.space,
        "size": data.size,
        "fit": data.fit,
        "mean": tuple(model.mean),
        "std": tuple(model.std),
        "start": record.origin,
        "licence": record.licence,
    }
    return FinishedRun(place, Card.checked(fields, f"results of {name}"))


def best_run(config: Config, data: Prepared) -> FinishedRun:
    """Of the study's finished trainings that of the highest mIoU on the validation split, after the last epoch.

    Raises:
        EffiSegError: none is finished, or one ran on other data.
    """
    places = [Place(*key) for key in config.runs()]
    finished = [place.name for place in places if place.metrics.exists()]
    if not finished:
        raise EffiSegError("runs: no training of the study is finished; run `dvc repro`")
    return max((find_run(config, data, name) for name in finished), key=lambda run: run.card.miou)
