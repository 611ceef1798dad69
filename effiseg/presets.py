"""Presets: named sets of differences, laid over params.yaml with its comments kept."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from effiseg.base.config import PARAMS_FILE, load_config, read_yaml
from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_file
from effiseg.data.dataset import FILE, open_dataset

PRESETS = Path(__file__).with_name("presets")


def preset_names() -> list[str]:
    """The presets that there are."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def apply_preset(name: str, root: str | None = None, params: Path = PARAMS_FILE) -> list[str]:
    """Change `params` as the preset says; the file is written only when the result is valid.

    Args:
        root: the new data.root, when given.

    Returns:
        One line per change: "key.path: old -> new".

    Raises:
        EffiSegError: there is no such preset, the result would not be valid, or the preset is for the data set of
            `root` and there is no sound dataset.yaml.
    """
    if name not in preset_names():
        raise EffiSegError(f"preset '{name}': there is none of that name; presets are: {', '.join(preset_names())}")
    differences = read_yaml(PRESETS / f"{name}.yaml")
    if root is not None:
        differences.setdefault("data", {})["root"] = str(Path(root).expanduser().absolute()) if root else root
    if differences.get("data", {}).get("source") == FILE:
        differences["data"]["source"] = _own_table(name, differences["data"].get("root"))
    load_config(params)
    # the round-trip reader keeps comments, order and quotes
    yaml = YAML()
    yaml.width = 4096  # no line is broken
    yaml.preserve_quotes = True
    crlf = b"\r\n" in params.read_bytes()
    content = yaml.load(params.read_text(encoding="utf-8"))
    changes = list(_lay_over(content, differences))
    text = io.StringIO()
    yaml.dump(content, text)
    with whole_file(params.resolve()) as partial:  # a link stays one
        partial.write_text(text.getvalue(), encoding="utf-8", newline="\r\n" if crlf else "\n")
        try:
            load_config(partial)
        except EffiSegError as error:
            reason = str(error).removeprefix(f"{partial}: ")
            raise EffiSegError(f"{params} is unchanged, as preset '{name}' would make it invalid: {reason}") from None
    return changes


def _own_table(name: str, root: str | None) -> str:
    """The table of the folder `root`, which must be a sound one."""
    if not root:
        raise EffiSegError(f"preset '{name}': give --root, the folder that holds your {FILE}")
    file = Path(root, FILE)
    if not file.is_file():
        raise EffiSegError(f"{file}: not found; `python -m effiseg data init {root}` writes one")
    open_dataset(str(file))
    return str(file)


def _lay_over(content: Any, differences: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, new in differences.items():
        path, old = f"{prefix}{key}", content.get(key)
        if isinstance(new, Mapping) and new and isinstance(old, Mapping):
            yield from _lay_over(old, new, f"{path}.")
        elif old != new:
            yield f"{path}: {_plain(old)} -> {_plain(new)}"
            if isinstance(old, CommentedSeq) and isinstance(new, list):
                # in place, so that the list stays on its line with its comment, an empty one too
                old.fa.set_flow_style()
                old[:] = new
            else:
                content[key] = new


def _plain(value: Any) -> Any:
    """A value as plain Python shows it, without the reader's own types."""
    return dict(value) if isinstance(value, Mapping) else value
