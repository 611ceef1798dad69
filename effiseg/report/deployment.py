"""The deployment table: reports/deployment.csv, deployment.md and deployment.png, and the picture of predictions."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Prepared
from effiseg.deployment.tolerance import EXACT
from effiseg.report.style import footer, looks, new_figure, plain_style, save
from effiseg.report.tables import dimensions, markdown, number, percent
from effiseg.runs.places import PREDICTIONS, RUNS, Place
from effiseg.runs.records import REPAIR, DeploymentRecord, OptionsRecord, read_record

COLUMNS = (
    "experiment",
    "seed",
    "form",
    "size_mb",
    "latency_ms",
    "latency_p95_ms",
    "fps",
    "peak_memory_mb",
    "miou",
    "pixels_changed",
    "exact",
    "precision",
    "device",
    "threads",
)
FLOAT32 = {"torch_deployed_bf16": "torch_deployed", "onnx_fp16": "onnx", "onnx_int8": "onnx"}  # in the same runtime
_NOISE = 0.03  # of a ratio of latencies
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")

_EXPLANATION = f"""\
- `torch`: the network as trained. `torch_deployed`: with all folded that is linear. `torch_deployed_bf16`: that with
  its layers in bfloat16. All three come from one file of weights.
- `onnx`: the deployed form as a file for ONNX Runtime. `onnx_fp16`: its weights stored in float16, computed in float32.
  `onnx_int8`: its convolutions in 8 bits, calibrated on training images, its other weights stored in float16.
- `openvino`: the file of `onnx` in OpenVINO, where that was installed when the row was deployed.
- `ncnn`: the deployed form in float32 for ncnn, a file for each size of images, where that was installed too.
- Latency is from uint8 pixels to the class map of the same size, one image at a time, all forms in turn;
  peak memory is what opening the form and one image add to the process.
- Pixels changed: the share of the validation split's pixels that are predicted otherwise than by `torch`. A form that
  claims to be exact (float32) may change {EXACT:.2%}; the stage fails beyond that.
- To float32: how many times as fast as the same runtime's float32 form.
"""


def build_deployment(config: Config, data: Prepared, out: Path) -> pd.DataFrame:
    """Write deployment.csv, deployment.md, deployment.png and predictions.png into the folder `out`.

    Returns:
        The table, one line per training and form.

    Raises:
        EffiSegError: there is no result at all, or one is damaged.
    """
    files = {key: Place(*key).deployment for key in config.runs()}
    # a row that failed has none
    records = {key: read_record(file, DeploymentRecord) for key, file in files.items() if file.exists()}
    if not records:
        raise EffiSegError(f"{RUNS}: no row of the study has been deployed; {REPAIR}")
    options = read_record(PREDICTIONS / "options.json", OptionsRecord)
    frame = pd.DataFrame(_lines(records))
    out.mkdir(parents=True, exist_ok=True)
    # inside, so that the last steps are renames within one file system
    with TemporaryDirectory(dir=out, prefix=".partial-") as scratch:
        new = Path(scratch)
        frame.to_csv(new / "deployment.csv", index=False, lineterminator="\n")
        (new / "deployment.md").write_text(_page(config, data, records, options), encoding="utf-8", newline="\n")
        with plain_style():
            save(_figure(config, data, records), new / "deployment.png")
        shutil.copyfile(PREDICTIONS / "scenes.png", new / "predictions.png")
        for part in new.iterdir():
            part.replace(out / part.name)
    return frame


Records = dict[tuple[str, int], DeploymentRecord]


def _lines(records: Records) -> list[dict[str, object]]:
    lines = []
    for (row, seed), record in records.items():
        for form in record.forms:
            values = {"experiment": row, "seed": seed, **form.model_dump()}
            iou = {f"iou.{name}": value for name, value in form.iou.items()}
            lines.append({column: values[column] for column in COLUMNS} | iou)
    return lines


def _page(config: Config, data: Prepared, records: Records, options: OptionsRecord) -> str:
    size = dimensions(config.profile.size)
    devices = sorted({form.device for record in records.values() for form in record.forms})
    scenes = " (generated scenes)" if data.generated else ""
    parts = [
        "# From a row to a device\n",
        f"Every trained row in every form: {data.source}{scenes}, data digest {data.digest[:12]}; mIoU on the "
        f"validation split at full label resolution, in percent; latency at {size} on {', '.join(devices)}. "
        "`deployment.csv` has the same numbers in full, and IoU per class.\n",
        _EXPLANATION,
        *_without(config, records),
        "![mIoU against latency](deployment.png)\n",
    ]
    for (row, seed), record in records.items():
        parts += [f"## {Place(row, seed).name}\n", _form_table(record) + "\n"]
    parts += [
        "## Options at test time\n",
        f"`{options.run}`, deployed in torch on {options.device}, on the validation pictures as they were taken, "
        f"scaled to {dimensions(data.size)} first; latency is the median from the decoded picture to its class map. "
        "`zoom`: scaled to that many times the size, in windows that overlap by half.\n",
        _option_table(options) + "\n",
        "![Pictures, predictions and truth](predictions.png)\n",
    ]
    return "\n".join(parts)


def _without(config: Config, records: Records) -> list[str]:
    missing = [Place(*key).name for key in config.runs() if key not in records]
    return [f"Without a result, since they failed or have not run: {', '.join(missing)}.\n"] if missing else []


def _form_table(record: DeploymentRecord) -> str:
    header = [
        "form",
        "size, MB",
        "latency, ms",
        "p95, ms",
        "FPS",
        "to float32",
        "peak memory, MB",
        "mIoU",
        "pixels changed",
    ]
    latency = {form.form: form.latency_ms for form in record.forms}
    lines = []
    for form in record.forms:
        numbers = (form.size_mb, form.latency_ms, form.latency_p95_ms, form.fps)
        lines.append(
            [
                f"`{form.form}`",
                *(number(value) for value in numbers),
                _ratio(latency, form.form),
                number(form.peak_memory_mb),
                percent([form.miou]),
                f"{form.pixels_changed:.4%}",
            ]
        )
    return markdown(header, lines)


def _ratio(latency: dict[str, float], form: str) -> str:
    if form not in FLOAT32:
        return ""
    ratio = latency[FLOAT32[form]] / latency[form]
    return f"{ratio:.2f} (slower)" if ratio < 1 - _NOISE else f"{ratio:.2f}"


def _option_table(options: OptionsRecord) -> str:
    lines = [[each.option, percent([each.miou]), number(each.latency_ms)] for each in options.options]
    return markdown(["option", "mIoU", "latency, ms"], lines)


def _figure(config: Config, data: Prepared, records: Records) -> Figure:
    figure = new_figure(4.5, "mIoU against latency, one point per form")
    axes = figure.add_subplot()
    colours = looks(config)
    forms = list(dict.fromkeys(form.form for record in records.values() for form in record.forms))
    markers = {form: _MARKERS[i % len(_MARKERS)] for i, form in enumerate(forms)}
    for (row, _), record in records.items():
        for form in record.forms:
            colour = colours[row].colour
            axes.scatter(form.latency_ms, 100 * form.miou, s=28, color=colour, marker=markers[form.form], alpha=0.8)
    for name in dict.fromkeys(row for row, _ in records):
        axes.scatter([], [], s=28, color=colours[name].colour, marker="o", label=name)
    for name, marker in markers.items():
        axes.scatter([], [], s=28, color="#606060", marker=marker, label=name)
    axes.set(xscale="log", xlabel=f"latency at {dimensions(config.profile.size)}, ms", ylabel="mIoU, %")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(ScalarFormatter())  # 200 rather than 2 x 10^2
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    footer(figure, data)
    return figure
