"""Export one trained row, and measure what each form of it costs and changes."""

from pathlib import Path
from tempfile import TemporaryDirectory

from effiseg.config import load_config
from effiseg.deployment.export import export_files
from effiseg.deployment.measure import forms_of, measure_forms
from effiseg.deployment.runs import find_run
from effiseg.device import choose_device
from effiseg.pipeline import cli, workspace
from effiseg.pipeline.prepared import open_prepared
from effiseg.pipeline.tracking import track


def main() -> None:
    arguments = cli.row_arguments(__doc__)
    config, device = load_config(), choose_device()
    row, data = config.row(arguments.experiment), open_prepared(config)
    run = find_run(config, data, workspace.run_name(row.name, arguments.seed))
    tags = {"experiment": row.name, "seed": arguments.seed, "data_digest": data.digest}
    with track(f"deploy-{run.name}", data.source, tags=tags) as tracker, TemporaryDirectory() as scratch:
        exported = Path(scratch)
        graphs = workspace.repository() / workspace.GRAPHS
        export_files(run.load(), run.card, data, exported, calibration=config.deploy.calibration, graphs=graphs)
        size, repeats = config.profile.size, config.profile.repeats
        forms = measure_forms(
            forms_of(run.folder, exported, device),
            data.val,
            data.classes,
            size=size,
            repeats=repeats,
            batch_size=row.train.batch_size,
        )
        workspace.write_json(Path("deployments", run.group, f"{run.name}.json"), {"size": size, "forms": forms})
        tracker.dataset(data.source, config.data.root, data.digest, "evaluation")
        for form in forms:
            numbers = {key: value for key, value in form.items() if isinstance(value, float)}
            tracker.metrics({f"{form['form']}.{key}": value for key, value in numbers.items()})


if __name__ == "__main__":
    cli.run(main)
