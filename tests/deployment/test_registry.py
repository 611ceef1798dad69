"""What a registered model needs to be loaded."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement

from effiseg.runs.tracked_training import NEEDED_BY_MODEL

# the packages behind all modules that loading a registered checkpoint and predicting with it import
IMPORTS = """
import json, sys
import effiseg.tracking.served, effiseg.data.images, effiseg.deployment.predictor
import effiseg.deployment.checkpoint, effiseg.models.deployed
from importlib.metadata import packages_distributions
owners = packages_distributions()
print(json.dumps(sorted({name for module in sys.modules for name in owners.get(module.split(".")[0], [])})))
"""
# used where they are there
OPTIONAL = {"accelerate", "psutil", "colorama", "orjson", "pydot", "pysocks", "ruamel-yaml-clib", "typing"}


def test_the_pinned_packages_bring_all_that_is_imported(repository):
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=repository, capture_output=True, text=True, check=True)
    imported = {_plain(name) for name in json.loads(done.stdout.splitlines()[-1])}
    locked = {_plain(line.split("==")[0]) for line in (repository / "requirements.txt").read_text().splitlines()}

    # MLflow imports more where the extras brought it: what a store needs, for example
    assert (imported & locked) - _with_dependencies([*NEEDED_BY_MODEL, "mlflow"]) - OPTIONAL == set()


def _with_dependencies(names: list[str]) -> set[str]:
    found: set[str] = set()
    waiting = [_plain(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            wanted = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
        waiting += [_plain(each.name) for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
