"""Export one trained row, and measure what each form of it costs and changes."""

from pathlib import Path
from tempfile import TemporaryDirectory

from effiseg.base.config import load_config
from effiseg.base.device import choose_device
from effiseg.base.files import repository
from effiseg.cli import stage
from effiseg.deployment.edge import export_at_sizes
from effiseg.deployment.export import export_files
from effiseg.deployment.measure import forms_of, measure_forms
from effiseg.deployment.ncnn_file import MISSING_NCNN, ncnn_installed
from effiseg.deployment.runtimes import INSTALL_OPENVINO, openvino_installed
from effiseg.runs.finished import find_run
from effiseg.runs.places import GRAPHS, Place
from effiseg.runs.records import DeploymentRecord, write_record
from effiseg.runs.study import open_prepared
from effiseg.runs.tracked import track_place


def main() -> None:
    arguments = stage.row_arguments(__doc__)
    config, device = load_config(), choose_device()
    row, data = config.row(arguments.experiment), open_prepared(config)
    place = Place(row.name, arguments.seed)
    run = find_run(config, data, place.name)
    if not openvino_installed():
        print(f"openvino is not installed, so its form is left out; `{INSTALL_OPENVINO}` brings it")
    if not ncnn_installed():
        print(f"ncnn is not installed, so its form is left out; {MISSING_NCNN}")
    with track_place(place) as tracker, TemporaryDirectory() as scratch:
        exported = Path(scratch)
        graphs = repository() / GRAPHS
        export_files(run.load(), run.card, data, exported, calibration=config.deploy.calibration, graphs=graphs)
        if ncnn_installed():
            sizes = {tuple(data.size), tuple(config.profile.size)}  # answers are compared at one, time at the other
            export_at_sizes(run.load(), run.card, data, exported / "ncnn", "ncnn", sizes)
        forms = measure_forms(
            forms_of(place.last, exported, device),
            data.val,
            data.classes,
            size=config.profile.size,
            repeats=config.profile.repeats,
            batch_size=row.train.batch_size,
        )
        record = DeploymentRecord.model_validate({"size": config.profile.size, "forms": forms})
        write_record(place.deployment, record)
        tracker.metrics(record.numbers())


if __name__ == "__main__":
    stage.run(main)
