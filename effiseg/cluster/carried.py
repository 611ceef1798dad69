"""Checkpoints by way of a DVC remote, where machines share no folder. It travels by value, like the worker."""

import tarfile
from pathlib import Path
from typing import Any

CHECKPOINTS = Path(".ckpt")
COMPLETE = "COMPLETE"  # marks a checkpoint that was written to its end


class Carried:
    """The checkpoints of one stage: fetched before it runs, sent after each new one, removed when it is done."""

    def __init__(self, checkout: Path, name: str) -> None:
        """Fetch what an earlier try left.

        Args:
            name: what the stage is called in the remote, the same in every try and in no other study.
        """
        from dvc.repo import Repo

        store = Repo(str(checkout)).cloud.get_remote_odb(None, "push", hash_name="md5-dos2unix")
        self.fs: Any = store.fs
        self.there: str = store.fs.join(store.path, "checkpoints", f"{name}.tar")
        self.folder, self.packed = checkout / CHECKPOINTS, checkout / ".dvc/tmp/checkpoints.tar"
        if self.fs.exists(self.there):
            self.fs.get_file(self.there, str(self.packed))
            with tarfile.open(self.packed) as archive:
                archive.extractall(checkout, filter="data")
        self.sent = self._marks()

    def send(self) -> None:
        """Send the checkpoints if there is a new one; a store that does not answer is asked again with the next."""
        marks = self._marks()
        if not marks or marks == self.sent:
            return
        try:
            with tarfile.open(self.packed, "w") as archive:
                archive.add(self.folder, CHECKPOINTS)
            self.fs.makedirs(self.fs.parent(self.there))
            self.fs.put_file(str(self.packed), self.there)
        except Exception as error:  # also when an old checkpoint went meanwhile: the next try has it
            print(f"warning: the checkpoint was not sent ({error})", flush=True)
            return
        self.sent = marks

    def remove(self) -> None:
        """Drop them: the stage is done."""
        if self.fs.exists(self.there):
            self.fs.remove(self.there)

    def _marks(self) -> dict[str, float]:
        return {str(path): path.stat().st_mtime for path in self.folder.rglob(COMPLETE)}
