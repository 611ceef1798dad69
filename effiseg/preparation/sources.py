"""Raw data sets: which image belongs to which label.

Nothing here opens a picture or stops at the first problem: `list_pairs` collects all.
"""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Data
from effiseg.data.dataset import DataSet, Share, SplitFiles, open_dataset, shipped_names
from effiseg.data.images import SUFFIXES
from effiseg.data.patterns import Pattern
from effiseg.preparation.pairs import Pair
from effiseg.preparation.problems import Problem

_LINKED = (
    "a link to a folder, behind which DVC sees no change: mount the folder here or copy it, or set data.root to a "
    "folder without such links"
)
_NOWHERE = "a link that leads nowhere: restore what it points to"
_SHOWN = 8  # entries of a folder that one message lists


@dataclass
class Listing:
    """What a data set's folders hold: pairs (sorted, none of them empty), and what is wrong with the rest.

    Attributes:
        pairs: by what they are for, `train` is learned and `val` scored; of `list_splits`, by the data set's split.
    """

    dataset: DataSet
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def list_pairs(settings: Data) -> Listing:
    """Match the images and labels of the splits that `settings` uses by name; other files are passed over.

    Raises:
        EffiSegError: the data set's table is missing or wrong, it has no such split, no training sample begins with
            one of `held_out`, or all do.
    """
    dataset = open_dataset(settings.source)
    roles: dict[str, Sequence[str]] = {"train": settings.train_on}
    if not settings.held_out:
        roles["val"] = [settings.score_on]
    listing = list_splits(dataset, Path(settings.root), [split for splits in roles.values() for split in splits])
    by_split, listing.pairs = listing.pairs, {}
    for role, splits in roles.items():
        if pairs := [
            pair for split in splits for pair in _named(by_split.get(split, []), split, several=len(splits) > 1)
        ]:
            listing.pairs[role] = pairs
    if settings.held_out and listing.pairs:
        several = len(settings.train_on) > 1
        listing.pairs = _hold_out(listing.pairs.get("train", []), settings.held_out, several=several)
    return listing


def list_splits(dataset: DataSet, root: Path, splits: Iterable[str]) -> Listing:
    """The pairs of each of these splits.

    Raises:
        EffiSegError: the data set has no such split.
    """
    listing = Listing(dataset)
    wanted = dict.fromkeys(splits)
    for split in wanted:
        if split not in dataset.splits:
            raise EffiSegError(
                f"data set {dataset.name} has no split '{split}', only {', '.join(dataset.splits)}: correct "
                "data.train_on, data.score_on or data.final_on, or add it to the table, as in `val: {part_of: train, "
                "every: 5}`"
            )
    all_splits: dict[str, SplitFiles | Share] = dict(dataset.splits.items())
    sources = {split: files.part_of if isinstance(files, Share) else split for split, files in all_splits.items()}
    own = {name: files for name, files in all_splits.items() if isinstance(files, SplitFiles)}
    needed = dict.fromkeys(sources[split] for split in wanted)
    patterns = [pattern for name in needed for pattern in (own[name].images, own[name].labels)]
    try:
        missing = [folder for folder in dict.fromkeys(p.folder for p in patterns) if not (root / folder).is_dir()]
        if missing:
            listing.problems.append(Problem(root, _missing(root, missing, dataset)))
    except OSError as error:
        listing.problems.append(Problem(root, f"cannot be read ({error.strerror}): check its permissions"))
        return listing
    found = {name: _list_split(own[name], root, missing, listing) for name in needed}
    for name, pairs in found.items():
        for split, part in _parted(name, pairs, dataset).items():
            if split in wanted and part:
                listing.pairs[split] = part
    return listing


def refuse_missing_weights(settings: Data, dataset: DataSet) -> None:
    """Raise `EffiSegError` where `class_weights` asks for a published table and there is none."""
    if settings.class_weights == "paper" and not dataset.published_weights:
        raise EffiSegError(
            f"data.class_weights: 'paper' is a published table, and {dataset.name} has none; use 'computed'"
        )


def true_dataset(dataset: DataSet, names: Iterable[str]) -> DataSet:
    """The generated scenes' own table where they are read as another data set: no report takes them for photographs."""
    names = list(names)
    for other in map(open_dataset, shipped_names()):
        if other.known_by and any(name.startswith(other.known_by) for name in names):
            return other
    return dataset


def _named(pairs: Sequence[Pair], split: str, *, several: bool) -> list[Pair]:
    if not several:
        return list(pairs)
    return [Pair(f"{split}/{pair.name}", pair.files, (f"{split}/{pair.group[0]}", pair.group[1])) for pair in pairs]


def _hold_out(samples: list[Pair], prefixes: Sequence[str], *, several: bool) -> dict[str, list[Pair]]:
    """Those that begin with a prefix, and the others; of `several` splits, with the split before the name or not."""

    def begins(pair: Pair, prefixes: Sequence[str]) -> bool:
        names = [pair.name, pair.group[0]]
        names += [name.partition("/")[2] for name in names] if several else []
        return any(name.startswith(tuple(prefixes)) for name in names)

    names = ", ".join(pair.name for pair in samples[:3])
    for prefix in prefixes:
        if not any(begins(pair, [prefix]) for pair in samples):
            raise EffiSegError(f"data.held_out: no training sample begins with '{prefix}'; the first ones are {names}")
    parts: dict[str, list[Pair]] = {"train": [], "val": []}
    for pair in samples:
        parts["val" if begins(pair, prefixes) else "train"].append(pair)
    if not parts["train"]:
        raise EffiSegError(f"data.held_out: all {len(samples)} training samples begin with {', '.join(prefixes)}")
    return parts


def _parted(name: str, pairs: list[Pair], dataset: DataSet) -> dict[str, list[Pair]]:
    """A split's pairs without those of the splits that are parts of it, and theirs; groups stay together."""
    parts = {
        split: files.every
        for split, files in dataset.splits.items()
        if isinstance(files, Share) and files.part_of == name
    }
    left, split = pairs, dict[str, list[Pair]]()
    for part, every in parts.items():
        chosen = set(list(dict.fromkeys(pair.group[0] for pair in left))[::every])
        split[part] = [pair for pair in left if pair.group[0] in chosen]
        left = [pair for pair in left if pair.group[0] not in chosen]
    return {name: left, **split}


def _missing(root: Path, folders: list[str], dataset: DataSet) -> str:
    if not root.exists():
        return f"no such folder: correct data.root, or {dataset.origin}"
    if not root.is_dir():
        return "not a folder: data.root is the folder that holds the data set"
    entries = [entry.name for entry in _visible(root)]
    more = ", ..." if len(entries) > _SHOWN else ""
    here = f"it holds {', '.join(entries[:_SHOWN])}{more}" if entries else "it is empty"
    return f"no folder {', '.join(folders)} ({here}): correct data.root, or {dataset.origin}"


def _list_split(files: SplitFiles, root: Path, missing: Sequence[str], listing: Listing) -> list[Pair]:
    """A split's pairs, sorted; problems go to `listing`."""
    if {files.images.folder, files.labels.folder} & set(missing):
        return []
    images = _find(root, files.images, files.labels, listing.problems)
    labels = _find(root, files.labels, files.images, listing.problems)
    if not images and not labels:
        expected = files.images.path("<name>")
        listing.problems.append(
            Problem(root / files.images.folder, f"no images (expected {expected}): {listing.dataset.origin}")
        )
    wanted = _listed_names(root, files, listing.problems) if files.names else images.keys() | labels.keys()
    for name in sorted(wanted - labels.keys()):
        text = f"its label {files.labels.path(name)} is missing: add it, or remove the image"
        listing.problems.append(Problem(Path(images[name]), text) if name in images else _unlisted(root, files, name))
    for name in sorted((wanted & labels.keys()) - images.keys()):
        text = f"its image {files.images.path(name)} is missing: add it, or remove the label"
        listing.problems.append(Problem(Path(labels[name]), text))
    group_of = listing.dataset.group_of
    return [
        Pair(name, (images[name], labels[name]), group_of(name))
        for name in sorted(wanted & images.keys() & labels.keys())
    ]


def _listed_names(root: Path, files: SplitFiles, problems: list[Problem]) -> set[str]:
    try:
        lines = (root / files.names).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        problems.append(Problem(root / files.names, f"cannot be read ({reason}): the split's names stand there"))
        return set()
    names = {unicodedata.normalize("NFC", line.strip()) for line in lines if line.strip()}
    if not names:
        problems.append(Problem(root / files.names, "names no sample: a name stands on each line"))
    return names


def _unlisted(root: Path, files: SplitFiles, name: str) -> Problem:
    cure = "add it, or take the name out"
    if any(Path(word).suffix.lower() in SUFFIXES for word in name.split()):
        cure = "names stand alone, without folder of images, ending or label"
    return Problem(root / files.names, f"names {name}, of which there is no {files.images.path(name)}: {cure}")


def _find(root: Path, pattern: Pattern, other: Pattern, problems: list[Problem]) -> dict[str, str]:
    """The files that match, by sample name; those that `other` means more closely are not meant."""
    found: dict[str, str] = {}
    for path in _files(root / pattern.folder, root, problems):
        relative = path.relative_to(root).as_posix()
        own = pattern.name_in(relative)
        if own is None or (other.fixed > pattern.fixed and other.regex.fullmatch(relative)):
            continue
        # composed: file systems differ in how they write an umlaut, and an image's may not be its label's
        name = unicodedata.normalize("NFC", own)
        if not path.exists():
            problems.append(Problem(path, _NOWHERE))
        elif not name.isprintable():  # also covers names that are not UTF-8, which no index could hold
            problems.append(Problem(path, "its name holds unprintable characters: rename it"))
        elif name in found:
            before = Path(found[name])
            told = before.name if before.parent == path.parent else before.relative_to(root).as_posix()
            if before.name != path.name and unicodedata.normalize("NFC", before.name) == _composed(path):
                told = f"{before.name!a}, written otherwise than {path.name!a}"
            problems.append(Problem(path, f"the same sample as {told}: remove one of the two"))
        else:
            found[name] = os.fspath(path)
    return found


def _composed(path: Path) -> str:
    return unicodedata.normalize("NFC", path.name)


def _files(folder: Path, root: Path, problems: list[Problem]) -> Iterator[Path]:
    """All below `folder`, without what is hidden: .DS_Store and the ._ twins that macOS makes are no data."""
    between = [
        root.joinpath(*folder.relative_to(root).parts[: i + 1]) for i in range(len(folder.relative_to(root).parts))
    ]
    _refuse_links(between, problems)
    yield from _below(folder, problems)


def _refuse_links(folders: Iterable[Path], problems: list[Problem]) -> None:
    for path in folders:
        problem = Problem(path, _LINKED)
        if path.is_symlink() and path.is_dir() and problem not in problems:
            problems.append(problem)


def _below(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            shown = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        problem = Problem(folder, f"cannot be read ({error.strerror}): check its permissions")
        if problem not in problems:
            problems.append(problem)
        return
    for entry in shown:
        path = Path(entry.path)
        if not entry.is_dir():
            if entry.is_symlink() and not path.suffix and not path.exists():  # else it is told if it matches
                problems.append(Problem(path, _NOWHERE))
            yield path
            continue
        _refuse_links([path], problems)
        yield from _below(path, problems)


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
