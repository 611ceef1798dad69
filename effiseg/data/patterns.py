"""Where a data set's files stand: patterns like `masks/{name}_L.{png,tif}`.

`{name}` is the sample's name and may hold folders; `{folder}`, where folders of the name stand before others, as in
`{folder}/images/{name}.png`, belongs to it too; `*` stands for anything within a name, `**` for folders of any
depth, `{png,tif}` for either. What follows the last dot matches in capitals too.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ModelWrapValidatorHandler, model_serializer, model_validator

_TOKEN = re.compile(r"\{name\}|\{folder\}|\{[^{}]*,[^{}]*\}|\*\*/|\*\*|\*|\?|[^{}*?]+|[{}]")
_GROUP_TOKEN = re.compile(r"\{group\}|\{frame\}|\*\*|\*|[^{}*]+|[{}]")


class Pattern(BaseModel):
    """A path below the data's root with one `{name}`; in YAML and JSON its text alone."""

    model_config = ConfigDict(frozen=True, ignored_types=(cached_property,))

    text: str

    @model_validator(mode="wrap")
    @classmethod
    def _of_text(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError("a pattern is text, as in images/{name}.png")
        pattern = handler({"text": value})
        pattern.regex  # noqa: B018 - raises where it cannot be read
        return pattern

    @model_serializer
    def _as_text(self) -> str:
        return self.text

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Matches paths relative to the root, with / between folders; its group `name` is the sample's."""
        if self.text.startswith("/") or ".." in PurePosixPath(self.text).parts:
            raise ValueError(f"pattern '{self.text}' leaves data.root: it must be relative, without ..")
        if self.text.count("{name}") != 1:
            raise ValueError(f"pattern '{self.text}' must hold {{name}} once, where a sample's name stands")
        if self.text.count("{folder}") > 1:
            raise ValueError(f"pattern '{self.text}' may hold {{folder}} once, where the name's folders stand")
        return re.compile("".join(self._parts()), re.DOTALL)

    @property
    def folder(self) -> str:
        """The deepest folder that holds all that matches; empty for the root itself."""
        fixed = re.split(r"[{*?]", self.text)[0]
        return fixed.rpartition("/")[0]

    @property
    def fixed(self) -> int:
        """Characters that are no wildcard: of two patterns that match a file, that with more of them means it."""
        return len(re.sub(r"\{[^{}]*\}|\*", "", self.text))

    def name_in(self, path: str) -> str | None:
        """The name of the sample whose file stands at `path`, relative to the root; None where it does not match."""
        match = self.regex.fullmatch(path)
        if match is None:
            return None
        folder = match.groupdict().get("folder")
        return f"{folder}/{match['name']}" if folder else match["name"]

    def path(self, name: str) -> str:
        """Where the file of a sample is looked for, for messages."""
        if "{folder}" not in self.text:
            return self.text.replace("{name}", name)
        folder, _, name = name.rpartition("/")
        return self.text.replace("{folder}", folder).replace("{name}", name)

    def _parts(self) -> Iterator[str]:
        for token in _TOKEN.findall(self.text):
            if token in ("{name}", "{folder}"):
                yield f"(?P<{token[1:-1]}>.+)"
            elif token.startswith("{") and len(token) > 1:
                yield f"(?i:{'|'.join(re.escape(each) for each in token[1:-1].split(','))})"
            elif token in ("{", "}"):
                raise ValueError(
                    f"pattern '{self.text}': braces hold {{name}}, or two endings and more, as in {{png,jpg}}"
                )
            elif token == "**/":
                yield "(?:.*/)?"
            elif token in ("**", "*", "?"):
                yield {"**": ".*", "*": "[^/]*", "?": "[^/]"}[token]
            else:
                stem, dot, suffix = token.rpartition(".")
                yield (
                    re.escape(token) if not dot or "/" in suffix else f"{re.escape(stem + dot)}(?i:{re.escape(suffix)})"
                )


def group_regex(text: str) -> re.Pattern[str]:
    """A template of names, `{group}_{frame}`, as a regular expression with these groups: {frame} is a number.

    Raises:
        ValueError: it has not one {group}, or braces with something else.
    """
    if text.count("{group}") != 1 or text.count("{frame}") > 1:
        raise ValueError(f"'{text}' must hold {{group}} once, and may hold {{frame}} once, as in {{group}}_{{frame}}")
    kinds = {"{group}": "(?P<group>.+)", "{frame}": r"(?P<frame>\d+)", "**": ".*", "*": "[^/]*"}
    tokens = _GROUP_TOKEN.findall(text)
    if {"{", "}"} & set(tokens):
        raise ValueError(f"'{text}': braces hold {{group}} or {{frame}}")
    return re.compile("".join(kinds.get(token) or re.escape(token) for token in tokens), re.DOTALL)


def _checked(text: str) -> str:
    group_regex(text)
    return text


GroupTemplate = Annotated[str, AfterValidator(_checked)]
