"""`python -m benchmarks` measures every line that this machine can, prints the table and writes results.csv."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from benchmarks.compare import Result, measure, shown, write
from benchmarks.gpu import GPU_ROWS
from benchmarks.rows import CPU_ROWS
from benchmarks.video import video_rate
from effiseg.deployment.runtimes import INSTALL_OPENVINO, openvino_installed
from effiseg.video.pyav import INSTALL_AV, av_installed

RESULTS = Path(__file__).with_name("results.csv")


def main() -> None:
    print("It takes some minutes and 1.3 GB in the temporary folder; results are written at the end.", file=sys.stderr)
    video = (video_rate,) if av_installed() else ()
    functions = [*CPU_ROWS, *video, *(GPU_ROWS if torch.cuda.is_available() else ())]
    results: list[Result] = []
    for index, function in enumerate(functions, start=1):
        print(f"[{index}/{len(functions)}] {function.__name__.replace('_', ' ')} ...", file=sys.stderr)
        # a process of its own: what one comparison leaves to the memory allocator would help whoever comes next
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            results += process.submit(measure, function).result()
    write(results, RESULTS)
    print(shown(results))
    if not torch.cuda.is_available():
        print("\nNo GPU here, so its lines are missing; on a machine with one the same command adds them.")
    if not openvino_installed():
        print(f"\nopenvino is not installed, so its lines are missing; `{INSTALL_OPENVINO}` brings them.")
    if not av_installed():
        print(f"\nav is not installed, so the line of videos is missing; `{INSTALL_AV}` brings it.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(f"interrupted; {RESULTS} is as it was")
