"""What `python -m effiseg data` does: look into a folder, and at a whole data set."""

import sys
from pathlib import Path
from shlex import quote

from effiseg.base.errors import EffiSegError
from effiseg.data.dataset import FILE, open_dataset
from effiseg.intake.fetch import fetch
from effiseg.intake.init import init
from effiseg.intake.inspect import inspect
from effiseg.intake.sheet import told, write_sheet
from effiseg.preparation.problems import told_problems


def data_init(folder: Path) -> None:
    """Write a first dataset.yaml into the folder and tell what was found."""
    print("\n".join(init(folder)))
    print(f"{folder / FILE}: written; complete it, then run `python -m effiseg data check {quote(str(folder))}`")


def data_fetch(name: str, revision: str, folder: Path, image: str, label: str) -> None:
    """Write a data set of the Hugging Face Hub into a new folder, and tell what was found."""
    print("\n".join(fetch(name, revision, folder, image=image, label=label)))
    print(f"{folder / FILE}: written; complete it, then run `python -m effiseg data check {quote(str(folder))}`")


def data_check(folder: Path, source: str | None, out: Path) -> None:
    """Look at all of a data set, write a page about it into `out`, and tell what was found.

    Raises:
        EffiSegError: its table cannot be used, or it has problems, all on one line.
    """
    if not folder.is_dir():
        raise EffiSegError(f"{folder}: not a folder; name the one that holds the data set")
    if out.exists() and not out.is_dir():
        raise EffiSegError(f"--out {out}: a file, expected a folder to write; choose another")
    if source is None and not (folder / FILE).is_file():
        raise EffiSegError(
            f"{folder / FILE}: not found; `python -m effiseg data init {quote(str(folder))}` writes one, or name a "
            "table with --source"
        )
    if out.resolve().is_relative_to(folder.resolve()):
        raise EffiSegError(f"--out {out}: lies in the data set, where DVC would see a change; choose another folder")
    dataset = open_dataset(source or str(folder / FILE))
    found = inspect(dataset, folder)
    print("\n".join(told(found)))
    if found.splits:
        print(f"{write_sheet(found, folder, out)}: classes by split, and labels over their images")
    if found.remarks:
        print(f"warning: {told_problems(folder, found.remarks, 'remark')}", file=sys.stderr)
    if found.problems:
        raise EffiSegError(f"{folder}: {told_problems(folder, found.problems)}")
