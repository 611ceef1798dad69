"""What all tests share: one thread, reproducible hypothesis runs, the shipped parameters."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from effiseg.config import Config, load_config

REPOSITORY = Path(__file__).parent.parent

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


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
