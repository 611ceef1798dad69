"""The machine that an archive was packed for, and whether this is one."""

import importlib.util
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKED = Path("packed.json")  # the last file of an archive: without it, it was not unpacked whole
PACKAGES = Path("packages")


def this_host() -> dict[str, str]:
    """What compiled packages depend on, and the version of torch."""
    version = "{}.{}".format(*sys.version_info[:2])
    found = {"python": version, "system": platform.system(), "processor": platform.machine()}
    return {**found, "torch": metadata.version("torch") if importlib.util.find_spec("torch") else ""}


def enter() -> dict[str, Any]:
    """Make the packages of the unpacked archive in the working folder those of this process and of its children.

    Returns:
        What `pack` wrote down.
    """
    try:
        packed = json.loads(PACKED.read_text(encoding="utf-8"))
        wanted, _, _ = packed["host"], packed["commit"], packed["trained"]
    except (OSError, ValueError, KeyError):
        sys.exit(
            f"error: {PACKED}: missing or damaged; run this in the folder that the archive of `effiseg pack` holds, "
            "unpacked whole"
        )
    found = this_host()
    for key in ("python", "system", "processor"):
        if found[key] != wanted[key]:
            sys.exit(
                f"error: {PACKED}: its packages are for {key} {wanted[key]}, and here it is {found[key]}; use one like "
                "that here, or run `effiseg pack` in an environment like this one"
            )
    if not found["torch"]:
        sys.exit(f"error: {sys.executable} has no torch, and none is in the archive; install it")
    if found["torch"].split("+")[0] != wanted["torch"].split("+")[0]:
        print(
            f"warning: torch is {found['torch']}, and {wanted['torch']} where this was packed; results may differ",
            file=sys.stderr,
        )
    packages = str(PACKAGES.resolve())
    sys.path.insert(1, packages)  # after the working folder
    os.environ["PYTHONPATH"] = os.pathsep.join([packages, *filter(None, [os.environ.get("PYTHONPATH")])])
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "20")  # a bar that is not watched reports now and then
    return packed
