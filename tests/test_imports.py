"""A stage imports what it needs and no more: torch and transformers cost seconds at the start of every process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("stage", "unneeded"),
    [
        ("synthesize", {"torch", "transformers"}),
        ("rows", {"torch", "transformers"}),
        ("prepare", {"transformers"}),  # its floors count with torch
        ("deployment", {"torch", "transformers", "onnxruntime"}),
        ("report", {"torch", "transformers", "scipy.stats"}),
    ],
)
def test_a_stage_does_without_the_libraries_of_others(stage: str, unneeded: set[str], repository: Path) -> None:
    code = f"import json, sys, stages.{stage}; print(json.dumps(list(sys.modules)))"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert unneeded & set(json.loads(ran.stdout)) == set()
