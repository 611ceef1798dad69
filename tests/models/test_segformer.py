"""The whole network against transformers' own, and its way to disk and back."""

import itertools
import json

import pytest
import torch
from transformers import SegformerForSemanticSegmentation

from effiseg.errors import EffiSegError
from effiseg.models import segformer
from effiseg.models.head import ExactDecodeHead
from effiseg.models.segformer import (
    Segmenter,
    build_model,
    load_model,
    read_model_config,
    save_model,
    transformers_config,
)
from effiseg.schema import Norms

CLASSES = ["road", "sky", "car", "person", "tree"]
WIDTHS = [4, 8, 10, 16]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHOICES = ("layernorm", "dyt", "dyl")
MIXTURES = [dict(zip(Norms.model_fields, norms, strict=True)) for norms in itertools.product(CHOICES, repeat=4)]
FILES = {"config.json", "model.safetensors"}

pytestmark = pytest.mark.usefixtures("tiny")


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.fixture
def model(settings_with, shaken) -> Segmenter:
    return shaken(build_model(settings_with(), CLASSES)).eval()


@pytest.fixture
def stock(model, settings_with) -> SegformerForSemanticSegmentation:
    """transformers' network, head included, with the model's parameters."""
    network = SegformerForSemanticSegmentation(transformers_config(settings_with(), CLASSES))
    network.load_state_dict(model.network.state_dict())
    return network.eval()


def normalised(images: torch.Tensor) -> torch.Tensor:
    """By the definition: pixels in [0, 1], minus the mean, over the deviation, channel by channel."""
    channels = [(images[:, c].double() / 255 - MEAN[c]) / STD[c] for c in range(3)]
    return torch.stack(channels, dim=1).float()


@pytest.mark.parametrize("size", [(64, 128), (100, 180), (33, 47)])
def test_logits_equal_those_of_transformers_on_normalised_input(model, stock, size):
    images = pixels(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(model(images), stock(normalised(images)).logits, rtol=1e-4, atol=1e-5)


def test_training_gives_the_gradients_of_transformers(model, stock):
    images = pixels(2, 3, 64, 64)
    for network in (model, stock):
        for layer in network.train().modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
            if hasattr(layer, "drop_prob"):
                layer.drop_prob = 0.0
    weights = torch.randn(2, 5, 16, 16)
    (model(images) * weights).sum().backward()
    (stock(normalised(images)).logits * weights).sum().backward()
    largest = max(parameter.grad.abs().max() for parameter in stock.parameters())
    for (name, found), expected in zip(model.network.named_parameters(), stock.parameters(), strict=True):
        assert (found.grad - expected.grad).abs().max() <= 1e-4 * largest, name


def test_the_network_has_the_head_that_computes_less(model, stock):
    assert type(model.network.decode_head) is ExactDecodeHead
    assert type(stock.decode_head) is not ExactDecodeHead


def test_uint8_and_float_pixels_give_the_same_logits(model):
    images = pixels(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), model(images.float()))


def test_normalisation_is_that_of_the_settings_on_the_scale_of_pixels(settings_with):
    model = build_model(settings_with(mean=(0.5, 0.25, 0.0), std=(0.1, 0.2, 1.0)), CLASSES)
    assert torch.allclose(model.mean.flatten(), torch.tensor([127.5, 63.75, 0.0]))
    assert torch.allclose(model.std.flatten(), torch.tensor([25.5, 51.0, 255.0]))


def test_mean_0_and_std_1_scale_the_pixels_to_0_1(settings_with, shaken):
    model = shaken(build_model(settings_with(mean=(0, 0, 0), std=(1, 1, 1)), CLASSES)).eval()
    images = pixels(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), model.network(images / 255).logits, rtol=1e-4, atol=1e-5)


def test_normalisation_moves_with_the_model_but_is_not_among_its_weights(model):
    assert not {"mean", "std"} & set(model.state_dict())
    assert model.double().mean.dtype == torch.float64


@pytest.mark.parametrize(
    ("size", "grids"),
    [
        ((64, 128), [(16, 32), (8, 16), (4, 8), (2, 4)]),
        ((100, 180), [(25, 45), (13, 23), (7, 12), (4, 6)]),  # every stage rounds up
    ],
)
def test_outputs_run_from_the_finest_stage_to_the_coarsest(model, size, grids):
    outputs = model.outputs(pixels(2, 3, *size))
    assert [tuple(x.shape) for x in outputs.features] == [(2, c, *grid) for c, grid in zip(WIDTHS, grids, strict=True)]
    assert [tuple(x.shape) for x in outputs.embeddings] == [
        (2, h * w, c) for c, (h, w) in zip(WIDTHS, grids, strict=True)
    ]
    assert tuple(outputs.logits.shape) == (2, len(CLASSES), *grids[0])


def test_the_head_is_skipped_when_nobody_wants_logits(model):
    calls = []
    model.network.decode_head.register_forward_hook(lambda *_: calls.append(1))
    images = pixels(1, 3, 64, 64)
    with torch.no_grad():
        without = model.outputs(images, with_logits=False)
        assert not calls
        whole = model.outputs(images)
    assert without.logits is None
    assert calls == [1]
    for found, expected in zip(without.features + without.embeddings, whole.features + whole.embeddings, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("size", [(64, 128), (100, 180)])
def test_features_and_embeddings_are_what_transformers_computes_inside(model, stock, size):
    seen = []
    for stage in stock.segformer.stages:
        stage.patch_embeddings.register_forward_hook(lambda _module, _inputs, result: seen.append(result[0]))
    images = pixels(2, 3, *size)
    with torch.no_grad():
        outputs = model.outputs(images)
        hidden = stock(normalised(images), output_hidden_states=True).hidden_states
    for found, expected in zip(outputs.features, hidden, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for found, expected in zip(outputs.embeddings, seen, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_one_seed_builds_one_model(settings_with):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_model(settings_with(patch_embedding="dyt"), CLASSES).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not all(torch.equal(value, states[2][name]) for name, value in states[0].items())


# --- to disk and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norms", MIXTURES, ids=lambda norms: "-".join(norms.values()))
def test_every_norm_mixture_survives_saving_bit_by_bit(settings_with, shaken, tmp_path, norms):
    settings = settings_with(**norms, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    model = shaken(build_model(settings, CLASSES)).eval()
    model.network.decode_head.batch_norm.num_batches_tracked.fill_(7)
    folder = tmp_path / "runs" / "model"
    save_model(model, folder)

    loaded = load_model(folder)
    assert not loaded.training
    expected = model.state_dict()
    found = loaded.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in expected.items())
    assert read_model_config(folder) == (settings, CLASSES)
    images = pixels(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))


def test_a_layernorm_model_opens_in_plain_transformers(model, tmp_path):
    save_model(model, tmp_path / "model")
    network, report = SegformerForSemanticSegmentation.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert network.config.id2label == dict(enumerate(CLASSES))
    images = pixels(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(network(normalised(images)).logits, model(images), rtol=1e-4, atol=1e-5)


def test_saving_replaces_the_whole_folder_and_leaves_nothing_beside_it(model, tmp_path):
    folder = tmp_path / "model"
    save_model(model, folder)
    (folder / "leftover.txt").write_text("of an older version")
    with torch.no_grad():
        model.network.decode_head.classifier.bias.fill_(3.0)
    save_model(model, folder)
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert torch.all(load_model(folder).network.decode_head.classifier.bias == 3)


@pytest.mark.parametrize("files_written", [0, 1])
def test_a_failing_save_leaves_the_old_folder_and_the_next_save_works(model, tmp_path, monkeypatch, files_written):
    folder = tmp_path / "model"
    save_model(model, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(target, **_):
        target.mkdir(parents=True)
        for name in sorted(FILES)[:files_written]:
            (target / name).write_text("half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(model.network, "save_pretrained", full_disk)
        with torch.no_grad():
            model.network.decode_head.classifier.bias.fill_(3.0)
        with pytest.raises(OSError, match="No space"):
            save_model(model, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    save_model(model, folder)
    assert torch.all(load_model(folder).network.decode_head.classifier.bias == 3)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.fixture
def saved(model, tmp_path):
    folder = tmp_path / "model"
    save_model(model, folder)
    return folder


def assert_refused(folder, *fragments: str) -> None:
    with pytest.raises(EffiSegError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert all(fragment in message for fragment in (str(folder), *fragments)), message


def test_a_missing_folder_is_named(tmp_path):
    assert_refused(tmp_path / "nowhere", "config.json", "not found")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    assert_refused(saved, name)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_folder_in_place_of_a_file_is_named(saved, name):
    (saved / name).unlink()
    (saved / name).mkdir()
    assert_refused(saved, name)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', "3", "{}", "\x00\x01"])
def test_a_damaged_config_is_named(saved, content):
    (saved / "config.json").write_text(content)
    assert_refused(saved, "config.json")


def test_a_config_that_is_not_text_is_named(saved):
    (saved / "config.json").write_bytes(bytes(range(256)))
    assert_refused(saved, "config.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"effiseg": None},
        {"effiseg": []},
        {"effiseg": {"variant": "b0"}},
        {"id2label": None},
        {"id2label": ["road", "sky"]},
        {"id2label": {"1": "road", "2": "sky"}},
    ],
    ids=str,
)
def test_a_config_that_effiseg_did_not_write_is_named(saved, changes):
    content = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(content | changes))
    assert_refused(saved, "config.json")


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.999])
def test_truncated_weights_are_named(saved, share):
    content = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(content[: int(share * len(content))])
    assert_refused(saved, "model.safetensors")


@pytest.mark.parametrize(
    ("norms", "problem"),
    [({"patch_embedding": "dyt"}, "missing"), ({"block": "dyl"}, "missing"), ({"stage_output": "dyt"}, "missing")],
)
def test_weights_of_other_norms_are_refused(saved, settings_with, norms, problem):
    content = json.loads((saved / "config.json").read_text())
    content["effiseg"]["norms"] |= norms
    (saved / "config.json").write_text(json.dumps(content))
    assert_refused(saved, problem, "alpha")


def test_weights_with_norms_that_the_settings_lack_are_refused(settings_with, tmp_path):
    save_model(build_model(settings_with(patch_embedding="dyt"), CLASSES), tmp_path / "model")
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    content["effiseg"]["norms"]["patch_embedding"] = "layernorm"
    (tmp_path / "model" / "config.json").write_text(json.dumps(content))
    assert_refused(tmp_path / "model", "unexpected", "alpha")


def test_weights_of_another_width_are_refused(saved, monkeypatch):
    widths = {"hidden_sizes": [4, 8, 10, 24], "depths": [1, 2, 1, 1], "decoder_hidden_size": 12}
    monkeypatch.setitem(segformer.VARIANTS, "b0", widths)
    assert_refused(saved, "misshaped")


def test_a_classifier_of_another_size_is_refused(saved):
    content = json.loads((saved / "config.json").read_text())
    content["id2label"] |= {str(index): f"new {index}" for index in range(5, 9)}
    (saved / "config.json").write_text(json.dumps(content))
    assert_refused(saved, "misshaped", "classifier")
