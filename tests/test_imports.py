"""A command imports what it needs and no more: torch and transformers cost seconds at the start of every process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("effiseg.__main__", {"torch", "transformers", "mlflow"}),  # of `check`, which begins every study
        ("effiseg.remote.command", {"torch", "transformers", "mlflow", "dvc"}),
        ("effiseg.keep", {"torch", "transformers", "mlflow", "dvc"}),
        ("effiseg.runs.training", {"mlflow", "dvc"}),
        ("stages.synthesize", {"torch", "transformers"}),
        ("stages.rows", {"torch", "transformers"}),
        ("stages.prepare", {"transformers"}),  # its floors count with torch
        ("stages.deployment", {"torch", "transformers", "onnxruntime"}),
        ("stages.report", {"torch", "transformers", "scipy.stats"}),
    ],
)
def test_a_command_does_without_the_libraries_of_others(module: str, unneeded: set[str], repository: Path) -> None:
    code = f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert unneeded & set(json.loads(ran.stdout)) == set()
