"""Write down what each row's training depends on, row by row, so that a setting reruns the rows that use it alone."""

from effiseg.base.config import load_config
from effiseg.base.files import whole_folder, write_json
from effiseg.base.origins import refuse_unpinned, used
from effiseg.cli import stage
from effiseg.runs.places import ROWS


def main() -> None:
    stage.no_arguments(__doc__)
    config = load_config()
    with whole_folder(ROWS) as out:
        for name, _ in (*config.teachers(), *config.runs()):
            row = config.row(name)
            refuse_unpinned(row)
            write_json(out / f"{name}.json", used(row))


if __name__ == "__main__":
    stage.run(main)
