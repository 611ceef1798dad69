"""Checkpoints from the Hugging Face Hub, with the licence that their model card states."""

from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CardData, HfApi, ModelCard, errors, hf_hub_download, try_to_load_from_cache
from huggingface_hub.utils import logging

from effiseg.base.errors import EffiSegError
from effiseg.base.origins import CHECKPOINT_NAMES
from effiseg.weights.download import check_digest, line

logging.set_verbosity_error()  # each attempt would be a line
_SECONDS = 10.0  # to wait for what is only told
_PROBLEMS: tuple[tuple[type[Exception], str], ...] = (  # the first that fits
    (errors.LocalEntryNotFoundError, "the Hub cannot be reached; check the network, HF_ENDPOINT, HF_HUB_OFFLINE"),
    (errors.GatedRepoError, "access is restricted; accept its terms on the Hub and set HF_TOKEN"),
    (errors.RepositoryNotFoundError, "not on the Hub, or private; correct it, or set HF_TOKEN if it is yours"),
    (errors.RevisionNotFoundError, "no such revision; expected a branch, a tag or a commit hash"),
    (errors.HFValidationError, "not a name the Hub allows; expected owner/name"),
    (Exception, "the transfer failed; check the network and the disk, then run again"),
)


class HubFiles(NamedTuple):
    """Local files of one commit of a Hub repository; None for what it does not have.

    Attributes:
        weights: model.safetensors or pytorch_model.bin; config.json, which names the classes, lies beside it.
        card: README.md.
        preprocessor: preprocessor_config.json.
    """

    commit: str
    weights: Path
    card: Path | None
    preprocessor: Path | None


class HubAnswer(NamedTuple):
    """What the Hub tells of a repository: the commit that a revision is now, and bytes of the weights."""

    commit: str
    size: int | None
    licence: str


def fetch_huggingface(repo: str, revision: str, folder: Path, *, sha256: str | None = None) -> HubFiles:
    """Download a transformers model from the Hub; HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are honoured.

    Args:
        repo: owner/name.
        revision: a branch, a tag, or a commit hash, which pins it.
        folder: becomes a cache in the Hub's own layout; created if missing.
        sha256: what the weights must have; printed when not given.

    Raises:
        EffiSegError: there is no such thing for this user, or the connection, the disk or the digest is at fault.
    """
    found = (path for name in CHECKPOINT_NAMES if (path := _file(repo, name, revision, folder)))
    weights = next(found, None)
    if weights is None:
        lacking = (
            f"has neither {' nor '.join(CHECKPOINT_NAMES)}, expected a model in one file: choose another repository"
        )
        raise EffiSegError(f"start.repo: {repo} (start.revision: {revision}): {lacking}")
    check_digest(weights, f"start.repo: {repo}", sha256)
    # the branch may move between two requests: the commit is in .../snapshots/<commit>/<file>
    commit = weights.parent.name
    _file(repo, "config.json", commit, folder)
    return HubFiles(
        commit=commit,
        weights=weights,
        card=_file(repo, "README.md", commit, folder),
        preprocessor=_file(repo, "preprocessor_config.json", commit, folder),
    )


def held_by_hub(repo: str, revision: str, folder: Path) -> bool:
    """Whether the weights are in the cache `folder` already."""
    found = (try_to_load_from_cache(repo, name, cache_dir=folder, revision=revision) for name in CHECKPOINT_NAMES)
    return any(isinstance(each, str) for each in found)


def ask_huggingface(repo: str, revision: str) -> HubAnswer:
    """What the Hub tells of a repository without downloading it.

    Raises:
        EffiSegError: it cannot be had now, with the reason.
    """
    try:
        told = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=_SECONDS)
    except (errors.HTTPError, OSError, RuntimeError, ValueError) as error:
        known = next((text for kind, text in _PROBLEMS[1:-1] if isinstance(error, kind)), "")
        raise EffiSegError(
            f"cannot be had now: {known or line(error).partition(' For more information')[0]}"
        ) from error
    sizes = {each.rfilename: each.size for each in told.siblings or []}
    size = next((sizes[name] for name in CHECKPOINT_NAMES if name in sizes), None)
    return HubAnswer(told.sha or "", size, _licence(told.card_data))


def licence_on(card: Path) -> str:
    """The licence that a model card's head states, such as "apache-2.0"; empty where it states none."""
    try:
        content = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True)
    except (OSError, ValueError):
        return ""
    return _licence(content.data)


def _licence(head: CardData | None) -> str:
    """`other` stands with the name and the link that the card gives it."""
    told = head.to_dict() if head else {}
    more = [str(told[key]) for key in ("license_name", "license_link") if told.get(key)]
    return " ".join([str(told.get("license") or ""), *([f"({', '.join(more)})"] if more else [])]).strip()


def _file(repo: str, name: str, revision: str, folder: Path) -> Path | None:
    """The file in the local cache; None if the repository has no such file."""
    try:
        return Path(hf_hub_download(repo, name, revision=revision, cache_dir=folder))
    except errors.RemoteEntryNotFoundError:
        return None
    except (errors.HTTPError, OSError, RuntimeError, ValueError) as error:  # hf_xet's are RuntimeErrors
        offline = isinstance(error, errors.LocalEntryNotFoundError)
        # the cache also knows which files the repository does not have
        if offline and try_to_load_from_cache(repo, name, cache_dir=folder, revision=revision) is not None:
            return None
        raise EffiSegError(f"start.repo: {repo} (start.revision: {revision}): {name}: {_problem(error)}") from error


def _problem(error: Exception) -> str:
    """What is wrong and what to do; the library's own words where those of ours would not tell."""
    kind, text = next((kind, text) for kind, text in _PROBLEMS if isinstance(error, kind))
    return f"{text} ({line(error)})" if kind is Exception else text
