from collections.abc import Callable
from dataclasses import replace
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest

from effiseg.data.prepared import Split
from effiseg.report.answer import answer
from effiseg.report.collect import collect
from effiseg.report.page import page
from effiseg.report.results import Results
from effiseg.report.statistics import Bootstrap, regions
from effiseg.report.summary import View, summarise, views

Make = Callable[..., Any]


def collected(study: Any) -> Results:
    return collect(study.config, study.root)


def text_of(study: Any) -> str:
    results = collected(study)
    return page(views(results))


def line_of(text: str, section: str, row: str) -> list[str]:
    """The cells of a table's line, without the row's name."""
    body = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    (line,) = [line for line in body.splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def shown(value: float) -> str:
    return f"{100 * value:.2f}"


def test_one_seed(make_study: Make) -> None:
    study = make_study()
    text = text_of(study)
    kd, baseline = study.metrics("kd"), study.metrics("baseline")
    scores = [shown(kd[key]) for key in ("miou", "miou_quarter", "pixel_accuracy", "miou_best")]
    delta = f"{100 * (kd['miou'] - baseline['miou']):+.2f}"
    cells = line_of(text, "Scores", "kd")
    assert cells == [scores[0], delta, cells[2], "one seed", *scores[1:], "10", "1"]
    assert line_of(text, "Scores", "baseline")[1] == "–"
    teacher = study.read("runs/teacher-0/metrics.json")
    assert line_of(text, "Scores", r"*teacher (b2)*")[:2] == [shown(teacher["miou"]), "–"]
    floor = study.read("floors.json")["colour_lookup"]
    assert line_of(text, "Scores", "*floor: colour lookup*")[0] == shown(floor["miou"])
    assert "**One seed**" in text
    assert text.startswith("# EffiSeg: comparison on synthetic (generated street scenes)\n")


def test_several_seeds_show_mean_and_spread(make_study: Make) -> None:
    study = make_study(study={"seeds": [0, 1, 2]})
    text = text_of(study)
    values = [100 * study.metrics("kd", seed)["miou"] for seed in (0, 1, 2)]
    gains = [value - 100 * study.metrics("baseline", seed)["miou"] for seed, value in enumerate(values)]
    cells = line_of(text, "Scores", "kd")
    assert cells[0] == f"{mean(values):.2f} ± {stdev(values):.2f}"
    assert cells[1] == f"{mean(gains):+.2f} ± {stdev(gains):.2f}"
    assert cells[-2:] == ["10 to 11", "3"]
    assert "over 3 seeds" in text and "**One seed**" not in text
    assert "for new trainings and new images of this kind: a paired bootstrap over the validation images, w" in text
    cars = [study.metrics("kd", seed)["iou"]["car"] for seed in (0, 1, 2)]
    assert line_of(text, "IoU per class", "car")[3] == shown(mean(cars))


def test_absent_classes_are_dashes_and_named(make_study: Make) -> None:
    text = text_of(make_study(absent=("train", "bus")))
    assert set(line_of(text, "IoU per class", "bus")) == {"–"}
    assert "hold no pixel of bus, train: '–'" in text
    assert "hold every class" in text_of(make_study(absent=()))


def test_no_class_at_all(make_study: Make) -> None:
    classes = list(make_study().metrics("baseline")["iou"])
    text = text_of(make_study(absent=classes))
    assert line_of(text, "Scores", "kd")[:3] == ["–", "–", "–"]


def test_generated_scenes_are_not_comparable(make_study: Make) -> None:
    text = text_of(make_study())
    assert "generated scenes, not photographs" in text and "**not comparable**" in text
    assert "Beside the paper" not in text


def test_camvid_is_not_comparable(make_study: Make) -> None:
    text = text_of(make_study(source="camvid", absent=()))
    assert "generated" not in text and "**not comparable**" in text
    assert len(line_of(text, "IoU per class", "bicyclist")) == 9


def test_frames_of_one_drive_are_drawn_in_blocks_and_speak_of_no_other(make_study: Make) -> None:
    """The gain comes with the second half of the drive: a few blocks leave its size open, single frames do not."""
    rows = {"experiments": ["baseline", "tanh"], "distillation": [], "seeds": [0, 1, 2]}
    study = make_study(source="camvid", absent=(), val=30, study=rows)
    for seed in (0, 1, 2):
        folders = (study.root / f"runs/{name}-{seed}/scores/images.npz" for name in ("baseline", "tanh"))
        before, after = (dict(np.load(path)) for path in folders)
        right = before["confusion"].sum(axis=2)[:, :, None] * np.eye(11, dtype=int)
        after["confusion"] = np.where(np.arange(30)[:, None, None] < 15, before["confusion"], right)
        np.savez(study.root / f"runs/tanh-{seed}/scores/images.npz", **after)
    results = collect(study.config, study.root)
    delta = summarise(results)[1].delta
    runs = [{run.seed: regions(run.confusion(results.data)) for run in results.of(name)} for name in results.rows]
    single = Bootstrap(np.arange(30))
    baseline, tanh = ({seed: single.replicate(counts) for seed, counts in of_row.items()} for of_row in runs)
    by_frame = single.differences(tanh, baseline, classes=11)[0]
    assert delta.mean == by_frame.mean
    assert delta.high - delta.low > 3 * (by_frame.high - by_frame.low)
    text = page(views(results))
    assert (
        "for new trainings and more of this one recording, no other street: a paired bootstrap over blocks of" in text
    )
    assert "new images of this kind" not in text
    assert answer(results, summarise(results))[0].startswith(
        "**Compared with the baseline over 3 seeds and 30 validation images of one recording,"
    )


def as_the_paper(results: Results, **changes: Any) -> Results:
    """Results as if of the whole of Cityscapes' validation split at the paper's sizes."""
    names = tuple(f"val_{i}" for i in range(500))
    val = Split(results.data.val.images, results.data.val.labels, names, tuple((name, 0) for name in names))
    data = replace(results.data, **{"val": val, "size": (512, 1024), "label_sizes": [(1024, 2048)]} | changes)
    return replace(results, data=data)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"val": None}, "4 validation images, and not all 500"),
        ({"size": (256, 512)}, "images at 256x512, and not at 512x1024"),
        ({"label_sizes": [(512, 1024)]}, "labels at 512x1024, and not at 1024x2048"),
    ],
)
def test_another_measurement_does_not_stand_beside_the_paper(make_study: Make, changes: dict, told: str) -> None:
    results = collected(make_study(source="cityscapes"))
    summaries = summarise(results)
    results = as_the_paper(results, **changes | ({"val": results.data.val} if "val" in changes else {}))
    text = page({results.split: View(results, summaries)})
    assert f"**Not comparable** with the paper's table: {told}." in text
    assert "Beside the paper" not in text


def test_the_official_mean_is_told_where_it_is_another(make_study: Make) -> None:
    study = make_study(absent=["bus"])  # which the made-up networks find
    told = text_of(study).split("and would print: ")[1].split(".\n")[0].split(", ")
    metrics = study.metrics("tanh")
    assert metrics["miou_official"] < metrics["miou"]
    assert f"tanh-0 {shown(metrics['miou_official'])}" in told


def test_cityscapes_stands_beside_the_paper_on_its_protocol(make_study: Make) -> None:
    study = make_study(source="cityscapes")
    results = collected(study)
    text = page({results.split: View(as_the_paper(results), summarise(results))})
    assert "comparable**" not in text and "quarter grid" in text
    cells = line_of(text, "Beside the paper", "tanh_linear")
    assert cells[:2] == [shown(study.metrics("tanh_linear")["miou_quarter"]), "59.646"]
    assert cells[2:6] == ["3.72", "3.72", "13.60", "13.73"]
    assert cells[7] == "126.22"
    assert line_of(text, "Beside the paper", "combined")[1::2] == ["–"] * 4
    assert line_of(text, "Beside the paper", "*teacher*")[1::2] == ["76.49", "27.36", "114.09", "35.58"]


def test_header_says_where_rows_part(make_study: Make) -> None:
    study = make_study(
        experiments={"baseline": {}, "quarter": {"loss": {"resolution": "quarter"}}},
        study={"experiments": ["baseline", "quarter"], "distillation": []},
    )
    study.change("runs/quarter-0/record.json", epochs=20, git_commit="")
    text = text_of(study)
    assert "| epochs | 12: baseline; 20: quarter |" in text
    assert "upsampled to the training labels' size): baseline; quarter (the training labels are shrunk" in text
    assert "git commit: 0123abc: baseline; unknown (not in a git repository): quarter" in text
    assert "distilled rows: none" in text


def test_rows_are_told_by_their_differences(make_study: Make) -> None:
    text = text_of(make_study())
    assert "- **tanh**: `model.norms.patch_embedding: dyt`\n" in text
    assert "- **baseline**: nothing" in text


def test_speed_at_both_sizes(make_study: Make) -> None:
    study = make_study()
    text = text_of(study)
    speeds = study.read("runs/tanh-0/profile.json")["speeds"]
    costs = text.split("\n## Cost\n")[1].split("\n## ")[0]
    counts, *tables = (part for part in costs.split("\n\n") if part.startswith("| row |"))
    assert line_of(f"\n## Cost\n{counts}", "Cost", "tanh") == ["3.72", "17.80", "13.60", "9.20", "9.10"]
    assert "At 512x1024:" in costs and "At 32x64:" in costs
    for table, at_size in zip(tables, (speeds[:2], speeds[2:]), strict=True):
        numbers = [f"{speed[key]:.2f}" for speed in at_size for key in ("fps", "latency_ms", "latency_p95_ms")]
        assert line_of(f"\n## Cost\n{table}", "Cost", "tanh") == numbers
        assert table.startswith(
            "| row | FPS, as trained | latency, as trained (ms) | p95, as trained (ms) | FPS, deployed |"
        )
    information = study.read("runs/tanh-0/record.json")
    assert line_of(text, "What training took", "tanh")[:4] == [
        *[f"{information['train_minutes']:.2f}"] * 2,  # of one process
        "17.25",
        "1234.50",
    ]


def test_what_was_not_profiled_has_no_cost(make_study: Make) -> None:
    study = make_study(study={"seeds": [0, 1]})
    for run in ("tanh-0", "tanh-1", "kd-0", "teacher-0"):
        (study.root / f"runs/{run}/profile.json").unlink()
    text = text_of(study)
    costs = text.split("\n## Cost\n")[1].split("\n## ")[0]
    counts, *tables = (part for part in costs.split("\n\n") if part.startswith("| row |"))
    for row in ("tanh", "*teacher*"):
        assert line_of(f"\n## Cost\n{counts}", "Cost", row) == ["–"] * 5
        assert all(line_of(f"\n## Cost\n{table}", "Cost", row) == ["–"] * 6 for table in tables)
    assert line_of(f"\n## Cost\n{counts}", "Cost", "kd")[0] == "3.72"  # of the other seed
    assert len(tables) == 2


def test_without_any_profile_the_page_says_so(make_study: Make) -> None:
    study = make_study(source="cityscapes")
    for file in study.root.glob("runs/*/profile.json"):
        file.unlink()
    results = collected(study)
    text = page({results.split: View(as_the_paper(results), summarise(results))})
    assert "No row was profiled: its parameters, multiply-adds and speed are not known." in text
    assert line_of(text, "Cost", "tanh") == ["–"] * 5
    assert line_of(text, "Beside the paper", "tanh_linear")[2::2] == ["–"] * 3
    assert "FPS, as trained" not in text and "ours are from no machine yet at 512x1024" in text


def test_without_a_baseline_the_page_says_so(make_study: Make) -> None:
    text = text_of(make_study(study={"experiments": ["tanh"], "distillation": []}))
    assert "There is no row named `baseline`" in text
    assert line_of(text, "Scores", "tanh")[1] == "–"


def test_provenance(make_study: Make) -> None:
    study = make_study()
    text = text_of(study)
    digest = study.read("runs/teacher-0/record.json")["weights_digest"]
    assert f"weights from `weights/b2.safetensors`, not trained here, digest `{digest}`" in text
    assert "mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225)" in text
    assert study.read("prepared/index.json")["digest"] in text


def test_what_rows_start_from_is_said_with_its_licence(make_study: Make) -> None:
    study = make_study()
    assert "first weights: drawn, in every row" in text_of(study)
    for row in ("tanh", "kd"):
        study.change(f"runs/{row}-0/record.json", origin="huggingface a/b at 0a", licence="research-only")
    drawn = "baseline, tanh_linear, dice_focal, combined"
    told = f"first weights: drawn: {drawn}; from huggingface a/b at 0a (licence: research-only): tanh, kd"
    assert told in text_of(study)


def test_a_study_without_a_teacher_says_so(make_study: Make) -> None:
    text = text_of(make_study(study={"teachers": [], "distillation": []}))
    assert "none: this study has no teacher" in text
    assert "*teacher" not in text
