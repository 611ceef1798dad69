"""The store behind MLflow: where it is, and the runs in it."""

import logging
import os
import warnings

import mlflow
from filelock import FileLock
from mlflow.entities import Run

from effiseg.base.files import repository
from effiseg.cli.git import head
from effiseg.tracking import EXPERIMENT

logging.getLogger("mlflow").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted in multiple ways")

IDENTITY_TAG = "effiseg.run"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # what the UI opens it as


def choose_store() -> None:
    """mlflow.db in the repository, unless MLFLOW_TRACKING_URI says otherwise."""
    if "MLFLOW_TRACKING_URI" not in os.environ:
        # relative: SQLAlchemy would read `?` and `%` in the names of folders above as parts of an address
        mlflow.set_tracking_uri(f"sqlite:///{os.path.relpath(repository() / 'mlflow.db')}")


def experiment_of(source: str) -> str:
    """Find or make the data set's experiment and choose it; one process at a time, since creation races."""
    root = repository()
    choose_store()
    client = mlflow.MlflowClient()
    (root / ".ckpt").mkdir(exist_ok=True)
    with FileLock(root / ".ckpt" / "mlflow.lock"):
        name = EXPERIMENT.format(source)
        found = client.get_experiment_by_name(name)
        # explicit and absolute: a stage in a temporary folder must not leave its artifacts there
        local = mlflow.get_tracking_uri().startswith("sqlite:")
        location = (root / "mlartifacts").as_uri() if local else None
        experiment_id = found.experiment_id if found else client.create_experiment(name, location, KIND)
        mlflow.set_experiment(experiment_id=experiment_id)
    return str(experiment_id)


def create_run(name: str, source: str) -> Run:
    """Begin a new run in the data set's experiment; it is MLflow's active one then."""
    experiment_of(source)
    return mlflow.start_run(run_name=name + suffix())


def find_run(known_as: str, source: str) -> Run | None:
    """Go on in the run that bears this identity, if there is one; it is MLflow's active one then."""
    experiment = experiment_of(source)  # chooses the store, which a client asks for when it is made
    found = mlflow.MlflowClient().search_runs([experiment], f"tags.`{IDENTITY_TAG}` = '{known_as}'", max_results=1)
    return mlflow.start_run(run_id=found[0].info.run_id) if found else None


def suffix() -> str:
    """What tells the runs of a DVC experiment from those of the study."""
    experiment = os.environ.get("DVC_EXP_NAME", "")
    return f"/{experiment}" if experiment else ""


def provenance(experiment: str) -> dict[str, str]:
    """The tags of every run: the commit, and DVC's stage and experiment."""
    stage = os.environ.get("DVC_STAGE", "")
    return {"git.commit": head(), "dvc.stage": stage, "dvc.experiment": experiment}
