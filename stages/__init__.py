"""The pipeline's stages: each parses its arguments, calls one function and writes what dvc.yaml declares."""

import gc
import os
import sys
import time

os.environ["EFFISEG_STARTED"] = str(time.time())  # what a stage took is told with the seconds of its imports

gc.disable()  # until the work begins: nothing that imports make is garbage, and looking for it takes a seventh of them

# Threads that spin for long while they wait starve the other trainings of a queue (2 cores: 10 times slower); threads
# that never spin make a lone training slow (1.7 times). A short spin costs neither.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# a bar that is not watched reports now and then; one that is, at once
if not sys.stderr.isatty():
    os.environ.setdefault("TQDM_MININTERVAL", "20")

try:
    import pydantic  # noqa: F401
except ModuleNotFoundError:
    sys.exit(
        f"error: {sys.executable} lacks the project's packages; run `make setup`, then `source .venv/bin/activate`"
    )
