"""What a study shows while it runs: one table in a terminal, lines elsewhere."""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table

SUMMARY_SECONDS = 30.0  # between two summaries where nobody watches
SHOWN = 30  # running stages in the table
BAR_WIDTH = 80


@dataclass
class View:
    """The study's state by stage, and how it is shown.

    Attributes:
        states: waiting | submitted | done | failed | not run, by stage.
        running: what the workers tell: host, since, step, steps, images_per_second.
        seconds: how long finished stages took, by kind.
    """

    states: dict[str, str]
    dashboard: str
    running: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    console: Console = field(default_factory=lambda: Console(stderr=True))
    started: float = field(default_factory=time.time)
    _live: Live | None = None
    _next_summary: float = 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the study while the block runs."""
        self.say(
            f"{len(self.states)} stages to run; Ray's dashboard: {self.dashboard or 'none'}; logs: logs/<stage>.log"
        )
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False) as self._live:
            yield
        self._live = None

    def say(self, line: str) -> None:
        """An event, which stays on the screen."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def finished(self, name: str, host: str, seconds: float) -> None:
        """A stage came to its end."""
        self.seconds[name.split("@")[0]].append(seconds)
        self.say(f"{name} done on {host} in {_clock(seconds)}")

    def refresh(self, running: Mapping[str, Mapping[str, Any]]) -> None:
        """Show the state as it is now."""
        self.running = running
        if self._live:
            done = sum(state == "done" for state in self.states.values())
            bar = Padding(ProgressBar(total=len(self.states), completed=done, width=BAR_WIDTH), 0)  # ends its line
            self._live.update(Group(self._table(), bar, self.summary()), refresh=True)
        elif time.time() > self._next_summary:
            self.say(self.summary())
            self._next_summary = time.time() + SUMMARY_SECONDS

    def summary(self) -> str:
        """Counts, images per second over all trainings, time spent and time to come."""
        counts = Counter(self.states.values())
        busy = len(self.running)
        parts = [f"{counts['done']}/{len(self.states)} done", f"{busy} running"]
        parts += [f"{counts['waiting'] + max(0, counts['submitted'] - busy)} waiting"]
        parts += [f"{counts[state]} {state}" for state in ("failed", "not run") if counts[state]]
        speed = sum(facts.get("images_per_second", 0.0) for facts in self.running.values())
        parts += [f"{speed:.1f} images/s"] if speed else []
        return f"{', '.join(parts)}; {_clock(time.time() - self.started)} so far, ETA {self.eta()}"

    def eta(self) -> str:
        """Time to come: the stages left, each as long as finished ones of its kind, by the stages that run at once.

        "at least" that time where no stage of some kind has finished yet, and unknown where nothing tells any.
        """
        left = [name for name, state in self.states.items() if state in ("waiting", "submitted")]
        total, more = 0.0, ""
        for name in left:
            facts = self.running.get(name, {})
            spent = time.time() - facts["since"] if "since" in facts else 0.0
            if facts.get("step"):
                total += spent / facts["step"] * (facts["steps"] - facts["step"])
                continue
            known = self.seconds.get(name.split("@")[0])
            if known:
                total += max(0.0, sum(known) / len(known) - spent)
            else:
                more = "at least "
        return more + _clock(total / max(1, len(self.running))) if total or not more else "unknown"

    def _table(self) -> Table:
        table = Table("stage", "machine", "time", "done", "images/s", box=None, header_style="bold")
        now = time.time()
        for name, facts in list(self.running.items())[:SHOWN]:
            share = f"{facts['step'] / facts['steps']:.0%}" if facts.get("steps") else ""
            speed = f"{facts['images_per_second']:.1f}" if facts.get("images_per_second") else ""
            table.add_row(name, facts.get("host", ""), _clock(now - facts.get("since", now)), share, speed)
        if len(self.running) > SHOWN:
            table.add_row(f"and {len(self.running) - SHOWN} more", "", "", "", "")
        return table


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def warn(line: str) -> None:
    """A warning outside the view."""
    print(f"warning: {line}", file=sys.stderr)
