"""index.html: the whole study on one page that needs nothing beside it."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image
from pydantic_core import to_jsonable_python
from ruamel.yaml import YAML

from effiseg.base.config import Config
from effiseg.report.answer import answers
from effiseg.report.figures import Drawn
from effiseg.report.lengths import length_lines, lengths
from effiseg.report.recordings import RECORDINGS, recording_table
from effiseg.report.summary import View
from effiseg.report.tables import class_table, cost_table, main_table, speed_tables, training_table
from effiseg.report.words import (
    comparability,
    cost_notes,
    dataset_title,
    differences,
    final_scores,
    header,
    provenance,
    reading,
)

TEMPLATE = "index.html.j2"
_MARKS = ((r"`(.+?)`", "code"), (r"\*\*(.+?)\*\*", "strong"), (r"\*(.+?)\*", "em"))


@dataclass(frozen=True)
class _Figure:
    """A PNG file inside the page."""

    name: str
    heading: str
    says: str
    width: int
    height: int
    source: str


def html(views: Mapping[str, View], figures: Sequence[Drawn]) -> str:
    """The whole of index.html.

    Args:
        views: by split, see `summary.views`.
        figures: as they were written.
    """
    results, summaries = next(iter(views.values()))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["marked"] = marked
    return environment.get_template(TEMPLATE).render(
        title=f"EffiSeg on {dataset_title(results)}",
        comparability=comparability(results),
        answer=answers(views),
        scores=main_table(results, summaries),
        reading=reading(results),
        finals={split: (final_scores(final), main_table(*views[split])) for split, final in results.finals.items()},
        recordings={split: table for split, view in views.items() if (table := recording_table(view.results))},
        recordings_say=RECORDINGS,
        lengths={split: length_lines(*view) for split, view in views.items() if lengths(view.results)},
        figures=[_inline(figure) for figure in figures],
        training=training_table(summaries),
        costs=cost_table(results),
        cost_notes=cost_notes(results),
        speeds=speed_tables(results),
        classes={split: class_table(view.results) for split, view in views.items()},
        differences=differences(results),
        facts=header(results) | provenance(results),
        params=params_text(results.config),
    )


def marked(text: str) -> Markup:
    """Text with its Markdown marks as HTML; everything else in it is escaped."""
    content = str(escape(text))
    for pattern, tag in _MARKS:
        content = re.sub(pattern, rf"<{tag}>\1</{tag}>", content)
    return Markup(content)


def params_text(config: Config) -> str:
    """The whole of params.yaml, without its comments."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 100
    text = io.StringIO()
    yaml.dump(to_jsonable_python(config), text)
    return text.getvalue()


def _inline(figure: Drawn) -> _Figure:
    with Image.open(figure.path) as image:
        width, height = image.size
    source = f"data:image/png;base64,{base64.b64encode(figure.path.read_bytes()).decode()}"
    return _Figure(figure.path.stem, figure.heading, figure.says, width, height, source)
