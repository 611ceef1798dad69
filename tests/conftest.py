"""What all tests share: one thread, reproducible hypothesis runs, the shipped parameters, a tiny data set."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from effiseg.base.config import Config, load_config, merge, read_yaml
from effiseg.data.prepared import Prepared
from effiseg.preparation.prepare import prepare
from effiseg.scenes.synthetic import synthesize
from tests.settings import data_settings

REPOSITORY = Path(__file__).parent.parent

# what makes trainings and teachers of seconds; fits the data set of the fixture `data`
TINY: dict[str, Any] = {
    "data": {"size": [32, 64]},
    "train": {"epochs": 2, "batch_size": 4, "augment": {"crop": [32, 64]}},
    "profile": {"size": [64, 128], "repeats": 1},
}

torch.set_num_threads(1)
settings.register_profile("effiseg", deadline=None, max_examples=25, derandomize=True, database=None)
settings.load_profile("effiseg")


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shipped() -> Config:
    """The shipped params.yaml."""
    return load_config(REPOSITORY / "params.yaml")


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    """The shipped configuration made tiny, with sections changed by the arguments."""

    def make(**changes: Any) -> Config:
        content = merge(read_yaml(REPOSITORY / "params.yaml"), TINY)
        return Config.model_validate(merge(content, changes))

    return make


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Ten training and five validation scenes at 32x64, the validation labels at 64x128."""
    folder = tmp_path_factory.mktemp("data")
    synthesize(folder / "raw", train=10, val=5, height=64, seed=0)
    prepare(data_settings("synthetic", folder / "raw"), folder / "prepared", workers=1)
    return Prepared.open(folder / "prepared")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def params(repository: Path, tmp_path: Path) -> Path:
    """A copy of the shipped file."""
    path = tmp_path / "params.yaml"
    path.write_bytes((repository / "params.yaml").read_bytes())
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a sound dataset.yaml and nothing else."""
    folder = tmp_path / "my data"
    folder.mkdir()
    (folder / "dataset.yaml").write_text(
        "name: mine\ntitle: Mine\nclasses: [{name: a, colour: [1, 2, 3], ids: 0}]\n"
        "splits: {train: {images: 'i/{name}.png', labels: 'l/{name}.png'}}\n"
    )
    return folder


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is heard, also by tests that a script started in the background, whose shell would ignore it."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)
