from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from effiseg.base.errors import EffiSegError
from effiseg.data.predictions import write_predictions
from effiseg.report.classes import class_distribution, class_iou_radar
from effiseg.report.collect import collect
from effiseg.report.curves import miou_per_epoch, training_loss
from effiseg.report.evidence import class_gains, cost_and_gain, gains
from effiseg.report.figures import FIGURES, write_figures
from effiseg.report.results import Results
from effiseg.report.samples import extreme_images, norm_scatter, panels
from effiseg.report.style import looks, plain_style, save
from effiseg.report.summary import RowSummary, summarise, views
from effiseg.report.tables import interval, points

Make = Callable[..., Any]
GROWING = ("class_gains", "class_iou_radar", "training_loss", "extreme_images", "panels")  # with the number of rows


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with plain_style():
        yield


def results_of(study: Any) -> Results:
    return collect(study.config, study.root)


def summed_up(study: Any) -> tuple[Results, dict[str, RowSummary]]:
    results = results_of(study)
    return results, {row.experiment: row for row in summarise(results)}


def draw_all(study: Any, folder: Path) -> list[Path]:
    folder.mkdir()
    results = results_of(study)
    return [figure.path for figure in write_figures(views(results), folder)]


def check_files(paths: list[Path]) -> None:
    for path in paths:
        assert path.stat().st_size < 1e6, path.name
        with Image.open(path) as image:
            assert 600 < image.width < 1300 and 200 < image.height < 2500, path.name
            assert "Software" not in image.info


def titles(figure: Figure) -> list[str]:
    return [axes.get_title("left") or axes.get_title() for axes in figure.axes]


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def test_all_figures_are_readable_small_and_the_same_each_time(make_study: Make) -> None:
    study = make_study(study={"experiments": ["baseline", "tanh"], "distillation": ["kd"], "seeds": [0, 1]})
    contents = []
    for name in ("first", "second"):
        paths = draw_all(study, study.root / name)
        assert [path.name for path in paths] == [f"{figure}.png" for figure in FIGURES]
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    check_files(paths)


def test_figures_name_the_data(make_study: Make) -> None:
    """Also where there is nothing to compare."""
    results = results_of(make_study(study={"experiments": ["baseline"], "distillation": []}))
    for drawing in FIGURES.values():
        figure = drawing.draw(results, summarise(results))
        assert f"synthetic (generated scenes), digest {results.data.digest[:12]}" in words(figure)


def test_a_rows_look_does_not_depend_on_the_study(make_study: Make) -> None:
    full, part = make_study().config, make_study(study={"experiments": ["tanh"], "distillation": []}).config
    assert looks(full) == looks(part)
    assert len(set(looks(full).values())) == len(full.experiments)


def test_rows_far_down_in_params_yaml_are_drawn_too(make_study: Make, tmp_path: Path) -> None:
    rows = {"baseline": {}, **{f"row{number}": {} for number in range(44)}}
    listed = {"experiments": ["baseline", "row36", "row43"], "distillation": []}
    results = results_of(make_study(experiments=rows, study=listed))
    styles = {line.get_label(): line.get_linestyle() for line in miou_per_epoch(results).axes[0].lines}
    assert styles["row36"] != styles["baseline"]
    write_figures(views(results), tmp_path)


def test_class_distribution(make_study: Make) -> None:
    results = results_of(make_study())
    axes = class_distribution(results.data).axes[0]
    assert axes.get_yscale() == "log"
    counts = results.data.pixel_counts["train"]
    heights = [bar.get_height() for bar in axes.containers[0]]
    assert heights == pytest.approx([100 * count / sum(counts) for count in counts])
    assert axes.containers[0][0].get_facecolor()[:3] == pytest.approx([128 / 255, 64 / 255, 128 / 255])


def test_curves(make_study: Make) -> None:
    study = make_study(study={"seeds": [0, 1]})
    results = results_of(study)
    assert titles(training_loss(results)) == results.experiments  # the teacher's history is empty
    axes = miou_per_epoch(results).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    expected = np.mean([run.history["miou"] for run in results.of("kd")], axis=0)
    np.testing.assert_allclose(lines["kd"].get_ydata(), 100 * expected)
    assert lines["teacher"].get_ydata()[0] == 100 * results.teachers[0].metrics.miou
    assert lines["kd"].get_color() == looks(study.config)["kd"].colour


def test_a_trained_teacher_has_a_loss_panel(make_study: Make) -> None:
    study = make_study()
    (study.root / "runs/teacher-0/history.csv").write_text("epoch,step,loss,miou\n1,30,2.0,0.1\n2,60,1.0,0.2\n")
    assert titles(training_loss(results_of(study)))[-1] == "teacher"


def test_radar_leaves_absent_classes_out(make_study: Make) -> None:
    study = make_study(absent=("train", "bus"))
    figure = class_iou_radar(results_of(study))
    assert titles(figure) == ["tanh", "tanh_linear", "kd", "dice_focal", "combined"]
    baseline, tanh = figure.axes[0].lines
    iou = [value for value in study.metrics("tanh")["iou"].values() if value is not None]
    np.testing.assert_allclose(tanh.get_ydata(), [100 * value for value in [*iou, iou[0]]])
    assert len(baseline.get_ydata()) == 17 + 1
    assert "absent from the validation labels: bus, train" in words(figure)


def test_norm_scatter_has_a_block_per_arrangement(make_study: Make) -> None:
    results = results_of(make_study())
    figure = norm_scatter(results)
    headings = [part.get_suptitle() for part in figure.subfigs]
    assert headings == ["baseline, kd, dice_focal", "tanh", "tanh_linear, combined"]
    assert [axes.get_title().split("\n")[1] for axes in figure.subfigs[2].axes] == [
        *["DyT"] * 4,
        *["DyL"] * 3,
        "LayerNorm",
    ]
    points = figure.subfigs[1].axes[0].collections[0].get_offsets()
    norm = results.of("tanh")[0].norms()["stage1.patch_embedding"]
    np.testing.assert_allclose(points, np.stack([norm.inputs, norm.outputs], axis=1))


def test_panels_show_truth_and_predictions_in_the_data_sets_colours(make_study: Make) -> None:
    results = results_of(make_study())
    figure = panels(results)
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == ["image", "truth", *results.experiments]
    truth = figure.axes[4].images[0].get_array()
    label = results.data.val.labels[0]
    assert tuple(truth[0, 0]) == results.data.colours[label[0, 0]]
    assert tuple(truth[-1, 0]) == (0, 0, 0)  # void
    (prediction,) = results.of("baseline")[0].predictions([results.data.val.names[0]], results.data.label_sizes)
    np.testing.assert_array_equal(
        figure.axes[8].images[0].get_array(), np.array(results.data.colours, np.uint8)[prediction]
    )


def test_panels_of_another_data_set_are_refused(make_study: Make) -> None:
    study = make_study()
    with write_predictions(study.root / "runs/tanh-0/scores/predictions.zip") as add:
        for i in range(4):
            add(f"val_{i}", np.zeros((8, 16), np.uint8))
    with pytest.raises(EffiSegError, match=r"tanh-0/scores/predictions.zip: does not fit .*dvc repro"):
        panels(results_of(study))


@pytest.mark.slow
def test_thirty_four_rows(make_study: Make) -> None:
    """As many as the widest preset has: pictures show the first of them and say so, the rest shows all."""
    names = ["baseline", *(f"a_longer_name_{i}" for i in range(33))]
    study = make_study(experiments={name: {} for name in names}, study={"experiments": names, "distillation": []})
    results, rows = summed_up(study)
    drawn = {name: drawing.draw(results, list(rows.values())) for name, drawing in FIGURES.items() if name in GROWING}
    check_files([save(figure, study.root / f"{name}.png") for name, figure in drawn.items()])
    assert len({(look.colour, look.line) for look in looks(study.config).values()}) == 34
    assert len(drawn["training_loss"].axes) == 34
    assert len(drawn["class_gains"].axes[0].get_yticks()) == 33
    assert "15 more rows not shown" in words(drawn["class_iou_radar"])
    assert "22 more rows not shown" in words(drawn["panels"])
    assert "21 more rows not shown" in words(drawn["extreme_images"])


def test_forest_plot_shows_every_row_with_its_interval(make_study: Make) -> None:
    study = make_study(study={"seeds": [0, 1, 2]})
    (study.root / "runs/tanh-1/record.json").unlink()
    for seed in (0, 1, 2):
        (study.root / f"runs/kd-{seed}/record.json").unlink()
    results, rows = summed_up(study)
    axes = gains(results, list(rows.values())).axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown[-1] == "kd" and set(shown) == {*rows} - {"baseline"}
    means = [rows[name].delta.mean for name in shown[:-1]]
    assert means == sorted(means, reverse=True)
    texts = [text.get_text() for text in axes.texts]
    delta = rows["tanh"].delta
    assert f"{points(delta.mean)} ({interval(delta)}) {rows['tanh'].verdict}" in texts
    assert texts[-1] == "no result"
    place = shown.index("tanh")
    line, seeds = axes.lines[3 * place], axes.lines[3 * place + 1]
    np.testing.assert_allclose(line.get_xdata(), [100 * delta.low, 100 * delta.high])
    assert len(seeds.get_xdata()) == 2


def test_heat_map_marks_what_leaves_zero_out(make_study: Make) -> None:
    results, rows = summed_up(make_study(study={"seeds": [0, 1, 2]}))
    axes = class_gains(results, list(rows.values())).axes[0]
    cells = [
        cell
        for name, row in rows.items()
        if name != "baseline"
        for cell in (row.delta, *(value for key, value in row.class_deltas.items() if key not in results.absent))
    ]
    assert [text.get_text() for text in axes.texts] == [points(cell.mean) for cell in cells]
    bold = [text.get_fontweight() == "bold" for text in axes.texts]
    assert bold == [cell.verdict in ("better", "worse") for cell in cells]
    assert len(axes.patches) == sum(bold) > 0


def test_cost_against_gain(make_study: Make) -> None:
    results, rows = summed_up(make_study(study={"seeds": [0, 1]}))
    axes = cost_and_gain(results, list(rows.values())).axes[0]
    kd = rows["kd"]
    assert (60 * kd.device_hours, 100 * kd.delta.mean) in [tuple(line.get_xydata()[0]) for line in axes.lines]
    assert (60 * rows["baseline"].device_hours, 0) in [tuple(line.get_xydata()[0]) for line in axes.lines]
    assert {text.get_text() for text in axes.texts} == {*rows} - {"baseline"}


def test_images_of_the_largest_gain_and_loss(make_study: Make) -> None:
    """Seed 1 is missing of one row: its images are chosen and averaged over the seeds that both rows have."""
    study = make_study(study={"experiments": ["baseline", "tanh"], "distillation": [], "seeds": [0, 1, 2]})
    (study.root / "runs/tanh-1/record.json").unlink()
    results, rows = summed_up(study)

    def own_miou(name: str, seed: int) -> list[float]:
        """Counted the long way."""
        (run,) = [run for run in results.of(name) if run.seed == seed]
        found = []
        for confusion in run.confusion(results.data):
            held = [i for i in range(len(confusion)) if confusion[i].sum()]
            ious = [confusion[i, i] / (confusion[i].sum() + confusion[:, i].sum() - confusion[i, i]) for i in held]
            found.append(float(np.mean(ious)))
        return found

    expected = np.mean([np.subtract(own_miou("tanh", s), own_miou("baseline", s)) for s in (0, 2)], axis=0)
    np.testing.assert_allclose(rows["tanh"].image_deltas, expected)
    figure = extreme_images(results, list(rows.values()))
    best, worst = expected.argmax(), expected.argmin()
    assert [title for title in titles(figure) if title] == [
        f"best: {100 * expected[best]:+.2f}, val_{best}",
        f"worst: {100 * expected[worst]:+.2f}, val_{worst}",
    ]
    palette = np.array(results.data.colours, np.uint8)
    (prediction,) = results.of("tanh")[0].predictions([f"val_{best}"], results.data.label_sizes)
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), palette[prediction])


def test_labels_without_any_class(make_study: Make) -> None:
    study = make_study()
    study = make_study(absent=list(study.metrics("baseline")["iou"]))
    folder = study.root / "figures"
    folder.mkdir()
    results = results_of(study)
    assert len(class_iou_radar(results).axes) == 0
    assert class_distribution(results.data).axes[0].get_yscale() == "linear"
    assert miou_per_epoch(results).axes
