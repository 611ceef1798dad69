"""Finished runs of several folders, machines and days as one study: scores and costs, no weights and no pictures."""

import io
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import md5
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from effiseg.base.config import PARAMS_FILE, Config, read_yaml, validate
from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_file, whole_folder, write_text
from effiseg.data.index import INDEX_FILE
from effiseg.data.prepared import Prepared, read_index
from effiseg.runs.identity import identity_of
from effiseg.runs.places import FINALS, FLOORS, PREPARED, ROWS, Place
from effiseg.runs.records import RunRecord, read_record

SETTINGS = ("data", "synthesize", "model", "start", "loss", "train", "profile")  # which all runs of a study share
LISTS = ("experiments", "teachers", "distillation", "assisted", "continued")
SCORES = ("images.npz", "norms.npz", "confusion.csv")  # of a run's scores; its predictions are pictures
LOCK = Path("dvc.lock")


def keep(config: Config, root: Path, folder: Path, names: Collection[str] | None = None) -> list[str]:
    """Add the finished runs below `root` to the study in `folder`, which is begun if it is not there.

    `folder` is laid out as `root` is: params.yaml, prepared/index.json, floors.json, finals/, rows/, runs/. Its
    params.yaml lists the rows and seeds of all that were kept.

    Args:
        names: of the runs that are added, where they are finished. Without, these are all, and one must be finished.

    Returns:
        The runs that were added, or profiled or deployed since; of those that are there already nothing else changes.

    Raises:
        EffiSegError: no run is finished, or one does not belong there: it is of other data or settings, or its place is
            taken by one of other weights; or `root` is `folder`, or not whole. Nothing is changed then.
    """
    if folder.resolve() == root.resolve():
        raise EffiSegError(f"{folder}: is to be filled, and is what the runs are taken from (--root); name two folders")
    splits = config.data.final_on
    places = [Place(*key, root) for key in (*config.teachers(), *config.runs())]
    finished = [place for place in places if is_finished(place, splits) and (names is None or place.name in names)]
    if names is None and not finished:
        raise EffiSegError(f"{root / 'runs'}: no run of the study is finished; run `dvc repro` first")
    data = Prepared.described(root / PREPARED)
    shared = [
        FLOORS,
        PREPARED / INDEX_FILE,
        *(FINALS / split / name for split in splits for name in (INDEX_FILE, FLOORS)),
    ]
    if missing := [name for name in shared if not (root / name).exists()]:
        raise EffiSegError(
            f"{root / missing[0]}: not found, and a kept study has it (data.final_on: {splits}); run `dvc repro`, or "
            "for a machine without DVC `effiseg pack`, first"
        )
    params = read_yaml(root / PARAMS_FILE)
    params["data"]["root"] = "left out"  # a path of this machine
    if (folder / PARAMS_FILE).exists():
        params = _united(read_yaml(folder / PARAMS_FILE), params, folder)
        for name in (PREPARED, *(FINALS / split for split in splits)):
            _refuse_other_data(name, root, folder)
    for place in finished:
        _refuse_other_run(place, data, folder)
        _refuse_other_settings(config, place)
    validate(Config, params, str(folder / PARAMS_FILE))
    added = [place for place in finished if not Place(place.row, place.seed, folder).record.exists()]
    for name in shared:
        _copy_file(root / name, folder / name)
    text = io.StringIO()
    YAML().dump(params, text)
    write_text(folder / PARAMS_FILE, text.getvalue())
    for place in added:  # last: whatever cuts this off, what is there is a study
        _copy(place, Place(place.row, place.seed, folder), splits)
    completed = [place for place in finished if _copy_costs(place, Place(place.row, place.seed, folder))]
    return [place.name for place in (*added, *completed)]


def is_finished(place: Place, splits: Sequence[str]) -> bool:
    """Whether the run was trained, and scored on the validation split and on these."""
    return place.record.exists() and all(map(is_scored, scored_on(place, splits)))


def is_scored(place: Place) -> bool:
    """Whether the run was scored on the place's split."""
    return place.scores.is_dir() and place.metrics.exists()


def scored_on(place: Place, splits: Sequence[str]) -> list[Place]:
    """The places of a run's scores on the validation split and on these."""
    return [place, *(replace(place, split=split) for split in splits)]


def row_differences(config: Config, place: Place) -> Iterator[tuple[str, Any, Any]]:
    """Where rows/<row>.json beside the run differs from what the configuration says, as (key path, there, here)."""
    there = json.loads(Path(place.root, ROWS, f"{place.row}.json").read_text(encoding="utf-8"))
    here = json.loads(json.dumps(config.row(place.row).used()))  # as a file holds it
    return differences(there, here, place.row)


def refuse_edited(config: Config, place: Place) -> None:
    """Refuse a run whose row stands otherwise in rows/, by which it is trained, than in params.yaml.

    Raises:
        EffiSegError: it does.
    """
    file = Path(place.root, ROWS, f"{place.row}.json")
    if not file.exists():
        raise EffiSegError(f"{file}: not found, though {place.root / PARAMS_FILE} has the row; run `dvc repro` first")
    for key, found, expected in row_differences(config, place):
        raise EffiSegError(
            f"{file}: {key} is {found}, and {expected} in {place.root / PARAMS_FILE}, which was edited since; take "
            "that back, or run `dvc repro`, or for a machine without DVC `effiseg pack`, first"
        )


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


def _refuse_other_settings(config: Config, place: Place) -> None:
    """Refuse weights that are not of the row's settings, or of another run's weights than lie there now."""
    refuse_edited(config, place)
    record, row = read_record(place.record, RunRecord), config.row(place.row)
    digests = {key: getattr(record, key) for key in ("data_digest", "teacher_digest", "start_digest")}
    if place.model.is_dir() and record.identity != identity_of(config, row, place.seed, digests) and not _locked(place):
        raise EffiSegError(
            f"{place.record}: trained with other settings than {place.root / PARAMS_FILE} has, or with other code; "
            f"train {place.name} again, or keep it where both are as then (commit {record.git_commit or 'unknown'})"
        )
    teacher, start = config.teacher_of(place.row), row.start
    read = {"teacher_digest": Place(*teacher)} if teacher else {}
    read |= {"start_digest": Place.of(start.run)} if start.source == "run" else {}
    for key, other in read.items():
        now = Place(other.row, other.seed, place.root).record
        if now.exists() and (digest := read_record(now, RunRecord).weights_digest) != digests[key]:
            raise EffiSegError(
                f"{place.record}: {key} is {str(digests[key])[:12]}, and {digest[:12]} in {now}: {other.name} has been "
                f"trained since; train {place.name} again"
            )


def _locked(place: Place) -> bool:
    """Whether DVC takes this record as made with these settings of the row, be the code of another day."""
    if not (place.root / LOCK).exists():
        return False
    names = (place.record.relative_to(place.root), ROWS / f"{place.row}.json")
    wanted = {(name.as_posix(), md5((place.root / name).read_bytes()).hexdigest()) for name in names}
    return any(
        wanted <= {(each["path"], each.get("md5")) for each in (*stage.get("deps", ()), *stage.get("outs", ()))}
        for stage in read_yaml(place.root / LOCK)["stages"].values()
    )


def _copy(place: Place, there: Place, splits: Sequence[str]) -> None:
    settings = ROWS / f"{place.row}.json"
    _copy_file(place.root / settings, there.root / settings)
    files = [place.record, place.history, place.profile, place.deployment]
    for scored in scored_on(place, splits):
        files += [scored.metrics, *(scored.scores / name for name in SCORES)]
    with whole_folder(there.folder) as partial:
        for file in files:
            if file.exists():
                copy = partial / file.relative_to(place.folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)


def _copy_costs(place: Place, there: Place) -> bool:
    """Copy what was measured after the run was kept; whether something was."""
    pairs = ((place.profile, there.profile), (place.deployment, there.deployment))
    new = [(file, copy) for file, copy in pairs if file.exists() and not copy.exists()]
    for file, copy in new:
        _copy_file(file, copy)
    return bool(new)


def _copy_file(file: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(copy) as partial:
        shutil.copyfile(file, partial)


def _other(file: Path, key: str, kept: Any, new: Any) -> EffiSegError:
    return EffiSegError(
        f"{file}: {key} is {kept}, and here {new}; runs of one study have the same data and settings: keep these "
        "elsewhere"
    )
