"""What can be wrong with the store behind MLflow, in words that help."""

import re
import textwrap
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from effiseg.base.errors import EffiSegError, masked

# what a store raises that cannot be used
TROUBLES = (MlflowException, OSError, ValueError, ImportError, SQLAlchemyError)
_LONGEST = 500  # characters of a reason
_CURES = (  # by what MLflow, SQLAlchemy and SQLite say of a database
    (r"deleted", "restore it with `mlflow experiments restore --experiment-id ID`, or delete it for good: `mlflow gc`"),
    (r"out-of-date", "keep a copy and run `mlflow db upgrade {uri}`"),
    (r"not a database|malformed|disk image", "the file is damaged: move it away, and a new one is made"),
    (r"locked", "another program holds it: end that, then run again"),
    (r"readonly|unable to open|Permission", "check the permissions of the file and its folder, and free space"),
)
_MIGRATIONS = Path(mlflow.__file__).with_name("store") / "db_migrations/versions"  # a file for each state of a database
_LFS = b"version https://git-lfs"


def unusable(error: Exception) -> EffiSegError:
    """A store that cannot be reached or used, as an error to raise."""
    uri, text = mlflow.get_tracking_uri(), reason(error)
    return EffiSegError(f"MLflow at {without_secrets(uri)} cannot be used ({text}); {_cure(uri, text, error)}")


def reason(error: Exception) -> str:
    """What an error says, on one line, without passwords."""
    cause = getattr(error, "orig", None) or error  # SQLAlchemy adds the whole statement
    return textwrap.shorten(without_secrets(str(cause)), _LONGEST, placeholder=" ...")


def without_secrets(text: str) -> str:
    """The text without the secrets of any address; those of MLflow's may hold blanks, by which others end."""
    secret = mlflow.get_tracking_uri().rpartition("@")[0].rpartition("://")[2]
    return masked(text.replace(secret, "***") if secret else text)


def _cure(uri: str, text: str, error: Exception) -> str:
    if isinstance(error, ImportError) and error.name:
        return f"`pip install` the package of the module {error.name}, or unset MLFLOW_TRACKING_URI"
    if uri.startswith("sqlite:"):
        if _is_lfs_pointer(Path(uri.removeprefix("sqlite:///"))):
            return "the file is a pointer of Git LFS: run `git lfs pull`, or move it away"
        version = re.search(r"found version (\w+)", text)
        if version and not list(_MIGRATIONS.glob(f"{version[1]}_*.py")):
            return "it is of a newer MLflow than this one: move the file away, or use that MLflow"
        for pattern, cure in _CURES:
            if re.search(pattern, text):
                return cure.format(uri=uri)
        return "move the file away, and a new one is made"
    return "start that server, or unset MLFLOW_TRACKING_URI to use mlflow.db in the repository"


def _is_lfs_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_LFS)) == _LFS
    except OSError:
        return False
