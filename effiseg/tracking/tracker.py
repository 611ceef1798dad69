"""MLflow: one experiment per data set, one run per row and seed, and one for each time that another stage ran.

All stages of a row and seed log into the run that its training began: settings, curves, scores, costs and forms stand
side by side. The default store is `mlflow.db` in the repository, where `mlflow ui` without arguments finds it;
MLFLOW_TRACKING_URI names a server instead. A store that cannot be reached is an error before the work starts; one that
goes away later costs a warning, never the work.
"""

import hashlib
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Run

from effiseg.base.errors import EffiSegError
from effiseg.tracking.store import (
    IDENTITY_TAG,
    choose_store,
    create_run,
    experiment_of,
    find_run,
    provenance,
    suffix,
)
from effiseg.tracking.troubles import TROUBLES, reason, unusable, without_secrets

NOTE = "mlflow.note.content"  # what the UI shows as an experiment's description
LONGEST_NOTE = 20_000  # characters
FLUSH_SECONDS = 5.0
RETRY_SECONDS = 60.0  # each try at a store that went away costs seconds
PYFUNC = Path(__file__).with_name("pyfunc.py")


class Tracker:
    """One run. Logging calls never raise: what the store refuses is kept and tried again, and told once.

    Args:
        step: of the numbers that are logged without one.
    """

    def __init__(self, run: Run, step: int) -> None:
        self.run_id: str = run.info.run_id
        self.step = step
        self._client = mlflow.MlflowClient()
        self._waiting: list[Metric] = []
        self._next_flush = time.monotonic() + FLUSH_SECONDS
        self._warned = False

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers at a step; sent in batches, since a single call costs milliseconds.

        Names keep letters of any language, digits and _-./: and blanks; MLflow refuses others, which become `-`.
        """
        now, step = int(1000 * time.time()), self.step if step is None else step
        self._waiting += [Metric(_allowed(name), value, now, step) for name, value in metrics.items() if value == value]
        if time.monotonic() > self._next_flush:
            self.flush()

    def params(self, params: Mapping[str, Any]) -> None:
        """Log settings, nested keys joined by dots."""
        flat = {key: str(value) for key, value in _flatten(params)}
        self._try(lambda: mlflow.log_params(flat, run_id=self.run_id))

    def tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags."""
        self._try(lambda: mlflow.set_tags({key: str(value) for key, value in tags.items()}))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file, or a folder with all that is in it."""
        log = mlflow.log_artifacts if path.is_dir() else mlflow.log_artifact
        self._try(lambda: log(str(path), folder))

    def note(self, text: str) -> None:
        """Describe the run's experiment, in Markdown: what `mlflow ui` shows above the runs, as far as it fits."""
        if len(text) > LONGEST_NOTE:
            text = text[:LONGEST_NOTE].rsplit("\n", 1)[0]
        experiment = mlflow.active_run().info.experiment_id
        self._try(lambda: self._client.set_experiment_tag(experiment, NOTE, text))

    def dataset(self, name: str, root: str, digest: str, context: str) -> None:
        """Tell which data the run used: the digest is that of the prepared form (its first 36 characters)."""
        source = resolve_dataset_source(Path(root).absolute().as_uri())
        self._try(lambda: mlflow.log_input(MetaDataset(source, name=name, digest=digest[:36]), context=context))

    def model(self, folder: Path, size: tuple[int, int], fit: str, requirements: list[str]) -> None:
        """Keep a model folder as an MLflow model: images (N, H, W, 3) uint8 in, class maps (N, H, W) out.

        Args:
            size: (height, width) of its training, to which images are brought as `fit` says.
        """
        config = {"size": list(size), "fit": fit}
        self._try(lambda: _log_pyfunc(PYFUNC, "model", folder, requirements, model_config=config))

    def register(
        self, name: str, alias: str, tags: Mapping[str, str], *, code: Path, folder: Path, requirements: list[str]
    ) -> str:
        """Keep a folder, run by `code`, as the newest version of the registered model `name`; `alias` then means it.

        Returns:
            models:/<name>@<alias>

        Raises:
            EffiSegError: the registry refuses it. Unlike what is logged beside other work, this is the work.
        """
        try:
            info = _log_pyfunc(code, folder.name, folder, requirements, registered_model_name=name)
            for key, value in tags.items():
                self._client.set_model_version_tag(name, info.registered_model_version, key, value)
            self._client.set_registered_model_alias(name, alias, info.registered_model_version)
        except TROUBLES as error:
            raise unusable(error) from None
        return f"models:/{name}@{alias}"

    def flush(self) -> None:
        """Send the waiting numbers."""
        batch, self._waiting = self._waiting, []
        wait = FLUSH_SECONDS
        if batch and not self._try(lambda: self._client.log_batch(self.run_id, metrics=batch)):
            self._waiting = batch + self._waiting
            wait = RETRY_SECONDS
        self._next_flush = time.monotonic() + wait

    def _try(self, call: Callable[[], Any]) -> bool:
        try:
            call()
        # any failure of the store, whatever its type, must not end a training
        except Exception as error:
            if not self._warned:
                told = reason(error)
                print(f"warning: MLflow does not take what is logged ({told}); the work goes on", file=sys.stderr)
            self._warned = True
            return False
        return True


@contextmanager
def track(name: str, source: str, *, tags: Mapping[str, Any] | None = None) -> Iterator[Tracker]:
    """A run of its own for what belongs to no row, finished, failed or killed as the block ends.

    Args:
        source: the data set, whose experiment the run belongs to.
        tags: besides the git commit, DVC stage and DVC experiment, which are always set.

    Raises:
        EffiSegError: the tracking store cannot be reached or used.
    """
    with _opened(lambda: create_run(name, source), dict(tags or {}), step=0) as tracker:
        yield tracker


@contextmanager
def track_run(name: str, identity: str, source: str, *, tags: Mapping[str, Any], step: int = 0) -> Iterator[Tracker]:
    """The one run of a training, known by its `identity`: found again, or made where there is none.

    Args:
        step: where the numbers stand that are logged without a step.

    Raises:
        EffiSegError: the tracking store cannot be reached or used.
    """
    known_as = identity
    if suffix():  # of names that may hold anything, a quote among it
        known_as += f"-{hashlib.sha256(suffix().encode()).hexdigest()[:16]}"

    def start() -> Run:
        return find_run(known_as, source) or create_run(name, source)

    with _opened(start, {**tags, IDENTITY_TAG: known_as}, step) as tracker:
        yield tracker


def prepare_study(source: str) -> None:
    """Make the data set's experiment, so that stages on machines without a common lock find it and make no second one.

    Raises:
        EffiSegError: the tracking store cannot be reached or used.
    """
    try:
        experiment_of(source)
    except TROUBLES as error:
        raise unusable(error) from None


def download(uri: str, folder: Path) -> Path:
    """Fetch a file or folder of a registered model (models:/<name>@<alias>/<path>) into `folder`; nothing of it runs.

    Raises:
        EffiSegError: there is no such model or path, or the store cannot be reached.
    """
    choose_store()
    try:
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    except TROUBLES as error:
        store = without_secrets(mlflow.get_tracking_uri())
        raise EffiSegError(
            f"{uri}: not to be had from MLflow at {store} ({reason(error)}); put a row there with "
            "`python -m effiseg register`"
        ) from None


def _log_pyfunc(code: Path, artifact: str, folder: Path, requirements: list[str], **options: Any) -> Any:
    """Log a folder as a model of the current run; `code` is the file of this package that MLflow runs to load it."""
    with warnings.catch_warnings():
        # MLflow would rather infer the signature that is given, and sets warning filters of its own
        warnings.showwarning = lambda *_, **__: None
        package = Path(__file__).parents[1]
        module = import_module(".".join(code.relative_to(package.parent).with_suffix("").parts))
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(code),
            artifacts={artifact: str(folder)},
            code_paths=[str(package)],
            pip_requirements=requirements,
            signature=module.signature(),
            **options,
        )


@contextmanager
def _opened(start: Callable[[], Run], tags: dict[str, Any], step: int) -> Iterator[Tracker]:
    try:
        tracker = Tracker(start(), step)
    except TROUBLES as error:
        raise unusable(error) from None
    tracker.tags(provenance(os.environ.get("DVC_EXP_NAME", "")) | tags)
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        tracker.flush()
        tracker._try(lambda: mlflow.end_run(status))


def _allowed(name: str) -> str:
    return re.sub(r"[^\w\-./: ]", "-", name)


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{path}.")
        else:
            yield path, value
