"""What can be wrong before any work starts: settings, data and weights that are not there, git."""

import json
import os
import re
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pathspec import PathSpec

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError, masked
from effiseg.base.files import repository
from effiseg.base.origins import digest, refuse_unpinned, weights_file
from effiseg.base.schema import Data, Row
from effiseg.cli.git import git
from effiseg.data.dataset import SHIPPED, DataSet, open_dataset, table_file
from effiseg.data.index import INDEX_FILE
from effiseg.preparation.problems import unusable
from effiseg.preparation.sources import list_pairs, list_splits, refuse_missing_weights
from effiseg.runs.places import PREPARED, STARTS, is_generated
from effiseg.tracking import EXPERIMENT
from effiseg.weights.fetch import announce, at_hand


def check(config: Config) -> None:
    """Look at all that a study needs, without opening a picture.

    Raises:
        EffiSegError: something is missing or does not fit.
    """
    if Path("dvc.yaml").exists():  # else nothing can be run here
        git("rev-parse", "HEAD")
    dataset = open_dataset(config.data.source)
    _check_store(dataset.name)
    _check_data(config)
    _check_table(config.data, dataset)
    rows = [config.row(name) for name in dict.fromkeys(name for name, _ in (*config.teachers(), *config.runs()))]
    for row in rows:
        _check_start(row)
    _tell_downloads(rows)


def _check_store(source: str) -> None:
    """Whether the database that MLflow would open is one, and what it logs can be opened again."""
    if re.search(r"%[0-9a-fA-F]{2}", str(repository())):
        print(
            f"warning: {repository()}: MLflow takes the % and what follows for a sign in an address, and cannot load "
            "the models that it keeps here; rename the folder",
            file=sys.stderr,
        )
    file = repository() / "mlflow.db"
    if "MLFLOW_TRACKING_URI" in os.environ or not file.exists():
        return
    if file.is_dir():
        raise EffiSegError(f"{file}: a folder, where MLflow's database goes; move it away")
    with file.open("rb") as content:
        begin = content.read(32)
    if begin and not begin.startswith(b"SQLite format 3"):
        pointer = begin.startswith(b"version https://git-lfs")
        what, cure = ("a pointer of Git LFS", "run `git lfs pull`") if pointer else ("no SQLite database", "restore it")
        raise EffiSegError(f"{file}: {what}; {cure}, or move it away: a new one is made")
    if begin:
        _check_experiment(file, source)


def _check_experiment(file: Path, source: str) -> None:
    """Whether the data set's experiment was deleted, read without MLflow, which costs seconds."""
    with closing(sqlite3.connect(file)) as database:
        try:
            query = "SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = ?"
            found = database.execute(query, [EXPERIMENT.format(source)]).fetchone()
        except sqlite3.Error as error:
            if "no such table" in str(error):
                return  # MLflow makes its tables
            raise EffiSegError(
                f"{file}: no database of MLflow's, or damaged ({error}); move it away: a new one is made"
            ) from None
    if found and found[1] == "deleted":
        raise EffiSegError(
            f"{file}: the experiment {EXPERIMENT.format(source)} was deleted; restore it with `mlflow "
            f"experiments restore --experiment-id {found[0]}`, or delete it for good: `mlflow gc`"
        )


def _check_data(config: Config) -> None:
    settings, root = config.data, Path(config.data.root)
    final = list_splits(open_dataset(settings.source), root, settings.final_on)
    if is_generated(settings.root):
        return  # the study makes it
    if not root.is_dir():
        raise EffiSegError(f"data.root: {root} is not a folder; set it to the folder that holds your data")
    if _is_ignored(root):
        raise EffiSegError(
            f"data.root: {root} is left out by .dvcignore, so that DVC sees no change in it; move the data elsewhere"
        )
    listing = list_pairs(settings)
    refuse_missing_weights(settings, listing.dataset)
    listing.problems += final.problems
    if listing.problems:
        raise unusable(settings, listing.problems)


def _check_table(settings: Data, dataset: DataSet) -> None:
    """Whether a table that DVC does not look at is as it was when the data were prepared."""
    index, table = PREPARED / INDEX_FILE, table_file(settings.source).resolve()
    if table.is_relative_to(Path(settings.root).resolve()) or table.is_relative_to(SHIPPED) or not index.exists():
        return
    prepared = json.loads(index.read_text(encoding="utf-8"))
    if prepared.get("space", {}).get("name") == dataset.name and prepared.get("table") != dataset.fingerprint:
        raise EffiSegError(
            f"{table}: edited since the data were prepared, which DVC does not see outside data.root; run `dvc repro "
            "--force --single-item prepare`"
        )


def _is_ignored(root: Path) -> bool:
    here, rules = repository(), Path(".dvcignore")
    if not root.resolve().is_relative_to(here) or not rules.exists():
        return False
    ignored = PathSpec.from_lines("gitwildmatch", rules.read_text(encoding="utf-8").splitlines())
    return ignored.match_file(f"{root.resolve().relative_to(here).as_posix()}/")


def _check_start(row: Row) -> None:
    start = row.start
    if start.source == "file" and (Path(start.path).exists() or not at_hand(start.address, STARTS / row.name)):
        if not Path(start.path).exists():
            raise EffiSegError(
                f"start.path: {start.path} (row '{row.name}') not found; name a checkpoint, or set start.source: drawn "
                "and train.epochs above 0"
            )
        file = weights_file(start.path)
        if start.sha256 and (found := digest(file)) != start.sha256.lower():
            raise EffiSegError(
                f"start.sha256: {file} (row '{row.name}') has {found}, expected {start.sha256}; correct the digest or "
                "the file"
            )
    try:
        refuse_unpinned(row)
    except EffiSegError as error:
        if start.source != "huggingface":
            raise
        raise EffiSegError(f"{error}; {start.revision} is now: {announce(start.address)}") from None


def _tell_downloads(rows: Sequence[Row]) -> None:
    """Say of all weights that come from elsewhere whether they are here, and what the others will cost."""
    wanted: dict[str, list[Row]] = {}
    for row in rows:
        if row.start.is_fetched and row.start.source != "file":
            wanted.setdefault(masked(f"{row.start.source} {getattr(row.start, row.start.key)}"), []).append(row)
    for origin, starting in wanted.items():
        names, address = ", ".join(row.name for row in starting), starting[0].start.address
        here = all(at_hand(row.start.address, STARTS / row.name) for row in starting)
        print(f"{origin} ({names}): {'at hand' if here else f'to be downloaded: {announce(address)}'}")
