"""Archives that go to another machine and come back: written whole, and nothing in them is trusted."""

import io
import json
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.utils import CallbackIOWrapper

from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_file


def write_archive(path: Path, files: Mapping[str, Path], last: str, content: Mapping[str, Any]) -> None:
    """Write a .tar of files by their names in it, and behind them `content` as the JSON file `last`.

    Raises:
        EffiSegError: a file cannot be read, or the archive not be written.
    """
    text = json.dumps(content, indent=2).encode()
    try:
        total = sum(file.stat().st_size for file in files.values())
        with (
            whole_file(path) as partial,
            tqdm(total=total, desc=path.name, unit="B", unit_scale=True) as bar,
            tarfile.open(partial, "w", dereference=True) as tar,
        ):
            for name, file in files.items():
                with file.open("rb") as stream:
                    member = tar.gettarinfo(arcname=name, fileobj=stream)
                    member.uid = member.gid = 0
                    member.uname = member.gname = ""  # who packed is nobody's business
                    tar.addfile(member, CallbackIOWrapper(bar.update, stream, "read"))
            member = tarfile.TarInfo(last)
            member.size, member.mtime = len(text), int(time.time())
            tar.addfile(member, io.BytesIO(text))
    except OSError as error:
        raise EffiSegError(f"{path}: cannot be written ({error}); mend that, or give another place") from None


def read_archive(path: Path, folder: Path) -> None:
    """Unpack a .tar below `folder`: files and folders alone, and none outside of it.

    Raises:
        EffiSegError: it cannot be read, is damaged, or holds something else.
    """
    try:
        with (
            tarfile.open(path, "r:") as tar,
            tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True) as bar,
        ):
            for member in tar:
                if not (member.isreg() or member.isdir()):
                    raise tarfile.TarError(f"'{member.name}' is neither a file nor a folder")
                tar.extract(member, folder, filter="data")
                bar.update(member.size)
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise EffiSegError(
            f"{path}: cannot be unpacked ({reason}); expected what `python -m effiseg.remote` wrote: copy it again"
        ) from None
