"""Peak memory of one way, measured in a process of its own: `python -m benchmarks.peak WORK WAY` prints megabytes."""

import json
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.setting import CLASSES, CPU, FULL_SIZE, REPOSITORY, STEP_SIZE, our_step, row, stock_step
from effiseg.data.prepared import Split
from effiseg.evaluation.evaluate import evaluate
from effiseg.models import deploy
from effiseg.models.segformer import build_model

STEPS = 3
STATUS = Path("/proc/self/status")


def in_own_process(work: str, way: str) -> float:
    """Megabytes that WORK done in WAY took at its peak, above what was loaded before it began."""
    command = [sys.executable, "-m", "benchmarks.peak", work, way]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def kd_step(way: str) -> float:
    """Three distillation steps, above the loaded networks."""
    step = our_step("kd") if way == "ours" else stock_step("kd")
    return _growth(lambda: [step() for _ in range(STEPS)])


def evaluation(way: str) -> float:
    """The evaluation of WAY images against full-resolution labels, the whole process."""
    count = int(way)
    model = deploy(build_model(row("baseline").model, CLASSES))
    with tempfile.TemporaryDirectory() as folder:
        images = _repeated(Path(folder, "images.npy"), count, (3, *STEP_SIZE))
        labels = _repeated(Path(folder, "labels.npy"), count, FULL_SIZE)
        split = Split(images, labels, tuple(map(str, range(count))))
        evaluate(model, split, CLASSES, batch_size=2, device=CPU)
    return _process_peak()


WORKS: dict[str, Callable[[str], float]] = {"kd_step": kd_step, "evaluation": evaluation}


def _repeated(file: Path, count: int, shape: tuple[int, ...]) -> np.memmap:
    """A memory-mapped array on disk, filled through plain writes."""
    block = np.random.default_rng(0).integers(len(CLASSES), size=shape, dtype=np.uint8).tobytes()
    np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(count, *shape)).flush()
    offset = np.lib.format.open_memmap(file, mode="r").offset
    with file.open("r+b") as rows:
        rows.seek(offset)
        for _ in range(count):
            rows.write(block)
    return np.lib.format.open_memmap(file, mode="r")


def _growth(work: Callable[[], object]) -> float:
    """Megabytes of resident memory at the work's peak, above those before it."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")  # the peak starts again from what is resident now
    before = _process_peak()  # not Linux: the peak of all that came before
    work()
    return _process_peak() - before


def _process_peak() -> float:
    if STATUS.exists():  # Linux, where ru_maxrss begins with what the parent process held
        return _kilobytes("VmHWM") / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    print(json.dumps(WORKS[sys.argv[1]](sys.argv[2])))
