"""Data sets of eight kinds from `data init` to the report, exported files, predictions and the served model."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from ruamel.yaml import YAML

from effiseg.base.config import Config, merge, read_yaml
from effiseg.base.files import write_json, write_text
from effiseg.data.dataset import open_dataset
from effiseg.data.fit import fit_picture, placed
from effiseg.data.label_files import read_label
from effiseg.data.prepared import Prepared
from effiseg.deployment.checkpoint import open_checkpoint, write_checkpoint
from effiseg.deployment.export import export_files
from effiseg.deployment.predict import predict
from effiseg.deployment.predictor import Predictor
from effiseg.deployment.profile import profile
from effiseg.deployment.runtimes import OnnxSegmenter
from effiseg.deployment.targets import name_outputs
from effiseg.evaluation.score import score_row
from effiseg.intake.init import init
from effiseg.intake.inspect import inspect
from effiseg.models.segformer import load_model
from effiseg.preparation.floors import FLOORS
from effiseg.preparation.prepare import prepare
from effiseg.report.build import build_report
from effiseg.runs.finished import find_run
from effiseg.runs.places import Place
from effiseg.runs.records import Profile, RunMetrics, RunRecord, write_record
from effiseg.tracking.served import ServedModel
from effiseg.training.train import train_row
from tests.conftest import REPOSITORY
from tests.datasets.made_up import KINDS, Kind, Labels, write
from tests.deployment.conftest import narrow

CPU = torch.device("cpu")
TINY = {
    "train": {"epochs": 1, "batch_size": 4, "augment": {"crop": [32, 64], "scale": [0.8, 1.2]}},
    "profile": {"size": [64, 64], "repeats": 1},
    "study": {"experiments": ["baseline"], "teachers": [], "distillation": []},
    "deploy": {"calibration": 2},
}


def quick(*names: str) -> list[Any]:
    """All kinds; those that are not named are left to `make test-all`."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in KINDS]


class Chain:
    """One data set with a finished row of narrow stages, in a folder of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.kind: Kind = KINDS[name]
        self.folder, self.root = folder, folder / "my data (ü)"
        self.truth = write(self.kind, self.root)
        self.told = init(self.root)
        self.table = self.root / "dataset.yaml"
        if self.kind.table:
            yaml = YAML()
            content = yaml.load(self.table)
            content.update(self.kind.table)
            yaml.dump(content, self.table)
        fit = "pad" if len(self.kind.sizes) > 1 else "squash"
        data = {"source": str(self.table), "root": str(self.root), "size": [32, 64], "fit": fit}
        self.config = Config.model_validate(merge(read_yaml(REPOSITORY / "params.yaml"), {"data": data, **TINY}))
        prepare(self.config.data, folder / "prepared", workers=1)
        self.data = Prepared.open(folder / "prepared")
        self.place = Place("baseline", 0, folder)
        self._run()

    def _run(self) -> None:
        row = self.config.row("baseline")
        checkpoints = self.folder / "checkpoints"
        training = train_row(row, 0, self.data, checkpoints, self.place.model, teacher=None, on_log=lambda *_: None)
        assert training is not None
        how = {key: value for key, value in asdict(training).items() if key != "history"}
        what = {"experiment": "baseline", "seed": 0, "identity": "0" * 16, "data_source": self.data.source}
        digests = {"data_digest": self.data.digest, "teacher_digest": None, "start_digest": None}
        digests |= {"weights_digest": "0" * 64}
        write_record(self.place.record, RunRecord.model_validate(what | how | digests | {"git_commit": "0" * 40}))
        write_text(self.place.history, training.history.to_csv(index=False))
        self.place.scores.mkdir()
        last, best = score_row(self.place.model, self.data, self.place.scores, batch_size=2, device=CPU)
        write_record(self.place.metrics, RunMetrics.model_validate(last.report() | best.report("_best")))
        costs = profile(row.model, self.data.classes, [[64, 64], [32, 64]], repeats=1, device=CPU)
        write_record(self.place.profile, Profile.model_validate(costs))
        write_json(self.folder / "floors.json", {name: floor(self.data).report() for name, floor in FLOORS.items()})

    @property
    def metrics(self) -> dict[str, object]:
        return json.loads(self.place.metrics.read_text())


@pytest.fixture(scope="module", params=list(KINDS))
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    with narrow(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Chain(request.param, folder)


def meant(chain: Chain) -> dict[Path, Labels]:
    """Label file -> trainIds as the made-up class numbers and the table mean them."""
    if chain.kind.classes == 2 and len(chain.data.classes) == 1:
        return {path: np.where(labels == 1, 0, 255) for path, labels in chain.truth.items()}
    values = sorted({int(value) for labels in chain.truth.values() for value in np.unique(labels)})
    order = np.searchsorted(values, np.arange(chain.kind.classes)) if len(values) < chain.kind.classes else None
    if chain.data.space.by_colour:  # classes stand in the order of their colours
        order = np.argsort(np.argsort([(128, 0, 0)[0] << 16, (64 << 8) | 64, (255 << 16) | (255 << 8)]))
    return {path: labels if order is None else order[labels] for path, labels in chain.truth.items()}


def test_the_table_that_init_writes_fits_the_files(chain: Chain) -> None:
    found = inspect(open_dataset(str(chain.table)), chain.root, workers=1)
    assert found.problems == []
    assert {split: len(each.pairs) for split, each in found.splits.items()} == {"train": 6, "val": 3}
    space = chain.data.space
    for path, labels in meant(chain).items():
        np.testing.assert_array_equal(read_label(path, space), labels)


def test_the_scores_equal_an_independent_computation(chain: Chain) -> None:
    network, truth = load_model(chain.place.last), meant(chain)
    classes = len(chain.data.classes)
    hits, union, held = (np.zeros(classes) for _ in range(3))
    labels = [path for path in sorted(truth) if "val" in path.relative_to(chain.root).as_posix()]
    assert len(labels) == 3
    for path in labels:
        number = path.stem.split(" ")[1]
        (image,) = (file for file in chain.root.rglob(f"bild {number} ä.*") if "val" in str(file) and file != path)
        picture = Image.open(image).convert("RGB")
        shape = (picture.height, picture.width)
        pixels = fit_picture(picture, (32, 64), chain.config.data.fit)
        with torch.no_grad():
            logits = network(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
        height, width = placed(shape, (32, 64), chain.config.data.fit)
        whole = [max(a, round(a * b / c)) for a, b, c in zip(shape, (32, 64), (height, width), strict=True)]
        upsampled = F.interpolate(logits, size=whole, mode="bilinear", align_corners=False)
        found = upsampled[0, :, : shape[0], : shape[1]].argmax(dim=0).numpy()
        valid = truth[path] != 255 if classes < 150 else np.full(shape, True)
        for each in range(classes):
            actual, predicted = (truth[path] == each) & valid, (found == each) & valid
            hits[each] += (actual & predicted).sum()
            union[each] += (actual | predicted).sum()
            held[each] += actual.sum()
    iou = hits[held > 0] / union[held > 0]
    assert chain.metrics["miou"] == pytest.approx(iou.mean(), abs=2e-3)  # of a deployed form: rounded otherwise
    assert 0 <= iou.mean() <= 1


@pytest.mark.parametrize("chain", quick("many classes", "differing sizes", "one class and void"), indirect=True)
def test_the_report_is_written_in_the_data_sets_words(chain: Chain, tmp_path: Path) -> None:
    build_report(chain.config, chain.folder, tmp_path / "reports")
    page = (tmp_path / "reports/comparison.md").read_text()
    assert chain.data.title in page
    assert "not comparable" in page
    assert all(name in page for name in chain.data.classes[:3])


@pytest.mark.slow
@pytest.mark.parametrize("chain", quick("differing sizes"), indirect=True)
def test_exported_files_bear_the_classes(chain: Chain, tmp_path: Path) -> None:
    run = find_run(chain.config, chain.data, "baseline-0")
    export_files(run.load(), run.card, chain.data, tmp_path, calibration=2, graphs=chain.folder.parent / "graphs")
    opened = OnnxSegmenter(tmp_path / "model.onnx")
    assert opened.card == open_checkpoint(tmp_path / "checkpoint")[1] == run.card
    assert opened.card.space == chain.data.space


def test_a_checkpoint_answers_without_the_data_set_and_label_files_come_out_as_they_went_in(
    chain: Chain, tmp_path: Path
) -> None:
    run = find_run(chain.config, chain.data, "baseline-0")
    write_checkpoint(run.load(), tmp_path / "checkpoint", run.card)
    network, card = open_checkpoint(tmp_path / "checkpoint")

    images = [file for file in chain.root.rglob("bild * ä.*") if file not in chain.truth and "val" in str(file)]
    outputs = name_outputs(images, tmp_path / "out", labels=True)
    (tmp_path / "out/labels").mkdir(parents=True)
    predictor = Predictor(network, card.size, card.fit, CPU)
    answer = predict(predictor, card.space, outputs)
    assert (answer.written, answer.problems) == (3, [])
    served = ServedModel()
    served.load_context(SimpleNamespace(artifacts={"checkpoint": str(tmp_path / "checkpoint")}))
    for image, target in outputs.items():
        (found,) = predictor([Image.open(image).convert("RGB")])
        assert target.label is not None
        written = np.asarray(Image.open(target.label))
        originals = {tuple(np.atleast_1d(v)) for v in _values(written)}
        assert originals <= {
            tuple(np.atleast_1d(v)) for path in chain.truth for v in _values(np.asarray(Image.open(path)))
        }
        np.testing.assert_array_equal(read_label(target.label, card.space), found)
        (answered,) = served.predict(None, {"image": [image.read_bytes()]})
        assert (answered != found).mean() < 1e-3


def _values(array: np.ndarray) -> np.ndarray:
    return np.unique(array.reshape(-1, *array.shape[2:]), axis=0)
