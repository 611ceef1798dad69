"""What a machine brings home: finished runs, and the checkpoints of those that are not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from effiseg.base.config import Config
from effiseg.base.origins import digest
from effiseg.remote.archive import write_archive
from effiseg.remote.plan import identity_at, is_trained, planned
from effiseg.runs.checkpoints import checkpoint_folder, kept_checkpoint
from effiseg.runs.places import ROWS, Place

BROUGHT = "brought.json"  # the last file of the archive: the digests of all others

Name = Annotated[str, Field(pattern=r"^.+-\d+$")]  # <row>-<seed>


class Brought(BaseModel):
    """What stands in it.

    Attributes:
        commit: of the code that trained.
        finished, begun: runs by name.
        files: the digest of every other file in it.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    commit: str
    finished: list[Name]
    begun: list[Name]
    files: dict[str, str]


def bring(config: Config, data_digest: str, packed: Mapping[str, Any], archive: Path) -> str:
    """Write the archive for `effiseg unpack`, of all that was trained in this folder.

    Returns:
        What is in it, in words.

    Raises:
        EffiSegError: it cannot be written.
    """
    files: dict[str, Path] = {}
    runs: dict[str, list[str]] = {"finished": [], "begun": []}
    for place in (Place.of(name) for name in planned(config) if name not in packed["trained"]):
        if is_trained(config, place, data_digest):
            paths = (*(path for path in sorted(place.model.rglob("*")) if path.is_file()), place.record, place.history)
            state, added = "finished", {str(path): path for path in paths}
        else:
            folder = checkpoint_folder(place.name, identity_at(config, place, data_digest))
            state, added = "begun", kept_checkpoint(folder)[1]
        if added:
            row = ROWS / f"{place.row}.json"
            files |= {**added, str(row): row}
            runs[state].append(place.name)
    if not files:
        return f"{archive}: not written, as there is nothing to bring home yet"
    digests = {name: digest(path) for name, path in files.items()}
    write_archive(archive, files, BROUGHT, Brought(commit=packed["commit"], **runs, files=digests).model_dump())
    counts = ", ".join(f"{len(names)} {state}" for state, names in runs.items())
    return f"{archive}: {counts}; bring it home, and there `python -m effiseg unpack {archive.name}`"
