"""`python -m effiseg`: what is done once, by hand, rather than by the pipeline."""

import argparse
from pathlib import Path

from effiseg.config import load_config
from effiseg.errors import EffiSegError
from effiseg.pipeline import cli
from effiseg.pipeline.workspace import GENERATED
from effiseg.presets import apply_preset, preset_names


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m effiseg", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    preset = commands.add_parser("preset", help="lay a set of differences over params.yaml")
    preset.add_argument("name", help=f"one of: {', '.join(preset_names())}")
    preset.add_argument("--root", help="where your data lies (data.root)")
    commands.add_parser("check", help="check params.yaml as a whole, and that data.root is there")
    arguments = parser.parse_args()
    if arguments.command == "check":
        check()
        return
    changes = apply_preset(arguments.name, arguments.root)
    print("\n".join(changes) if changes else "params.yaml has these settings already")
    if arguments.root is None:
        print("data.root is as it was; set it to the folder that holds your data, or give --root")


def check() -> None:
    """What DVC would tell in words of its own, if it came to it: a wrong row or key, and data that are not there."""
    config = load_config()
    root = Path(config.data.root)
    if not root.is_dir() and root != GENERATED:
        raise EffiSegError(f"data.root: {root} is not a folder; set it to the folder that holds your data")
    print(f"params.yaml is valid: {len(config.runs())} trainings on {config.data.source}")


if __name__ == "__main__":
    cli.run(main)
