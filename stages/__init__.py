"""The pipeline's stages: each parses its arguments, calls one function and writes what dvc.yaml declares."""

import os
import sys

# processes that share cores (the queue, several trainings) must not spin while they wait for each other
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# a bar that is not watched reports now and then; one that is, at once
if not sys.stderr.isatty():
    os.environ.setdefault("TQDM_MININTERVAL", "20")

try:
    import pydantic  # noqa: F401
except ModuleNotFoundError:
    sys.exit(
        f"error: {sys.executable} lacks the project's packages; run `make setup`, then `source .venv/bin/activate`"
    )
