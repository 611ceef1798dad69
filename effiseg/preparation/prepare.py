"""Raw data set -> prepared folder: every file is checked and converted, and an index says what was found."""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_folder
from effiseg.base.schema import Data
from effiseg.data.dataset import DataSet, open_dataset
from effiseg.data.index import INDEX_FILE, Index, SplitIndex
from effiseg.data.labels import LabelSpace, computed_weights
from effiseg.data.prepared import read_index
from effiseg.preparation.convert import Role, Size, convert
from effiseg.preparation.pairs import Pair
from effiseg.preparation.problems import Problem, unusable
from effiseg.preparation.sources import Listing, list_pairs, list_splits, refuse_missing_weights, true_dataset

MUCH_VOID = 0.5  # of all pixels; Cityscapes' own labels have 0.12, CamVid's 0.03


def prepare(settings: Data, out: Path, *, workers: int | None = None) -> None:
    """Check and convert the data set below `settings.root` into the folder `out`, to be read by `Prepared.open`.

    Images become (3, H, W) uint8 at `settings.size` (bilinear, antialiased), labels trainIds (nearest), at that size
    for what is learned and at their own resolution for what is scored; `settings.fit` says how a picture of another
    shape is brought there. `out` appears whole or not at all; what stood there is replaced at the end.

    Args:
        workers: processes; all cores by default, 1 works in this process.

    Raises:
        EffiSegError: the data set is not usable (all its problems on one line), or `out` cannot be written.
    """
    listing, root = list_pairs(settings), Path(settings.root)
    refuse_missing_weights(settings, listing.dataset)
    _refuse_nothing(settings, listing)
    with _replacing(out, root) as folder:
        found, sizes, problems = convert(folder, listing, settings, workers=workers)
        problems += _void_alone(root, found, {"train": "train", "val": "val"}, complete=not problems)
        if problems:
            raise unusable(settings, problems)
        index = _index(settings, listing, found, sizes)
        _write_index(folder, index)
    _warn_of_void(root, index)


def prepare_final(settings: Data, split: str, prepared: Path, out: Path, *, workers: int | None = None) -> None:
    """Check and convert one split that finished trainings are scored on into the folder `out`.

    `Prepared.open_final` reads it: its images and labels are those of `val`, and all else is as in the folder
    `prepared`, whose networks it scores.

    Raises:
        EffiSegError: as of `prepare`; or the data set has no such split, or `prepared` is missing or damaged.
    """
    learned, root = read_index(prepared), Path(settings.root)
    listing = list_splits(open_dataset(settings.source), root, [split])
    listing.pairs = {"val": listing.pairs[split]} if split in listing.pairs else {}
    _refuse_nothing(settings, listing)
    with _replacing(out, root) as folder:
        found, sizes, problems = convert(folder, listing, settings, workers=workers)
        problems += _void_alone(root, found, {"val": split}, complete=not problems)
        if problems:
            raise unusable(settings, problems)
        own = {"val": _split_index([split], listing.pairs["val"], found["val"].counts.tolist())}
        changes = {
            "digest": _digest(learned.space, learned.size, sizes, own, found),
            "label_sizes": sizes,
            "splits": learned.splits | own,
        }
        _write_index(folder, learned.model_copy(update=changes))


def _refuse_nothing(settings: Data, listing: Listing) -> None:
    if not listing.pairs:
        text = "no image with a label in the splits that are used: look at the table's patterns"
        raise unusable(settings, listing.problems or [Problem(Path(settings.root), text)])


def _write_index(folder: Path, index: Index) -> None:
    (folder / INDEX_FILE).write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")


# --- the folder -------------------------------------------------------------------------------------------------------


@contextmanager
def _replacing(out: Path, root: Path) -> Iterator[Path]:
    """Give an empty folder beside `out`; move it there when the block succeeds, else leave `out` as it was."""
    out = out.resolve()  # a link stays a link, and the data lands beside what it points to
    _check_replaceable(out, root)
    try:
        with whole_folder(out) as folder:
            yield folder
    except OSError as error:
        reason = error.strerror or error
        raise EffiSegError(f"{out}: cannot be written ({reason}): free space there, or check permissions") from error


def _check_replaceable(out: Path, root: Path) -> None:
    """Only a prepared folder is a build product; anything else may be all that somebody has."""
    is_empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not is_empty and not (out / INDEX_FILE).exists():
        raise EffiSegError(f"{out}: exists and is no prepared data set: delete it, or write somewhere else")
    if root.resolve().is_relative_to(out):
        raise EffiSegError(f"{out}: would replace the raw data below it ({root}): write somewhere else")


# --- the whole data set -----------------------------------------------------------------------------------------------


def _void_alone(root: Path, found: dict[str, Role], splits: dict[str, str], *, complete: bool) -> Iterator[Problem]:
    """Roles with nothing in them, `splits` being their names; where pairs are `complete`, also roles without any."""
    uses = {"train": "learned", "val": "scored"}
    for role, name in splits.items():
        if role in found and found[role].digests and not found[role].counts[:-1].any():
            text = f"every pixel of the {name} labels is void: nothing can be {uses[role]}; check the labels"
            yield Problem(root, text)
        elif role not in found and complete:
            yield Problem(root, f"nothing can be {uses[role]}: no split of it has pairs")


def _warn_of_void(root: Path, index: Index) -> None:
    """Labels of another encoding may hold known ids alone, most of which then mean void."""
    question = "is that so?"
    if index.space.by_id:
        question = f"are these the ids that {index.space.name} publishes (Cityscapes: labelIds, not labelTrainIds)?"
    if len(index.space.classes) == 1:
        print(
            f"warning: data.root {root}: one class and nothing beside it, so that every answer is right; make the "
            "background a class too",
            file=sys.stderr,
        )
    for name, split in index.splits.items():
        share = split.void_pixels / (split.void_pixels + sum(split.pixel_counts))
        if share > MUCH_VOID:
            print(
                f"warning: data.root {root}: {share:.0%} of all pixels of the {name} labels are void and count "
                f"nowhere; {question}",
                file=sys.stderr,
            )


def _index(settings: Data, listing: Listing, found: dict[str, Role], sizes: Sequence[Size]) -> Index:
    origins = {"train": settings.train_on, "val": settings.train_on if settings.held_out else [settings.score_on]}
    splits = {
        role: _split_index(origins[role], pairs, found[role].counts.tolist()) for role, pairs in listing.pairs.items()
    }
    size, space, known = (settings.size[0], settings.size[1]), listing.dataset.space, _true(listing)
    published = listing.dataset.published_weights
    weights = published if settings.class_weights == "paper" else computed_weights(splits["train"].pixel_counts)
    return Index(
        format=3,
        title=known.title,
        digest=_digest(space, size, sizes, splits, found),
        table=listing.dataset.fingerprint,
        space=LabelSpace(name=known.name, entries=space.entries, void=space.void),
        size=size,
        fit=settings.fit,
        label_sizes=list(sizes),
        class_weights=list(weights),
        generated=known.generated,
        paper=known.paper,
        splits=splits,
    )


def _digest(
    space: LabelSpace, size: Size, sizes: Sequence[Size], splits: dict[str, SplitIndex], found: dict[str, Role]
) -> str:
    """Of the content: classes, sizes, names, counts and every row."""
    shapes = sizes[0] if len(sizes) == 1 else sizes
    counted = {
        role: {"names": split.names, "pixel_counts": split.pixel_counts, "void_pixels": split.void_pixels}
        for role, split in splits.items()
    }
    hashes = {role: each.digests for role, each in found.items()}
    content = [space.classes, space.colours, space.ignore_index, size, shapes, counted, hashes]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _true(listing: Listing) -> DataSet:
    return true_dataset(listing.dataset, (pair.name for pairs in listing.pairs.values() for pair in pairs))


def _split_index(splits: Sequence[str], pairs: Sequence[Pair], counts: list[int]) -> SplitIndex:
    return SplitIndex(
        splits=tuple(splits),
        names=tuple(pair.name for pair in pairs),
        groups=tuple(pair.group for pair in pairs),
        pixel_counts=counts[:-1],
        void_pixels=counts[-1],
    )
