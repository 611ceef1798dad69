"""What `python -m effiseg predict` reads and writes: found, named, and kept apart before any work."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import NamedTuple

from effiseg.base.errors import EffiSegError
from effiseg.data.images import SUFFIXES
from effiseg.data.label_files import SUFFIXES as LABEL_SUFFIXES

IMAGE_ENDING, LABEL_ENDING = "_leftImg8bit", "_gtFine_labelIds"  # of Cityscapes, where the rest names the sample
LABELS = "labels"  # folder of the label files: the official evaluator takes the only files of a name there


class Target(NamedTuple):
    """The files that one picture's prediction becomes; `label` only where label files are asked for."""

    overlay: Path
    label: Path | None


def list_pictures(targets: Sequence[str]) -> list[Path]:
    """The pictures that files, folders (not what is below) and patterns name, without repetition, in order.

    Raises:
        EffiSegError: one of them names no picture.
    """
    found: dict[Path, None] = {}
    for target in targets:
        path = Path(target)
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if _is_picture(file))
            wanted = f"a folder with pictures ({', '.join(SUFFIXES)})"
        elif path.exists():
            files = [path]
        else:
            # PTH207: Path.glob takes no absolute pattern
            files = sorted(Path(file) for file in glob(target, recursive=True) if Path(file).is_file())  # noqa: PTH207
            wanted = "a picture, a folder or a pattern that matches some"
        if not files:
            raise EffiSegError(f"{target}: no picture there, expected {wanted}; check the path")
        found.update(dict.fromkeys(files))
    return list(found)


def list_labels(folder: Path) -> list[Path]:
    """The label files anywhere below `folder`, behind links too.

    Raises:
        EffiSegError: it is no folder.
    """
    if not folder.is_dir():
        raise EffiSegError(f"--truth {folder}: not a folder; give the one that holds the label files")
    return [
        file for file in _files_below(folder) if file.suffix.lower() in LABEL_SUFFIXES and not file.name.startswith(".")
    ]


def match_truths(pictures: Sequence[Path], labels: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Picture -> its label file: the same name, or <name>_gtFine_labelIds.png for <name>_leftImg8bit.png; where none
    has these, the picture's name with an ending that all labels share, as in a_mask.png.

    Names are compared in composed form, since file systems differ in how they write an umlaut.

    Args:
        folder: where the labels were looked for.

    Raises:
        EffiSegError: no picture has a label, or one has several.
    """
    taken = {picture.resolve() for picture in pictures}
    labels = [label for label in labels if label.resolve() not in taken]  # they may lie beside each other
    by_name: dict[str, list[Path]] = {}
    for label in labels:
        by_name.setdefault(_composed(label.stem.removesuffix(LABEL_ENDING)), []).append(label)
    truths: dict[Path, Path] = {}
    for picture in pictures:
        found = by_name.get(_composed(picture.stem.removesuffix(IMAGE_ENDING)), [])
        truths |= _only(picture, found, folder)
    for picture, found in ({} if truths else _by_ending(pictures, labels, folder)).items():
        truths |= _only(picture, found, folder)
    if not truths:
        raise EffiSegError(
            f"--truth {folder}: no label of any of the pictures; expected files named as they are, or with an ending "
            f"that all have, as in <name>_mask.png or <name>{LABEL_ENDING}.png for <name>{IMAGE_ENDING}.png"
        )
    return truths


def _only(picture: Path, found: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """The picture with its label, if there is one."""
    if len(found) > 1:
        raise EffiSegError(
            f"--truth {folder}: {_told(found[0])} and {_told(found[1])} could both be the truth of {picture}; give "
            "a folder with one of them"
        )
    return {picture: found[0]} if found else {}


def _by_ending(pictures: Sequence[Path], labels: Sequence[Path], folder: Path) -> dict[Path, list[Path]]:
    """Picture -> labels of its name with an ending, which must be the same for all."""
    stems = [_composed(picture.stem) for picture in pictures]
    shared = re.search(r"[_.-][A-Za-z][A-Za-z0-9]*$", stems[0])  # as in a_image.jpg, b_image.jpg
    ending = shared[0] if shared and all(stem.endswith(shared[0]) for stem in stems) and len(stems) > 1 else ""
    names = {stem.removesuffix(ending): picture for stem, picture in zip(stems, pictures, strict=True)}
    found: dict[str, dict[Path, list[Path]]] = {}
    for label in labels:
        stem = _composed(label.stem)
        for place in sorted((match.start() for match in re.finditer(r"[_.-]", stem)), reverse=True):
            if stem[:place] in names:
                found.setdefault(stem[place:], {}).setdefault(names[stem[:place]], []).append(label)
                break
    if len(found) > 1:
        raise EffiSegError(
            f"--truth {folder}: labels end in {', '.join(sorted(found))}; give a folder with those of one ending"
        )
    return next(iter(found.values()), {})


def name_outputs(
    pictures: Sequence[Path], out: Path, *, labels: bool = False, read: Iterable[Path] = (), overwrite: bool = False
) -> dict[Path, Target]:
    """Picture -> <stem>.png below `out`, and labels/<stem>_labelIds.png there.

    Args:
        labels: whether label files are to be written.
        read: files besides the pictures that must stay as they are.
        overwrite: whether other files that exist may be replaced.

    Raises:
        EffiSegError: `out` is a file, two pictures would be written to one file, or one over a file that is read, or
            over any that exists and is not to be replaced.
    """
    if out.exists() and not out.is_dir():
        raise EffiSegError(f"--out {out}: a file, expected a folder to write; choose another")
    outputs = {picture: _target(picture, out, labels) for picture in pictures}
    _check_distinct(outputs)
    written = [file for target in outputs.values() for file in target if file is not None]
    inputs = {file.resolve() for file in (*pictures, *read)}
    for file in written:
        if file.resolve() in inputs:
            raise EffiSegError(f"--out {out}: {file} is one of the files to read; choose another folder")
    existing = [file for file in written if os.path.lexists(file)]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise EffiSegError(
            f"--out {out}: {existing[0]}{more} exist{'' if more else 's'} already; choose another folder, or give "
            "--overwrite to replace them"
        )
    return outputs


def _target(picture: Path, out: Path, labels: bool) -> Target:
    return Target(out / f"{picture.stem}.png", out / LABELS / f"{picture.stem}_labelIds.png" if labels else None)


def _check_distinct(outputs: Mapping[Path, Target]) -> None:
    taken: dict[Path, Path] = {}
    for picture, target in outputs.items():
        if target.overlay in taken:
            raise EffiSegError(
                f"{picture} and {taken[target.overlay]}: both would be written to {target.overlay}; predict them "
                "apart, with another --out for each"
            )
        taken[target.overlay] = picture


def _is_picture(file: Path) -> bool:
    return file.is_file() and file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _files_below(folder: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        resolved = Path(place).resolve()
        if resolved in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(resolved)
        folders.sort()
        yield from (Path(place, file) for file in sorted(files))


def _told(path: Path) -> str:
    """A path as text in which two spellings of an umlaut look different."""
    text = str(path)
    return text if text == _composed(text) else ascii(text)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
