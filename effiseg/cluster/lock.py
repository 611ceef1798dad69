"""What a study leaves in the working folder: its lines of dvc.lock, and the outputs that these name."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dvc.output import loadd_from
from dvc.stage import Stage as AnyStage
from dvc.utils.serialize import load_yaml, modify_yaml

from effiseg.cluster.graph import opened
from effiseg.cluster.worker import load_stages

LOCK = "dvc.lock"


def read_lock() -> dict[str, Any]:
    """The stages' lines of dvc.lock."""
    path = Path(LOCK)
    return dict(load_yaml(LOCK).get("stages") or {}) if path.exists() else {}


def write_lock(entries: Mapping[str, Any], order: Iterable[str]) -> None:
    """Lay lines over those of dvc.lock; new ones come in the given order, where a sequential run puts them too."""
    if not entries:
        return
    with modify_yaml(LOCK) as content:
        content["schema"] = "2.0"
        stages = content.setdefault("stages", {})
        for name in order:
            if name in entries:
                stages[name] = entries[name]


def bring_back(done: Iterable[str], failed: Iterable[str], remote: str) -> None:
    """Put the outputs of finished stages into the working folder, and remove what failed ones left there before.

    Args:
        remote: fetch them from there first; empty where workers share this folder's cache.

    Raises:
        EffiSegError: DVC cannot find or write them.
    """
    with opened() as repo, repo.lock:
        for stage in load_stages(repo, list(failed)):
            stage.remove_outs()
        for stage in load_stages(repo, list(done)):
            if remote:
                for objects in stage.get_used_objs(remote=remote).values():
                    repo.cloud.pull(objects, remote=remote)
            stage.checkout(force=True)


def remove_leftovers() -> list[str]:
    """Remove what rows and seeds that are no longer in the study left in the working folder, and DVC's cache keeps.

    Folders that a stage gathers (results/) would hold more here than in a worker's checkout, and never be up to date.

    Returns:
        The stages that made it.
    """
    found = []
    with opened() as repo, repo.lock:
        stages = {stage.addressing: stage for stage in repo.index.stages}
        made = {str(out) for stage in stages.values() for out in stage.outs}
        for name, entry in read_lock().items():
            if name in stages:
                continue
            outs = [out for out in loadd_from(AnyStage(repo), entry.get("outs", [])) if str(out) not in made]
            gone = [out for out in outs if out.exists and not out.changed_checksum() and not out.changed_cache()]
            for out in gone:
                out.remove()
            found += [name] if gone else []
    return found
