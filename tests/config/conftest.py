"""Variations of the shipped params.yaml, and what loading them gives."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from effiseg.base.config import Config, load_config, read_yaml
from effiseg.base.errors import EffiSegError


@pytest.fixture(scope="session")
def shipped_content(repository: Path) -> dict[str, Any]:
    """What the shipped params.yaml says. Not to be changed."""
    return read_yaml(repository / "params.yaml")


@pytest.fixture(scope="session")
def edited(shipped_content: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The shipped content with values put at dotted key paths; `...` removes the key."""

    def edit(changes: dict[str, Any]) -> dict[str, Any]:
        result = copy.deepcopy(shipped_content)
        for path, value in changes.items():
            *parents, last = path.split(".")
            section = result
            for key in parents:
                section = section.setdefault(key, {})
            if value is ...:
                del section[last]
            else:
                section[last] = value
        return result

    return edit


@pytest.fixture(scope="session")
def write_yaml() -> Callable[[dict[str, Any], Path], None]:
    """Writes content as it stands, keys that are no text included."""

    def write(content: dict[str, Any], path: Path) -> None:
        yaml = YAML(typ="safe", pure=True)
        yaml.sort_base_mapping_type_on_output = False
        yaml.dump(content, path)

    return write


@pytest.fixture
def load(tmp_path: Path, write_yaml: Callable[[dict[str, Any], Path], None]) -> Callable[[Any], Config]:
    """Loads what is given as a params.yaml: text, bytes, or content to be written."""

    def run(content: Any) -> Config:
        path = tmp_path / "params.yaml"
        if isinstance(content, str | bytes):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        else:
            write_yaml(content, path)
        return load_config(path)

    return run


@pytest.fixture
def refused(load: Callable[[Any], Config], tmp_path: Path) -> Callable[..., str]:
    """Asserts that loading fails with one readable line that holds the fragments, and returns it."""

    def run(content: Any, *fragments: str) -> str:
        with pytest.raises(EffiSegError) as caught:
            load(content)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / 'params.yaml'}: ")
        assert len(message.splitlines()) == 1
        assert len(message) < 700
        for fragment in fragments:
            assert fragment in message, message
        return message

    return run
