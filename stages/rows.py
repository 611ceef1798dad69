"""Write down what each row's training depends on, row by row, so that a setting reruns the rows that use it alone."""

from effiseg.base.config import load_config
from effiseg.base.files import whole_folder, write_json
from effiseg.base.origins import refuse_unpinned
from effiseg.cli import stage
from effiseg.runs.places import ROWS, STARTS_FILE


def main() -> None:
    stage.no_arguments(__doc__)
    config = load_config()
    rows = [config.row(name) for name in dict.fromkeys(name for name, _ in (*config.teachers(), *config.runs()))]
    for row in rows:
        refuse_unpinned(row)
    with whole_folder(ROWS) as out:
        for row in rows:
            write_json(out / f"{row.name}.json", row.used())
    write_json(STARTS_FILE, {row.name: row.start.address for row in rows})


if __name__ == "__main__":
    stage.run(main)
