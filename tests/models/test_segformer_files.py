"""A network's way to disk and back, and the folders that are refused."""

import itertools
import json

import pytest
import torch
from transformers import SegformerForSemanticSegmentation

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Norms
from effiseg.models import segformer
from effiseg.models.segformer import build_model, load_model, read_model_config, save_model

CHOICES = ("layernorm", "dyt", "dyl")
MIXTURES = [dict(zip(Norms.model_fields, norms, strict=True)) for norms in itertools.product(CHOICES, repeat=4)]
BOTTLENECK = {"embedding": "bottleneck", **dict.fromkeys(Norms.model_fields, "dyt")}
FILES = {"config.json", "model.safetensors"}

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.parametrize("norms", [*MIXTURES, BOTTLENECK], ids=lambda norms: "-".join(norms.values()))
def test_every_norm_mixture_survives_saving_bit_by_bit(settings_with, shaken, tmp_path, norms, classes, pixels):
    settings = settings_with(**norms, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    model = shaken(build_model(settings, classes)).eval()
    model.network.decode_head.batch_norm.num_batches_tracked.fill_(7)
    folder = tmp_path / "runs" / "model"
    save_model(model, folder)

    loaded = load_model(folder)
    assert not loaded.training
    expected = model.state_dict()
    found = loaded.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in expected.items())
    assert read_model_config(folder) == (settings, classes)
    images = pixels(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))


def test_a_model_saved_before_there_were_bottlenecks_has_overlapping_patch_embeddings(model, tmp_path, pixels):
    save_model(model, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    content = json.loads(file.read_text())
    assert content["effiseg"].pop("embedding") == "overlap"
    file.write_text(json.dumps(content))
    images = pixels(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "model")(images), model(images))


def test_a_layernorm_model_opens_in_plain_transformers(model, tmp_path, classes, pixels, normalised):
    save_model(model, tmp_path / "model")
    network, report = SegformerForSemanticSegmentation.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert network.config.id2label == dict(enumerate(classes))
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


def test_weights_with_norms_that_the_settings_lack_are_refused(settings_with, tmp_path, classes):
    save_model(build_model(settings_with(patch_embedding="dyt"), classes), tmp_path / "model")
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
