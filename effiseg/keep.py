"""Finished runs of several folders, machines and days as one study: scores and costs, no weights and no pictures."""

import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from effiseg.base.config import PARAMS_FILE, Config, read_yaml, validate
from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_folder, write_text
from effiseg.data.index import INDEX_FILE
from effiseg.data.prepared import Prepared, read_index
from effiseg.runs.places import FINALS, FLOORS, PREPARED, ROWS, Place
from effiseg.runs.records import RunRecord, read_record

SETTINGS = ("data", "synthesize", "model", "start", "loss", "train", "profile")  # which all runs of a study share
LISTS = ("experiments", "teachers", "distillation", "assisted", "continued")
SCORES = ("images.npz", "norms.npz", "confusion.csv")  # of a run's scores; its predictions are pictures


def keep(config: Config, root: Path, folder: Path) -> list[str]:
    """Add the finished runs below `root` to the study in `folder`, which is begun if it is not there.

    `folder` is laid out as `root` is: params.yaml, prepared/index.json, floors.json, finals/, rows/, runs/. Its
    params.yaml lists the rows and seeds of all that were kept.

    Returns:
        The runs that were added; those that are there already are not.

    Raises:
        EffiSegError: no run is finished, or one does not belong there: it is of other data or settings, or its place is
            taken by one of other weights. Nothing is changed then.
    """
    data = Prepared.open(root / PREPARED)
    places = [Place(*key, root) for key in (*config.teachers(), *config.runs())]
    finished = [place for place in places if _is_finished(place, config.data.final_on)]
    if not finished:
        raise EffiSegError(f"{root / 'runs'}: no run of the study is finished; run `dvc repro` first")
    params = read_yaml(root / PARAMS_FILE)
    params["data"]["root"] = "left out"  # a path of this machine
    if (folder / PARAMS_FILE).exists():
        params = _united(read_yaml(folder / PARAMS_FILE), params, folder)
        for name in (PREPARED, *(FINALS / split for split in config.data.final_on)):
            _refuse_other_data(name, root, folder)
    for place in finished:
        _refuse_other_run(place, data, folder)
    validate(Config, params, str(folder / PARAMS_FILE))
    added = [place for place in finished if not Place(place.row, place.seed, folder).record.exists()]
    for place in added:
        _copy(place, Place(place.row, place.seed, folder), config.data.final_on)
    finals = [FINALS / split / name for split in config.data.final_on for name in (INDEX_FILE, FLOORS)]
    for name in (PREPARED / INDEX_FILE, FLOORS, *finals):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, folder / name)
    text = io.StringIO()
    YAML().dump(params, text)
    write_text(folder / PARAMS_FILE, text.getvalue())
    return [place.name for place in added]


def _is_finished(place: Place, finals: Sequence[str]) -> bool:
    """Whether it was trained, and scored on every split."""
    scored = [place, *(replace(place, split=split) for split in finals)]
    return place.record.exists() and all(each.scores.is_dir() and each.metrics.exists() for each in scored)


def differences(kept: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Where two settings differ, as (key path, kept, new)."""
    if isinstance(kept, Mapping) and isinstance(new, Mapping):
        for key in {**kept, **new}:
            yield from differences(kept.get(key), new.get(key), f"{path}.{key}")
    elif kept != new:
        yield path, kept, new


def _united(kept: dict[str, Any], new: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The kept study's params with the rows and seeds of the new one beside its own."""
    for name in SETTINGS:
        if found := next(differences(kept[name], new[name], name), None):
            raise _other(folder / PARAMS_FILE, *found)
    for row in kept["experiments"].keys() & new["experiments"].keys():
        old, ours = kept["experiments"][row], new["experiments"][row]
        if found := next(differences(old, ours, f"experiments.{row}"), None):
            raise _other(folder / PARAMS_FILE, *found)
    rows = {**kept["experiments"], **new["experiments"]}
    study = dict(kept["study"])
    for key in LISTS:
        wanted = {*kept["study"][key], *new["study"][key]}
        study[key] = [row for row in rows if row in wanted]
    study["seeds"] = sorted({*kept["study"]["seeds"], *new["study"]["seeds"]})
    return kept | {"experiments": rows, "study": study}


def _refuse_other_data(name: Path, root: Path, folder: Path) -> None:
    kept, new = (read_index(each / name).digest for each in (folder, root))
    if kept != new:
        raise _other(folder / name / INDEX_FILE, "data digest", kept[:12], new[:12])


def _refuse_other_run(place: Place, data: Prepared, folder: Path) -> None:
    """Whether a run may stand in the folder, where it or others of its row and its teacher may stand already."""
    record = read_record(place.record, RunRecord)
    if record.data_digest != data.digest:
        raise EffiSegError(f"{place.record}: trained on other data than those prepared now; run `dvc repro` first")
    settings = Path(ROWS, f"{place.row}.json")
    if (folder / settings).exists():
        kept, new = ((each / settings).read_text(encoding="utf-8") for each in (folder, place.root))
        if kept != new:
            raise EffiSegError(
                f"{folder / settings}: the row '{place.row}' was kept with other settings than {settings} has"
            )
    there = Place(place.row, place.seed, folder).record
    if there.exists() and (old := read_record(there, RunRecord)).weights_digest != record.weights_digest:
        raise EffiSegError(
            f"{there}: {place.name} is kept already, with other weights (trained on {old.device} at "
            f"{old.git_commit[:12]}, this one on {record.device} at {record.git_commit[:12]}); remove {there.parent} "
            "to keep this one"
        )


def _copy(place: Place, there: Place, finals: Sequence[str]) -> None:
    files = [place.record, place.history, place.profile, place.deployment]
    for scored in (place, *(replace(place, split=split) for split in finals)):
        files += [scored.metrics, *(scored.scores / name for name in SCORES)]
    with whole_folder(there.folder) as partial:
        for file in files:
            if file.exists():
                copy = partial / file.relative_to(place.folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
    (there.root / ROWS).mkdir(exist_ok=True)
    shutil.copyfile(place.root / ROWS / f"{place.row}.json", there.root / ROWS / f"{place.row}.json")


def _other(file: Path, key: str, kept: Any, new: Any) -> EffiSegError:
    return EffiSegError(
        f"{file}: {key} is {kept}, and here {new}; runs of one study have the same data and settings: keep these "
        "elsewhere"
    )
