"""The pipeline's stages: each parses its arguments, calls one function and writes what dvc.yaml declares."""

import gc
import os
import sys
import time

os.environ["EFFISEG_STARTED"] = str(time.time())  # what a stage took is told with the seconds of its imports

gc.disable()  # until the work begins: nothing that imports make is garbage, and looking for it takes a seventh of them

# Threads that spin for long while they wait starve the trainings beside them (2 cores: 4 times slower); those that spin
# briefly make a lone training slow (1.5 times). Experiments of DVC's, which may be a queue's, and a cluster's workers
# have company.
company = {"DVC_EXP_NAME", "EFFISEG_OWNER"} & set(os.environ)
os.environ.setdefault("GOMP_SPINCOUNT", "1000" if company else "30000")
# a bar that is not watched reports now and then; one that is, at once
if not sys.stderr.isatty():
    os.environ.setdefault("TQDM_MININTERVAL", "20")

try:
    import pydantic  # noqa: F401
except ModuleNotFoundError:
    sys.exit(
        f"error: {sys.executable} lacks the project's packages; run `make setup`, then `source .venv/bin/activate`"
    )
