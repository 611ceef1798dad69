"""A row's network before training: drawn, or of a checkpoint that must fit it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Row
from effiseg.models.segformer import Segmenter, build_model, save_model
from effiseg.models.start import start_model
from effiseg.weights.source import Checkpoint, Source


@pytest.fixture
def row_from(make_config: Callable[..., Config]) -> Callable[..., Row]:
    """The baseline with this start and these settings of its model."""

    def make(start: dict[str, Any], **model: Any) -> Row:
        return make_config(experiments={"baseline": {"start": start, "model": model}}).row("baseline")

    return make


@pytest.fixture
def saved(model: Segmenter, classes: list[str], tmp_path: Path) -> Checkpoint:
    """The checkpoint of a network whose every value is its own, and whose classes are known."""
    save_model(model, tmp_path / "last")
    return Checkpoint(tmp_path / "last" / "model.safetensors", Source(origin="elsewhere", classes=list(classes)))


@pytest.fixture
def row(row_from: Callable[..., Row]) -> Row:
    """The baseline, which starts from a whole network."""
    return row_from({"source": "file", "path": "x"})


def test_drawn_weights_are_those_of_the_global_seed_and_of_no_file(tiny: None, row_from, classes):
    row = row_from({"source": "drawn", "path": "unused"})
    torch.manual_seed(3)
    expected = build_model(row.model, classes).state_dict()
    torch.manual_seed(3)
    started = start_model(row, classes, None)
    assert (started.source.origin, started.loaded) == ("", None)
    assert all(torch.equal(value, expected[name]) for name, value in started.model.state_dict().items())


def test_the_weights_of_a_checkpoint_are_loaded_whole(row, model, saved, classes, pixels):
    started = start_model(row, classes, saved)
    found = started.model
    assert started.source == saved.source
    assert started.loaded is not None
    assert (started.loaded.drawn, started.loaded.left_aside, started.loaded.why) == ([], [], [])
    expected, images = model.network.state_dict(), pixels(2, 3, 32, 64)
    assert found.network.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.network.state_dict().items())
    with torch.no_grad():
        assert torch.equal(found.eval()(images), model(images))


def test_another_normalisation_than_the_checkpoints_is_a_warning(row, saved, classes, capsys):
    start_model(row, classes, replace(saved, source=Source(origin="elsewhere", mean=row.model.mean, std=[1, 1, 1])))
    told = f"warning: model.std is {row.model.std}, but elsewhere was trained with [1.0, 1.0, 1.0]\n"
    assert capsys.readouterr().err == told


def test_norms_of_another_kind_stay_as_drawn_and_it_is_said(row_from, saved, model, classes):
    row = row_from({"source": "file", "path": "x"}, norms={"block": "dyl"})
    torch.manual_seed(4)
    drawn = build_model(row.model, classes).network.state_dict()
    torch.manual_seed(4)
    started = start_model(row, classes, saved)
    assert started.loaded is not None
    found, kept = started.model.network.state_dict(), model.network.state_dict()
    others = [name for name in found if "layernorm_before" in name or "layernorm_after" in name]
    assert sorted(started.loaded.drawn) == sorted(others)
    assert all(torch.equal(found[name], drawn[name]) for name in others)
    assert all(torch.equal(found[name], kept[name]) for name in found if name not in others)
    norms = len({name.rpartition(".")[0] for name in others})
    assert started.loaded.told().endswith(f"; {norms} norms are drawn: the checkpoint has LayerNorms there")


@pytest.mark.parametrize("kind", ["dyt", "dyl", "derf"])
def test_norms_of_another_kind_are_fitted_to_the_layer_norms_by_images(row_from, saved, model, classes, pixels, kind):
    row, images = row_from({"source": "file", "path": "x"}, norms={"block": kind}), pixels(5, 3, 32, 64)
    drawn = start_model(row, classes, saved).model.eval()
    started = start_model(row, classes, saved, images)
    fitted = started.model.eval()
    assert started.loaded is not None
    assert started.loaded.drawn == []
    norms = len(started.loaded.norms)
    assert norms == sum("layernorm_" in name and name.endswith(".bias") for name in fitted.state_dict())
    assert started.loaded.told().endswith(f"; {norms} norms are fitted to the checkpoint's LayerNorms, by 5 images")
    others = [name for name in fitted.state_dict() if "layernorm_before" not in name and "layernorm_after" not in name]
    assert all(torch.equal(fitted.state_dict()[name], drawn.state_dict()[name]) for name in others)
    with torch.no_grad():
        expected, near, far = model(images), fitted(images), drawn(images)
    assert (near - expected).abs().mean() < 0.5 * (far - expected).abs().mean()


def test_batch_norm_is_fitted_to_the_lines_that_dyl_is_fitted_to(row_from, saved, classes, pixels):
    images = pixels(5, 3, 32, 64)

    def fitted(kind: str) -> torch.nn.Module:
        row = row_from({"source": "file", "path": "x"}, norms={"block": kind})
        return start_model(row, classes, saved, images).model.eval()

    with torch.no_grad():
        torch.testing.assert_close(fitted("batchnorm")(images), fitted("dyl")(images), atol=1e-4, rtol=1e-4)


def test_a_row_whose_norms_were_fitted_is_not_what_it_started_from(make_config, saved, classes, pixels):
    row = {"start": {"source": "file", "path": "x"}, "train": {"epochs": 0}, "model": {"norms": {"block": "dyl"}}}
    config = make_config(experiments={"baseline": row})
    with pytest.raises(EffiSegError, match=r"not all of it is in what it starts from.* norms are drawn"):
        start_model(config.row("baseline"), classes, saved, pixels(2, 3, 32, 64))


def test_an_encoder_comes_without_its_head(row_from, saved, model, classes):
    row = row_from({"source": "file", "path": "x", "part": "encoder"})
    torch.manual_seed(5)
    drawn = build_model(row.model, classes).network.state_dict()
    torch.manual_seed(5)
    started = start_model(row, [*classes[1:], "another"], saved)
    found, kept = started.model.network.state_dict(), model.network.state_dict()
    for name, value in found.items():
        assert torch.equal(value, (kept if name.startswith("segformer.") else drawn)[name])
    assert started.loaded is not None
    assert all(name.startswith("decode_head.") for name in started.loaded.left_aside)


def test_a_classifier_of_other_classes_is_drawn_and_one_of_another_order_put_in_order(row, saved, model, classes):
    own = model.network.state_dict()["decode_head.classifier.weight"]
    turned = start_model(row, classes[::-1], saved)
    assert torch.equal(turned.model.network.state_dict()["decode_head.classifier.weight"], own.flip(0))
    fewer = start_model(row, classes[2:5], saved)  # all known by their names
    assert torch.equal(fewer.model.network.state_dict()["decode_head.classifier.weight"], own[2:5])
    other = start_model(row, [*classes[1:], "another"], saved)
    assert other.loaded is not None
    assert sorted(other.loaded.drawn) == ["decode_head.classifier.bias", "decode_head.classifier.weight"]
    assert other.loaded.why == ["the classifier is drawn: the checkpoint's classes have other names"]
    more = start_model(row, [*classes, "another"], saved)
    assert more.loaded is not None
    assert more.loaded.why == [
        f"the classifier is drawn: the checkpoint knows {len(classes)} classes, the data set {len(classes) + 1}"
    ]
    nameless = start_model(row, [*classes[1:], "another"], replace(saved, source=Source(origin="elsewhere")))
    assert nameless.loaded is not None and "does not name its classes" in nameless.loaded.why[0]
    assert torch.equal(nameless.model.network.state_dict()["decode_head.classifier.weight"], own)


def test_a_row_that_is_not_trained_keeps_nothing_as_drawn(make_config, saved, classes):
    start = {"source": "file", "path": "x"}
    config = make_config(experiments={"baseline": {"start": start, "train": {"epochs": 0}}})
    with pytest.raises(EffiSegError, match=r"^row 'baseline' is not trained .*, elsewhere: .*the classifier is drawn"):
        start_model(config.row("baseline"), [*classes[1:], "another"], saved)


def test_a_checkpoint_of_another_network_is_refused(row, saved, classes, model):
    tensors = {name: value for name, value in model.network.state_dict().items() if "stages.1" not in name}
    save_file(tensors, saved.file)
    with pytest.raises(EffiSegError, match=r"does not fit the model; nothing was loaded: \d+ missing") as caught:
        start_model(row, classes, saved)
    assert str(caught.value).startswith("row 'baseline' starts from elsewhere: ")
