"""Fetch the weights that rows start from, or only note that a row starts from none."""

import json

from effiseg.cli import stage
from effiseg.runs.places import STARTS, STARTS_FILE
from effiseg.weights.fetch import fetch_starts


def main() -> None:
    stage.no_arguments(__doc__)
    fetch_starts(json.loads(STARTS_FILE.read_text(encoding="utf-8")), STARTS)


if __name__ == "__main__":
    stage.run(main)
