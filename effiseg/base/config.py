"""params.yaml as frozen, validated objects.

Everything is checked at once and before any work: unknown keys, wrong types, values out of range, rows that do not fit
their list. `load_config` is the only way in; stages hand its parts on to plain functions.
"""

import re
import reprlib
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from ruamel.yaml import YAML

from effiseg.base.errors import EffiSegError
from effiseg.base.objective import DISTILLATION_TERMS, Loss
from effiseg.base.recipe import Train
from effiseg.base.schema import Cluster, Data, Deploy, Model, Profile, Report, Row, Start, Study, Synthesize
from effiseg.base.section import Section

PARAMS_FILE = Path("params.yaml")
RESERVED = ("largest_class", "colour_lookup")  # floors, which have lines in the report of their own
TEACHER_SEED = 0  # of every row in study.teachers; dvc.yaml has it too

ROW_SECTIONS = {"model", "start", "loss", "train"}

Kind = TypeVar("Kind", bound=BaseModel)

_shown = reprlib.Repr()  # what was found may be a whole section
_shown.maxlevel, _shown.maxstring, _shown.maxother = 2, 80, 80


class Config(Section):
    """The whole of params.yaml."""

    data: Data
    synthesize: Synthesize
    model: Model
    start: Start
    loss: Loss
    train: Train
    study: Study
    cluster: Cluster
    profile: Profile
    deploy: Deploy
    report: Report
    experiments: dict[str, dict[str, Any]]

    def row(self, name: str) -> Row:
        """The experiment `name`, complete.

        Raises:
            EffiSegError: there is no such row, or it does not validate.
        """
        if name not in self.experiments:
            raise EffiSegError(f"experiments: there is no row '{name}'; rows are: {', '.join(self.experiments)}")
        differences = self.experiments[name]
        unknown = sorted(set(differences) - ROW_SECTIONS)
        if unknown:
            raise EffiSegError(
                f"experiments.{name}.{unknown[0]}: unknown key; a row may hold model, start, loss and train"
            )
        merged = merge(self.model_dump(include=ROW_SECTIONS), differences)
        return validate(Row, {"name": name, **merged}, f"experiments.{name}")

    def teacher_of(self, name: str) -> tuple[str, int] | None:
        """The run, (row, seed), that the row `name` learns from; None where it learns from labels alone."""
        if name in self.study.assisted:
            return self.study.assistant, self.study.seeds[0]
        return (self.study.teachers[0], TEACHER_SEED) if name in self.study.distillation else None

    def runs(self) -> list[tuple[str, int]]:
        """Every (row, seed) that the study compares, in the order of params.yaml."""
        study = self.study
        wanted = {*study.experiments, *study.distillation, *study.assisted, *study.continued}
        return [(name, seed) for name in self.experiments if name in wanted for seed in study.seeds]

    def teachers(self) -> list[tuple[str, int]]:
        """Every (row, seed) of study.teachers."""
        return [(name, TEACHER_SEED) for name in self.study.teachers]


def merge(base: Mapping[str, Any], differences: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `differences` laid over it; mappings are merged key by key, anything else is replaced."""
    merged = dict(base)
    for key, value in differences.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def load_config(path: Path = PARAMS_FILE) -> Config:
    """Read and check the whole of params.yaml, every row of `experiments` included.

    Raises:
        EffiSegError: the file is missing, not YAML, or any key of it is wrong; the message names the key path.
    """
    content = read_yaml(path)
    try:
        config = validate(Config, content, "")
        _check_rows(config)
    except EffiSegError as error:
        raise EffiSegError(f"{path}: {' '.join(str(error).split())}") from None  # keys may hold line breaks
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML 1.2 mapping, read as DVC reads it (1e-4 is a number).

    Raises:
        EffiSegError: the file is missing, unreadable, not YAML, or not a mapping.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise EffiSegError(f"{path}: not found; run from the repository root") from None
    except OSError as error:
        raise EffiSegError(f"{path}: cannot be read: {error.strerror}; expected a YAML file") from None
    except Exception as error:  # besides YAMLError: `!!int x` is a ValueError, `!!bool x` a KeyError, and so on
        raise EffiSegError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise EffiSegError(f"{path}: found {type(content).__name__}, expected a mapping of sections")
    return content


def _check_rows(config: Config) -> None:
    for name in config.experiments:
        # DVC builds stage names from these; a dot or a bare number breaks its addressing silently
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
            raise EffiSegError(f"experiments.{name}: a row's name is letters, digits, _ and -, beginning with a letter")
        if name in RESERVED:
            raise EffiSegError(f"experiments.{name}: something else of the study has this name; give the row another")
    rows = {name: config.row(name) for name in config.experiments}
    _check_study(config, rows)
    for row in rows.values():
        if any(c > s for c, s in zip(row.train.augment.crop, config.data.size, strict=True)):
            raise EffiSegError(
                f"train.augment.crop: {row.train.augment.crop} (row '{row.name}') is larger than data.size "
                f"{config.data.size}"
            )


def _check_study(config: Config, rows: Mapping[str, Row]) -> None:
    study = config.study
    lists = {key: getattr(study, key) for key in ("experiments", "teachers", "distillation", "assisted", "continued")}
    if not config.runs():
        raise EffiSegError("study.experiments and study.distillation are both empty: name at least one row")
    for key, names in lists.items():
        for name in names:
            if name not in rows:
                raise EffiSegError(f"study.{key}: there is no row '{name}'; rows are: {', '.join(rows)}")
            _check_signals(key, rows[name])
            _check_origin(config, key, rows[name])
    for key, values in {**lists, "seeds": study.seeds}.items():
        repeated = [value for value in values if values.count(value) > 1]
        if repeated:
            raise EffiSegError(f"study.{key}: '{repeated[0]}' is listed twice")
    for (key, names), (other, others) in combinations(lists.items(), 2):
        if both := [name for name in names if name in others]:
            raise EffiSegError(f"study.{key}: row '{both[0]}' stands under study.{other} too; a row has one list")
    if study.distillation and not study.teachers:
        raise EffiSegError(
            "study.teachers is empty, but the rows of study.distillation need one; name it, or set "
            "study.distillation: []"
        )
    if study.assisted and study.assistant not in study.distillation:
        raise EffiSegError(
            f"study.assistant: '{study.assistant}' is not in study.distillation; it is the distilled row that "
            "study.assisted learns from"
        )
    origins = [f"{name}-{seed}" for name, seed in (*config.teachers(), *config.runs()) if name not in study.continued]
    if study.continued and study.origin not in origins:
        raise EffiSegError(
            f"study.origin: '{study.origin}' is none of the runs that the rows of study.continued may start from; "
            f"these are: {', '.join(origins)}"
        )


def _check_signals(key: str, row: Row) -> None:
    """Whether the row's terms fit the list of the study that it stands in."""
    terms = [term for term in row.loss.weights.active() if term in DISTILLATION_TERMS]
    if key in ("experiments", "teachers", "continued") and terms and row.train.epochs:
        cure = "list it under study.distillation instead" if key == "experiments" else "set it to 0"
        raise EffiSegError(
            f"study.{key}: row '{row.name}' has a distillation weight ({', '.join(terms)}) and so needs the teacher; "
            f"{cure}"
        )
    if key in ("distillation", "assisted") and not row.train.epochs:
        raise EffiSegError(f"study.{key}: row '{row.name}' has 0 epochs, so it learns from no teacher")
    if key in ("distillation", "assisted") and not terms:
        raise EffiSegError(
            f"study.{key}: row '{row.name}' has no distillation weight above 0 "
            f"({', '.join(DISTILLATION_TERMS)}); list it under study.experiments instead"
        )


def _check_origin(config: Config, key: str, row: Row) -> None:
    """Whether a row that starts from a run comes after it for DVC, and can take its weights."""
    study, start = config.study, row.start
    if key == "continued" and start.source != "run":
        raise EffiSegError(
            f"study.continued: row '{row.name}' starts from no run (start.source '{start.source}'); give it start: "
            f"{{source: run, run: {study.origin or '<row>-<seed>'}}}, or list it under study.experiments"
        )
    if start.source != "run":
        return
    runs = {f"{name}-{seed}": name for name, seed in (*config.teachers(), *config.runs())}
    if start.run not in runs:
        raise EffiSegError(
            f"experiments.{row.name}.start.run: the study has no run '{start.run}'; runs are: {', '.join(runs)}"
        )
    known = {
        "distillation": f"{study.teachers[0]}-{TEACHER_SEED}" if study.teachers else "",
        "assisted": f"{study.assistant}-{study.seeds[0]}",
        "continued": study.origin,
    }.get(key, "")
    if start.run != known:
        cures = {
            "continued": f"set study.origin: {start.run}",
            "experiments": f"list it under study.continued, and set study.origin: {start.run}",
            "teachers": "a teacher is drawn or fetched",
        }
        raise EffiSegError(
            f"study.{key}: row '{row.name}' starts from the run '{start.run}', which DVC would not run before it; "
            f"{cures.get(key, f'start it from what it learns from, {known}')}"
        )
    _check_fit(row, config.row(runs[start.run]))


def _check_fit(row: Row, origin: Row) -> None:
    """Whether a row's network can take the weights of another's, as far as settings tell."""
    keys = {"variant", "embedding", "norms", "mean", "std"} if not row.train.epochs else {"variant"}
    if row.start.part == "selected" and row.train.epochs:
        return
    ours, theirs = (each.model.model_dump(include=keys) for each in (row, origin))
    for key in keys:
        if ours[key] != theirs[key]:
            cure = "start.part: selected takes a part of a larger network's" if key == "variant" else "train the row"
            raise EffiSegError(
                f"experiments.{row.name}.model.{key}: {ours[key]}, but its start, the row '{origin.name}', has "
                f"{theirs[key]}; {cure}"
            )


def validate(kind: type[Kind], content: Any, prefix: str) -> Kind:
    """`content` as an object of `kind`, `prefix` being its key path in the file.

    Raises:
        EffiSegError: something does not fit; the message names the key paths, what was found and what is allowed.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_describe(kind, problem, prefix) for problem in error.errors()[:5])
    raise EffiSegError(problems)


def _describe(kind: type[BaseModel], problem: Any, prefix: str) -> str:
    """One pydantic problem as `key.path: what was found and what is allowed`."""
    path = ".".join(str(part) for part in (prefix, *problem["loc"]) if part != "" and not _is_tag(part))
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key; allowed here: {', '.join(_fields_at(kind, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{path}: missing; it must be set"
    message = re.sub(r" or instance of \w+| after validation", "", problem["msg"].removeprefix("Value error, "))
    message = message.replace("valid tuple", "valid list")
    found = "" if problem["type"] == "value_error" else f" (found {_shown.repr(problem['input'])})"
    return f"{path}: {message}{found}" if path else f"{message}{found}"


def _is_tag(part: Any) -> bool:
    """Parts of a place in brackets, pydantic's own [key] among them, stand in no file."""
    return isinstance(part, str) and part.startswith("[")


def _fields_at(kind: Any, path: tuple[Any, ...]) -> list[str]:
    """The keys of the model that stands at `path` below a model, lists and mappings between them."""
    for part in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
            field = kind.model_fields[part]
            kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        elif _is_tag(part):
            kind = next(option for option in _arguments(kind) if Tag(part) in get_args(option))
        elif not isinstance(kind, type):
            kind = _arguments(kind)[-1 if get_origin(_plain(kind)) is dict else 0]
    return list(_plain(kind).model_fields)


def _plain(kind: Any) -> Any:
    return _plain(get_args(kind)[0]) if get_origin(kind) is Annotated else kind


def _arguments(kind: Any) -> tuple[Any, ...]:
    return get_args(_plain(kind))
