"""`python -m effiseg`: what is done once, by hand, rather than by the pipeline."""

import argparse
import os
from fractions import Fraction
from pathlib import Path

from effiseg import __version__
from effiseg.base.config import PARAMS_FILE, load_config
from effiseg.base.errors import EffiSegError
from effiseg.check import check
from effiseg.cli import stage
from effiseg.cli.stage_log import STAGE_LOG, stage_times
from effiseg.data.dataset import open_dataset
from effiseg.keep import keep
from effiseg.presets import apply_preset, preset_names
from effiseg.video.files import ENCODINGS, is_video

MODEL = "<row>-<seed> of the study, a folder of an export or a training, an .onnx or .param file, or models:/NAME@ALIAS"


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.command == "preset":
        preset(arguments.name, arguments.root)
    elif arguments.command == "check":
        config = load_config()
        check(config)
        count = len(config.runs())
        name = open_dataset(config.data.source).name
        print(f"params.yaml is valid: {count} training{'s' if count != 1 else ''} on {name}")
    elif arguments.command == "study":
        study(arguments.ray)
    elif arguments.command == "weights":
        from effiseg.models.tell import tell

        print("\n".join(tell(arguments.file).lines()))
    elif arguments.command == "keep":
        keep_runs(arguments.root, arguments.folder)
    elif arguments.command == "pack":
        from effiseg.remote.pack import pack

        left = pack(load_config(), arguments.archive)
        print(f"{arguments.archive}: to train {', '.join(left)}; unpack it there, and `python -m effiseg.remote` in it")
    elif arguments.command == "unpack":
        from effiseg.remote.unpack import unpack

        print("\n".join(unpack(load_config(), arguments.archive)))
    elif arguments.command == "report":
        report(arguments.folder)
    elif arguments.command == "times":
        times(arguments.since)
    elif arguments.command == "data":
        from effiseg.intake import commands as data

        if arguments.action == "init":
            data.data_init(arguments.folder)
        elif arguments.action == "fetch":
            data.data_fetch(arguments.name, arguments.revision, arguments.folder, arguments.image, arguments.label)
        else:
            data.data_check(arguments.folder, arguments.source, arguments.out)
    else:
        # imported late: torch costs seconds, which the commands above need not wait for
        from effiseg.deployment import commands

        if arguments.command == "export":
            commands.export(arguments.run, arguments.out, arguments.target, arguments.size and tuple(arguments.size))
        elif arguments.command == "predict":
            predict(arguments)
        else:
            commands.register(arguments.row)


def preset(name: str, root: str | None) -> None:
    """Lay a preset over params.yaml and tell what changed."""
    changes = apply_preset(name, root)
    print("\n".join(changes) if changes else "params.yaml has these settings already")
    if root is None and any(change.startswith("data.source") for change in changes):
        print("data.root is as it was; set it to the folder that holds your data, or give --root")


def predict(arguments: argparse.Namespace) -> None:
    """Predict pictures into a folder; or, where a video is named, frames into a video."""
    if any(is_video(path) for path in (arguments.out, *map(Path, arguments.pictures))):
        from effiseg.video.commands import predict_frames

        predict_frames(arguments)
        return
    if arguments.fps:
        raise EffiSegError(
            f"--fps: of a video, and --out {arguments.out} is a folder; name one ({', '.join(ENCODINGS)})"
        )
    from effiseg.deployment.commands import predict_pictures

    predict_pictures(arguments)


def report(folder: Path) -> None:
    """Write the tables and the page of a kept study beside its runs."""
    from effiseg.report.build import build_report  # imported late: figures cost seconds

    build_report(load_config(folder / PARAMS_FILE), folder, folder)
    print(folder / "index.html")


def keep_runs(root: Path, folder: Path) -> None:
    """Add the finished runs of a study, or of a kept one, to a folder."""
    if not (root / PARAMS_FILE).exists():
        raise EffiSegError(f"--root: {root} has no {PARAMS_FILE}; name the folder of a study, or of a kept one")
    added = keep(load_config(root / PARAMS_FILE), root, folder)
    print(f"{folder}: " + (f"kept {', '.join(added)}" if added else "has all finished runs already"))


def study(address: str) -> None:
    """Run what is stale of the study on a Ray cluster, an extra that most users do without."""
    config = load_config()
    check(config)
    try:
        from effiseg.cluster.study import run_study
    except ModuleNotFoundError as error:
        raise EffiSegError(f"{error.name} is not installed; run `make setup-cluster`") from None
    if "MLFLOW_TRACKING_URI" in os.environ:
        from effiseg.tracking.tracker import prepare_study

        prepare_study(open_dataset(config.data.source).name)
    run_study(config.cluster, address)


def times(since: str) -> None:
    """Tell what the stages took; nothing where none ran."""
    table = stage_times(since)
    if table:
        lines = [*table, (sum(seconds for seconds, _ in table), f"in all; {STAGE_LOG} has every run")]
        print("\n".join([" seconds  stage", *(f"{seconds:8.1f}  {name}" for seconds, name in lines)]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m effiseg", description=__doc__)
    parser.add_argument("--version", action="version", version=f"effiseg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    preset = commands.add_parser("preset", help="lay a set of differences over params.yaml")
    preset.add_argument("name", help=f"one of: {', '.join(preset_names())}")
    preset.add_argument("--root", help="where your data lies (data.root)")
    commands.add_parser("check", help="check params.yaml as a whole, and that data.root is there")
    data = commands.add_parser("data", help="bring your own data set").add_subparsers(dest="action", required=True)
    init = data.add_parser("init", help="look into a folder of images and labels and write its dataset.yaml")
    init.add_argument("folder", type=Path)
    get = data.add_parser("fetch", help="write a data set of the Hugging Face Hub into a new folder")
    get.add_argument("name", help="owner/name, or a folder of parquet files")
    get.add_argument("folder", type=Path)
    get.add_argument("--revision", default="", help="the commit, 40 hex digits")
    get.add_argument("--image", default="", help="the column of images")
    get.add_argument("--label", default="", help="the column of labels")
    look = data.add_parser("check", help="tell all that is wrong with a data set, and what it holds, as a page")
    look.add_argument("folder", type=Path)
    look.add_argument("--source", help="a table that comes with EffiSeg, or another dataset.yaml than the folder's")
    look.add_argument("--out", type=Path, default=Path("data-check"), help="the folder for the page (data-check)")
    weights = commands.add_parser("weights", help="tell what a checkpoint of anybody is, without running code from it")
    weights.add_argument("file", help="a checkpoint, or a folder that transformers wrote")
    study = commands.add_parser("study", help="run what is stale of the study on a Ray cluster, many stages at once")
    study.add_argument(
        "--ray",
        required=True,
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="of the cluster, as Ray has it (auto, HOST:PORT, ray://HOST:PORT); without it, one of this machine",
    )
    keeping = commands.add_parser("keep", help="add the finished runs to a folder: scores and costs, no weights")
    keeping.add_argument("folder", type=Path, help="made if missing; runs of several machines and days make one study")
    keeping.add_argument("--root", type=Path, default=Path(), help="where the runs are: a study, or a kept one (here)")
    reporting = commands.add_parser("report", help="write the tables and the page of a folder of kept runs, there")
    reporting.add_argument("folder", type=Path, help="what `keep` filled")
    packing = commands.add_parser("pack", help="write what the study's trainings need on a machine without DVC")
    packing.add_argument("archive", type=Path, help="the .tar to write")
    unpacking = commands.add_parser("unpack", help="take in what `python -m effiseg.remote` has trained elsewhere")
    unpacking.add_argument("archive", type=Path, help="the .tar that it wrote")
    times = commands.add_parser("times", help="tell what the stages took, the longest first")
    times.add_argument("--since", default="", metavar="TIME", help="began then or later, as in 2030-12-31T23:59:59")
    export = commands.add_parser("export", help="write a finished row as ONNX files and a transformers checkpoint")
    export.add_argument("run", help="<row>-<seed> of the study, for example baseline-0")
    export.add_argument("--out", type=Path, help="the folder to write (exports/<run>, or exports/<run>-<target>)")
    export.add_argument("--target", choices=("tensorrt", "ncnn"), help="write for this alone, for one size of images")
    export.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of a target's images (that of the training)"
    )
    predict = commands.add_parser("predict", help="colour pictures, or a video, by a model's answer")
    predict.add_argument("pictures", nargs="+", help="pictures, folders of pictures, or patterns; or one video")
    predict.add_argument("--model", required=True, help=MODEL)
    predict.add_argument(
        "--out", type=Path, required=True, help=f"the folder to write, or the video ({', '.join(ENCODINGS)})"
    )
    predict.add_argument("--fps", type=_fps, help="frames per second of a video that is made of pictures (25)")
    predict.add_argument(
        "--runtime",
        choices=("onnx", "openvino", "ncnn"),
        help="what runs an exported folder or file (else torch runs a checkpoint, and others what they are for)",
    )
    predict.add_argument(
        "--labels", action="store_true", help="also write labels/: label files with the data set's official ids"
    )
    predict.add_argument("--overwrite", action="store_true", help="replace files that exist, but none that is read")
    predict.add_argument("--truth", type=Path, help="folder of label files: shows them beside, and tells the mIoU")
    predict.add_argument("--flip", action="store_true", help="average with the answer for the mirrored picture")
    predict.add_argument("--zoom", type=_zoom, default=1.0, help="above 1: this much larger, in overlapping windows")
    register = commands.add_parser("register", help="put the best row into MLflow's registry under the alias `best`")
    register.add_argument("--row", help="<row>-<seed>, in place of that of the highest mIoU")
    return parser


def _zoom(text: str) -> float:
    zoom = float(text)
    if not 1 <= zoom <= 8:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 8")
    return zoom


def _fps(text: str) -> Fraction:
    try:
        rate = Fraction(text).limit_denominator(10**6)  # ffmpeg counts in 32 bits
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to 1000, as 25, 29.97 or 30000/1001")
    return rate


def script() -> None:
    """What the installed command `effiseg` calls."""
    stage.run(main)


if __name__ == "__main__":
    script()
