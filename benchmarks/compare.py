"""Two ways of one work, timed in turn; and the table that the ratios go into."""

import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import pandas as pd
import torch

from effiseg.deployment.runtimes import openvino_installed
from effiseg.report.tables import markdown
from effiseg.video.pyav import av_installed

UNTIMED = 2  # passes of each way before the first that counts
RUNS = (7, 60)  # fewest and most timed passes of each way
SECONDS = 15.0  # what a comparison should take; the number of passes follows

Better = Literal["less", "more"]


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        ours, other: medians, in `unit`.
        ratio: how many times faster ours is, of the medians; for memory (MB), our share of the other's.
        ratio_low, ratio_high: the middle half of the ratios, run by run; None after a single run.
        floor: what the ratio must reach; for memory, must not exceed; None where it is only stated.
        note: what ours and the other are.
    """

    name: str
    ours: float
    other: float
    ratio: float
    floor: float | None
    unit: str
    device: str
    note: str
    ratio_low: float | None
    ratio_high: float | None
    runs: int
    versions: str


def measure(function: Callable[[], Iterator[Result]]) -> list[Result]:
    """All lines of one function."""
    warnings.simplefilter("ignore")  # the libraries' advice
    torch.manual_seed(0)
    return list(function())


def time_in_turn(
    ours: Callable[[], object], other: Callable[[], object], device: torch.device
) -> tuple[list[float], list[float]]:
    """Seconds of each pass of both ways, in alternating order."""
    ways, seconds = (ours, other), ([], [])  # type: tuple[Callable[[], object], ...], tuple[list[float], list[float]]
    for way in ways:
        for _ in range(UNTIMED):
            once = _seconds(way, device)
        seconds[ways.index(way)].append(once)
    pair = sum(times.pop() for times in seconds)
    for run in range(min(max(int(SECONDS / pair), RUNS[0]), RUNS[1])):
        for index in (0, 1) if run % 2 == 0 else (1, 0):
            seconds[index].append(_seconds(ways[index], device))
    return seconds


def summarise(
    name: str,
    ours: Sequence[float],
    other: Sequence[float],
    *,
    unit: str,
    floor: float | None,
    device: torch.device,
    note: str,
    better: Better = "less",
) -> Result:
    """A line from the paired figures of both ways; the ratio says how many times better ours is."""
    ratios = [b / a if better == "less" else a / b for a, b in zip(ours, other, strict=True)]
    mine, theirs = statistics.median(ours), statistics.median(other)
    extras = {"openvino": openvino_installed(), "av": av_installed()}
    packages = ("torch", "transformers", "onnxruntime", *(name for name, there in extras.items() if there))
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (None, None, None)
    return Result(
        name=name,
        ours=mine,
        other=theirs,
        ratio=theirs / mine if better == "less" else mine / theirs,
        floor=floor,
        unit=unit,
        device=device_description(device),
        note=note,
        ratio_low=low,
        ratio_high=high,
        runs=len(ratios),
        versions=", ".join(f"{package} {version(package)}" for package in packages),
    )


def device_description(device: torch.device) -> str:
    """The machine as a reader of the table would name it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"


def write(results: Iterable[Result], path: Path) -> None:
    """Write the table whole, in the order of the results."""
    partial = path.with_name(f".{path.name}.partial")
    pd.DataFrame([asdict(result) for result in results]).to_csv(partial, index=False)
    partial.replace(path)


def shown(results: Sequence[Result]) -> str:
    """The table for a person."""
    lines = [
        [
            result.name,
            f"{result.ours:.4g} {result.unit}",
            f"{result.other:.4g} {result.unit}",
            f"{result.ratio:.2f}",
            "–" if result.ratio_low is None else f"{result.ratio_low:.2f} to {result.ratio_high:.2f}",
            "–" if result.floor is None else f"{result.floor:g}",
        ]
        for result in results
    ]
    notes = "\n".join(f"- {result.name}: {result.note}" for result in results)
    header = ["what", "ours", "other", "ratio", "middle half of the runs", "floor (MB: ceiling)"]
    return f"{markdown(header, lines)}\n\n{notes}"


def _seconds(way: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    way()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
