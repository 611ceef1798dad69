"""Where everything of a study lies in its folder: the only file that says so, and dvc.yaml with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

GENERATED = Path("data/synthetic")
PREPARED = Path("prepared")
FLOORS = Path("floors.json")
FINALS = Path("finals")  # a prepared folder for each split of data.final_on
ROWS = Path("rows")
STARTS_FILE = Path("starts.json")  # from where, by row
STARTS = Path("starts")  # and what was fetched, in a folder for each row
RUNS = Path("runs")
PREDICTIONS = Path("predictions")
REPORTS = Path("reports")
GRAPHS = Path(".cache/graphs")  # in the repository: exported networks without their weights


def is_generated(root: str) -> bool:
    """Whether data.root is the folder that the stage `synthesize` fills."""
    return Path(root).resolve() == GENERATED.resolve()


@dataclass(frozen=True)
class Place:
    """What one run, a row with a seed, leaves in runs/<row>-<seed>/ below `root`; each file is one stage's.

    Attributes:
        model: last/ and best/, the weights of those epochs, and the projectors of the distillation terms.
        record, history: how the training went, as a `RunRecord` and by epoch.
        scores: what the evaluation keeps beside `metrics`: predictions.zip, images.npz, norms.npz, confusion.csv.
        profile, deployment: what the architecture costs, and what each form of the trained network does.
        split: where it is one of data.final_on, `scores` and `metrics` are those on it.
    """

    row: str
    seed: int
    root: Path = Path()
    split: str = ""

    @classmethod
    def of(cls, name: str, root: Path = Path()) -> Self:
        """That of the run <row>-<seed>."""
        row, _, seed = name.rpartition("-")
        return cls(row, int(seed), root)

    @property
    def name(self) -> str:
        return f"{self.row}-{self.seed}"

    @property
    def folder(self) -> Path:
        return self.root / RUNS / self.name

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def last(self) -> Path:
        return self.model / "last"

    @property
    def best(self) -> Path:
        return self.model / "best"

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def metrics(self) -> Path:
        return self._scored / "metrics.json"

    @property
    def scores(self) -> Path:
        return self._scored / "scores"

    @property
    def _scored(self) -> Path:
        return self.folder / FINALS / self.split if self.split else self.folder

    @property
    def profile(self) -> Path:
        return self.folder / "profile.json"

    @property
    def deployment(self) -> Path:
        return self.folder / "deployment.json"
