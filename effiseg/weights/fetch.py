"""A checkpoint from wherever `start.source` says."""

import json
import sys
from pathlib import Path

from effiseg.base.errors import EffiSegError
from effiseg.base.files import repository
from effiseg.base.origins import digest, weights_file
from effiseg.base.schema import Model, Start
from effiseg.weights.download import fetch_gdrive, fetch_huggingface, fetch_url


def fetch(start: Start, model: Model) -> Path:
    """The checkpoint file that `start` names, downloaded if need be.

    Args:
        model: whose input normalisation is held against what a repository on the Hub states.

    Raises:
        EffiSegError: it cannot be had, or its digest is not `start.sha256`.
    """
    downloads = repository() / ".downloads"
    sha256 = start.sha256 or None
    if start.source == "url":
        return fetch_url(start.url, downloads, sha256=sha256)
    if start.source == "gdrive":
        return fetch_gdrive(start.gdrive_id, downloads, sha256=sha256)
    if start.source == "huggingface":
        files = fetch_huggingface(start.repo, start.revision, downloads, sha256=sha256)
        _compare_normalisation(start, model, files.preprocessor)
        return files.weights
    path = weights_file(start.path)
    found = digest(path)
    if sha256 and found != sha256.lower():
        raise EffiSegError(f"start.sha256: {path} has {found}, expected {sha256}; correct the digest or the file")
    if not sha256:
        print(f"{path}: sha256 {found}")
    return path


def _compare_normalisation(start: Start, model: Model, preprocessor: Path | None) -> None:
    if preprocessor is None:
        return
    stated = json.loads(preprocessor.read_text(encoding="utf-8"))
    for key, ours in (("image_mean", model.mean), ("image_std", model.std)):
        if key in stated and any(abs(a - b) > 1e-3 for a, b in zip(stated[key], ours, strict=True)):
            print(
                f"warning: model.{key[6:]} is {ours}, but {start.repo} was trained with {stated[key]}", file=sys.stderr
            )
