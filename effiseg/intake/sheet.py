"""The page of a data set: statistics, what is wrong, and a contact sheet of labels over their images."""

import base64
from collections import Counter
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from effiseg.base.files import whole_file
from effiseg.base.fonts import text_font
from effiseg.data.images import read_image
from effiseg.data.label_files import read_label
from effiseg.intake.inspect import Inspection, SplitStatistics
from effiseg.preparation.pairs import Pair, told_size
from effiseg.preparation.problems import Problem

_TILE = (240, 180)  # pixels, width and height, that an overlay fits into
_ACROSS = 4
_MOST_TILES = 16  # of each split
_MOST_GROUPS = 40
_MOST_TOLD = 200  # problems and remarks
_OPACITY = 0.5

_STYLE = """body{font:15px/1.5 sans-serif;max-width:1060px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}.swatch{display:inline-block;width:1em;height:1em;margin-right:.5em;
vertical-align:-.15em;border:1px solid #999}.absent{color:#b00020;font-weight:bold}img{max-width:100%}"""


def write_sheet(found: Inspection, root: Path, out: Path) -> Path:
    """Write out/index.html, whole in itself, and the contact sheet out/overlays.png beside it; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    overlays = _contact_sheet(found)
    buffer = BytesIO()
    overlays.save(buffer, "PNG")
    with whole_file(out / "overlays.png") as partial:
        partial.write_bytes(buffer.getvalue())
    with whole_file(out / "index.html") as partial:
        partial.write_text(_page(found, root, buffer.getvalue()), encoding="utf-8")
    return out / "index.html"


def told(found: Inspection) -> list[str]:
    """The statistics in lines for a terminal."""
    dataset, classes = found.dataset, len(found.dataset.classes)
    lines = [f"{dataset.title} ({dataset.name}): {classes} class{'es' if classes != 1 else ''}"]
    for split, each in found.splits.items():
        void = each.pixels[-1] / max(1, each.pixels.sum())
        sound = f"{len(each.pairs)} of {len(each.pairs) + each.unusable} pairs are sound"
        if not each.pairs:
            lines.append(f"{split}: {sound}")
            continue
        count = counted(len(each.pairs), "image") if not each.unusable else sound
        lines.append(f"{split}: {count}, {counted(each.groups, 'group')}, {_sizes(each)}, void {void:.1%}")
        absent = [name for name, count in zip(found.dataset.space.classes, each.pixels[:-1], strict=True) if not count]
        if absent:
            lines.append(f"{split}: no pixel of {', '.join(absent)}")
    return lines


def _sizes(split: SplitStatistics) -> str:
    size, count = split.sizes.most_common(1)[0]
    others = len(split.sizes) - 1
    return told_size(size) + (f" ({count} of them) and {counted(others, 'other size')}" if others else "")


def counted(count: int, what: str) -> str:
    """1 image, 2 images."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _contact_sheet(found: Inspection) -> Image.Image:
    tiles = []
    for split, each in found.splits.items():
        chosen = np.linspace(0, len(each.pairs) - 1, min(_MOST_TILES, len(each.pairs))).round().astype(int)
        tiles += [_tile(each.pairs[i], split, found) for i in chosen]
    down = -(-len(tiles) // _ACROSS)
    sheet = Image.new("RGB", (_ACROSS * _TILE[0], max(1, down) * (_TILE[1] + 16)), "white")
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % _ACROSS * _TILE[0], index // _ACROSS * (_TILE[1] + 16)))
    return sheet


def _tile(pair: Pair, split: str, found: Inspection) -> Image.Image:
    """One label over its image, its name below."""
    space = found.dataset.space
    image, label = read_image(pair.image), read_label(pair.label, space)
    palette = np.array([*space.colours, (0, 0, 0)], dtype=np.uint8)
    painted = Image.fromarray(palette[label.clip(max=len(space.classes))])
    blended = Image.blend(image, painted, _OPACITY)
    blended.thumbnail((_TILE[0] - 4, _TILE[1]))
    tile = Image.new("RGB", (_TILE[0], _TILE[1] + 16), "white")
    tile.paste(blended, (0, 0))
    ImageDraw.Draw(tile).text((0, _TILE[1]), f"{split} {pair.name}"[-36:], fill="black", font=text_font(11))
    return tile


def _page(found: Inspection, root: Path, overlays: bytes) -> str:
    dataset = found.dataset
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(dataset.title)}</title>",
        f"<style>{_STYLE}</style><h1>{escape(dataset.title)}</h1>",
        f"<p>{'<br>'.join(escape(line) for line in told(found))}</p>",
        _listed("Problems", found.problems, root),
        _listed("Remarks", found.remarks, root),
        _classes(found),
        _groups(found),
        "<h2>Labels over their images</h2>",
        f"<img alt='overlays' src='data:image/png;base64,{base64.b64encode(overlays).decode()}'>",
    ]
    return "\n".join(parts) + "</html>\n"


def _listed(title: str, problems: Sequence[Problem], root: Path) -> str:
    if not problems:
        return f"<h2>{title}</h2><p>none</p>"
    items = [
        f"<li>{escape(str(each.path.relative_to(root)))}: {escape(each.text)}</li>" for each in problems[:_MOST_TOLD]
    ]
    more = f"<p>and {len(problems) - _MOST_TOLD} more</p>" if len(problems) > _MOST_TOLD else ""
    return f"<h2>{title}: {len(problems)}</h2><ol>{''.join(items)}</ol>{more}"


def _groups(found: Inspection) -> str:
    """Images of each group, where samples have groups."""
    if not found.dataset.groups:
        return ""
    lines = ["<h2>Groups</h2><table><tr><th>split</th><th>group</th><th>images</th></tr>"]
    for split, each in found.splits.items():
        counts = Counter(pair.group[0] for pair in each.pairs)
        shown = counts.most_common(_MOST_GROUPS)
        lines += [f"<tr><td>{split}</td><td>{escape(group)}</td><td>{count}</td></tr>" for group, count in shown]
        if len(counts) > _MOST_GROUPS:
            lines.append(f"<tr><td>{split}</td><td>and {len(counts) - _MOST_GROUPS} more</td><td></td></tr>")
    return "".join(lines) + "</table>"


def _classes(found: Inspection) -> str:
    splits = found.splits
    heads = "".join(f"<th>{escape(split)}: pixels</th><th>images</th>" for split in splits)
    lines = [f"<h2>Classes</h2><table><tr><th>class</th>{heads}</tr>"]
    entries = [*zip(found.dataset.space.classes, found.dataset.space.colours, strict=True), ("void", (0, 0, 0))]
    for index, (name, (red, green, blue)) in enumerate(entries):
        cells = []
        for each in splits.values():
            share, images = each.pixels[index] / max(1, each.pixels.sum()), each.images[index] / max(1, len(each.pairs))
            absent = " class='absent'" if not each.pixels[index] and name != "void" else ""
            cells.append(f"<td{absent}>{share:.2%}</td><td{absent}>{images:.0%}</td>")
        swatch = f"<span class='swatch' style='background:rgb({red},{green},{blue})'></span>"
        lines.append(f"<tr><td>{swatch}{escape(name)}</td>{''.join(cells)}</tr>")
    return "".join(lines) + "</table>"
