"""`python -m effiseg`: what is done once, by hand, rather than by the pipeline."""

import argparse

from effiseg.pipeline import cli
from effiseg.presets import apply_preset, preset_names


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m effiseg", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    preset = commands.add_parser("preset", help="lay a set of differences over params.yaml")
    preset.add_argument("name", help=f"one of: {', '.join(preset_names())}")
    preset.add_argument("--root", help="where your data lies (data.root)")
    arguments = parser.parse_args()
    changes = apply_preset(arguments.name, arguments.root)
    print("\n".join(changes) if changes else "params.yaml has these settings already")
    if arguments.root is None:
        print("data.root is as it was; set it to the folder that holds your data, or give --root")


if __name__ == "__main__":
    cli.run(main)
