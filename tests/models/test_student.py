"""A row's network by its name, as users get it."""

from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from effiseg.base.config import Config, merge, read_yaml
from effiseg.base.errors import EffiSegError
from effiseg.models import Deployed, build_student, deploy
from effiseg.models.norms import norm_places
from tests.settings import CAMVID


@pytest.fixture
def params(tmp_path: Path, repository: Path):
    """Writes the shipped params.yaml with changes."""

    def write(**changes) -> Path:
        path = tmp_path / "params.yaml"
        YAML().dump(merge(read_yaml(repository / "params.yaml"), changes), path)
        return path

    return write


def test_every_shipped_row_is_built_with_its_norms_and_answers_pixels(shipped: Config, repository: Path, pixels):
    answered = []
    for row in shipped.experiments:
        model = build_student(row, repository / "params.yaml")
        assert not any(module.training for module in model.modules()), row
        norms = shipped.row(row).model.norms
        for place, name, holder, attribute in norm_places(model.network):
            assert type(getattr(holder, attribute)).__name__.lower() == getattr(norms, place), f"{row}: {name}"
        if shipped.row(row).model in answered:
            continue
        answered.append(shipped.row(row).model)
        images = pixels(2, 3, 64, 96)
        with torch.no_grad():
            logits = model(images)
            assert logits.shape == (2, 19, 16, 24), row
            assert logits.isfinite().all(), row
            deployed = deploy(model)
            assert isinstance(deployed, Deployed)
            assert (deployed(images) - logits).abs().max() <= 1e-5 * logits.abs().max(), row


def test_params_yaml_of_the_current_folder_is_the_default(params, monkeypatch: pytest.MonkeyPatch, tiny):
    monkeypatch.chdir(params(model={"norms": {"stage_output": "dyt"}}).parent)
    norms = [
        getattr(holder, attribute) for place, _, holder, attribute in norm_places(build_student("baseline").network)
    ]
    assert [type(norm).__name__ for norm in norms].count("DyT") == 4


def test_the_weights_follow_from_the_seed(repository: Path, tiny):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_student("tanh", repository / "params.yaml").network.decode_head.classifier.weight)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_data_set_says_how_many_classes(params, pixels, tiny):
    model = build_student("tanh_linear", params(data={"source": "camvid", "class_weights": "computed"}))
    assert model(pixels(1, 3, 64, 64)).shape == (1, 11, 16, 16)
    assert list(model.network.config.id2label.values()) == list(CAMVID.classes)


def test_the_normalisation_is_that_of_the_file(params, tiny):
    model = build_student("baseline", params(model={"mean": [0.5, 0.25, 0.0], "std": [0.1, 0.2, 1.0]}))
    torch.testing.assert_close(model.mean.flatten(), torch.tensor([127.5, 63.75, 0.0]))
    torch.testing.assert_close(model.std.flatten(), torch.tensor([25.5, 51.0, 255.0]))


def test_an_unknown_row_is_refused_with_the_names_of_all_rows(shipped: Config, repository: Path):
    with pytest.raises(EffiSegError) as caught:
        build_student("tahn", repository / "params.yaml")
    message = str(caught.value)
    assert "'tahn'" in message
    assert all(row in message for row in shipped.experiments)


def test_a_missing_file_is_refused_by_its_name(tmp_path: Path):
    with pytest.raises(EffiSegError, match=r"nowhere\.yaml: not found"):
        build_student("baseline", tmp_path / "nowhere.yaml")


def test_a_wrong_file_is_refused_by_the_key(params):
    with pytest.raises(EffiSegError, match=r"params\.yaml: model\.alpha_init: "):
        build_student("baseline", params(model={"alpha_init": -1.0}))
