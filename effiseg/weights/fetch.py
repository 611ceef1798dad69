"""The weights that rows start from, from wherever they are, into one folder for each row."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effiseg.base.errors import EffiSegError, masked
from effiseg.base.files import repository, whole_folder
from effiseg.base.origins import CHECKPOINT_NAMES, classes_of, digest, weights_file
from effiseg.weights.source import CHECKPOINT_FILE, Checkpoint, Source, write_source

Address = Mapping[str, str]  # see `Start.address`

DOWNLOADS = Path(".downloads")  # in the repository: what was downloaded, and what is half there


def fetch_starts(addresses: Mapping[str, Address], out: Path) -> None:
    """Fill `out`/<row>/ for every row; what is there already and still what is asked for stays.

    Args:
        addresses: by row; empty for a row whose weights do not come from outside.

    Raises:
        EffiSegError: weights cannot be had, or have another digest than theirs.
    """
    out.mkdir(parents=True, exist_ok=True)
    for folder in out.iterdir():
        if folder.name not in addresses:
            shutil.rmtree(folder)
    for row, address in addresses.items():
        if _is_there(out / row, address):
            continue
        try:
            file, source = fetch(address)
        except EffiSegError as error:
            raise EffiSegError(f"row '{row}': {error}") from None
        if source.origin:
            print(f"row '{row}' starts from {source.origin}; licence: {source.licence or 'none is stated there'}")
        with whole_folder(out / row) as folder:
            if file:
                shutil.copyfile(file, folder / CHECKPOINT_FILE)
            write_source(folder, source)


def fetch(address: Address) -> tuple[Path | None, Source]:
    """The checkpoint's file, downloaded if need be, and what is known of it; no file where nothing is to be fetched.

    Raises:
        EffiSegError: it cannot be had, or its digest is not the address's sha256.
    """
    if not address:
        return None, Source()
    kind, sha256, downloads = address["source"], address["sha256"] or None, repository() / DOWNLOADS
    known: dict[str, Any] = {"address": noted(address)}
    if kind == "huggingface":
        from effiseg.weights.hub import (
            fetch_huggingface,
            licence_on,
        )  # imported late, as the others: they cost a second

        files = fetch_huggingface(address["repo"], address["revision"], downloads, sha256=sha256)
        file, known["origin"] = files.weights, f"huggingface {address['repo']} at {files.commit}"
        known |= {"licence": licence_on(files.card) if files.card else "", **_normalisation(files.preprocessor)}
    elif kind == "file":
        file = weights_file(address["path"])
        known["origin"] = f"file {_named(file)}"
        if (card := Path(address["path"], "README.md")).is_file():  # a folder, such as a clone of a repository
            from effiseg.weights.hub import licence_on

            known["licence"] = licence_on(card)
    else:
        from effiseg.weights.download import fetch_gdrive, fetch_url

        download, key = (fetch_url, "url") if kind == "url" else (fetch_gdrive, "gdrive_id")
        file = download(address[key], downloads, sha256=sha256)
        known["origin"] = f"{kind} {masked(address[key])}"
    found = digest(file)
    if sha256 and found != sha256.lower():
        raise EffiSegError(f"start.sha256: {file} has {found}, expected {sha256}; correct the digest or the file")
    return file, Source(sha256=found, classes=classes_of(file), **known)


def at_hand(address: Address, folder: Path) -> bool:
    """Whether nothing more is needed for the row whose folder below `starts` this is."""
    if _is_there(folder, address):
        return True
    if address["source"] == "file":
        return Path(address["path"]).exists()
    downloads = repository() / DOWNLOADS
    if address["source"] == "huggingface":
        from effiseg.weights.hub import held_by_hub

        return held_by_hub(address["repo"], address["revision"], downloads)
    from effiseg.weights.download import drive_file, held, url_file

    file = url_file(address["url"]) if address["source"] == "url" else drive_file(address["gdrive_id"])
    return held(downloads / file, address["sha256"])


def announce(address: Address) -> str:
    """What a download will be, in words, as far as its server tells: its size, its licence, its commit."""
    if address["source"] == "gdrive":
        return "of a size that Google Drive does not tell"
    try:
        if address["source"] == "huggingface":
            from effiseg.weights.hub import ask_huggingface

            commit, size, licence = ask_huggingface(address["repo"], address["revision"])
        else:
            from effiseg.weights.download import ask_url

            commit, size, licence = "", ask_url(address["url"]), ""
    except EffiSegError as error:
        return str(error)
    told = [f"{size / 1e6:.1f} MB" if size else "of a size that its server does not tell"]
    told += [f"licence: {licence}"] if licence else []
    return ", ".join([*told, *([f"commit {commit}"] if commit else [])])


def noted(address: Address) -> dict[str, str]:
    """An address as it is written down: without secrets, and of a file its name alone, which no stage reruns for."""
    plain = {key: masked(value) for key, value in address.items() if key not in ("path", "sha256")}
    return plain | ({"name": _named(weights_file(address["path"]))} if address.get("source") == "file" else {})


def _named(file: Path) -> str:
    """A file by its name, and its folder's where transformers gave it the name that all have."""
    return f"{file.parent.name}/{file.name}" if file.name in CHECKPOINT_NAMES else file.name


def _is_there(folder: Path, address: Address) -> bool:
    """Whether the folder holds what the address means; that of a file outside may have been replaced."""
    try:
        found = Checkpoint.read(folder)
    except EffiSegError:
        return False
    if found is None or not address:
        return found is None and not address
    pinned = address["sha256"].lower()
    if not found.file.is_file() or digest(found.file) != found.source.sha256 or pinned not in ("", found.source.sha256):
        return False
    if address["source"] == "file" and pinned and not Path(address["path"]).exists():
        return True  # it was there once, and nothing else is meant
    if found.source.address != noted(address):
        return False
    if address["source"] != "file":
        return True
    file = weights_file(address["path"])
    return (digest(file), classes_of(file)) == (found.source.sha256, found.source.classes)


def _normalisation(preprocessor: Path | None) -> dict[str, list[float]]:
    """By what the images were normalised, as a repository on the Hub states it."""
    if preprocessor is None:
        return {}
    stated = json.loads(preprocessor.read_text(encoding="utf-8"))
    keys = {"mean": "image_mean", "std": "image_std"}
    return {ours: stated[theirs] for ours, theirs in keys.items() if theirs in stated}
