"""Weight selection: what of a larger network a smaller one starts from."""

import pytest
import torch

from effiseg.base.errors import EffiSegError
from effiseg.weights.partial import load_part
from effiseg.weights.select import select
from tests.weights.networks import tiny

LARGE = {"hidden_sizes": [32, 64, 80, 128], "depths": [2, 3, 1, 2], "decoder_hidden_size": 48}
SMALL = {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 2, 1, 1], "decoder_hidden_size": 16}


def load(large, small, classes=("a", "b"), known_as=("a", "b")):
    return load_part(
        small, large.state_dict(), part="selected", classes=list(classes), known_as=list(known_as), origin="large"
    )


def test_elements_are_evenly_spaced_on_every_axis():
    tensors = {"w": torch.arange(24.0).view(4, 6), "other": torch.ones(3), "scalar": torch.tensor(7)}
    found = select(tensors, {"w": torch.zeros(2, 3), "scalar": torch.tensor(0)})
    assert found.keys() == {"w", "scalar"}
    assert found["w"].tolist() == [[0, 2, 4], [12, 14, 16]]
    assert found["scalar"] == 7
    uneven = select({"w": torch.arange(5.0)}, {"w": torch.zeros(3)})["w"]
    assert uneven.tolist() == [0, 1, 3]


def test_a_network_gets_every_second_channel_and_the_first_blocks():
    large, small = tiny(1, num_labels=2, **LARGE), tiny(2, num_labels=2, **SMALL)
    done = load(large, small)
    theirs, ours = large.state_dict(), small.state_dict()
    assert done.drawn == []
    assert any(".blocks.1." in name for name in done.left_aside)
    key = "segformer.stages.1.blocks.1.attention.q_proj.weight"
    assert torch.equal(ours[key], theirs[key][::2, ::2])
    key = "segformer.stages.0.patch_embeddings.proj.weight"  # three colours, and each whole kernel
    assert torch.equal(ours[key], theirs[key][::2])
    # the head joins four stages of 48 channels, of which each third is taken
    assert torch.equal(ours["decode_head.linear_fuse.weight"], theirs["decode_head.linear_fuse.weight"][::3, ::3])
    assert torch.equal(ours["decode_head.classifier.weight"], theirs["decode_head.classifier.weight"][:, ::3])
    assert "selected" in done.told()


def test_a_network_of_the_same_size_is_taken_as_it_is():
    one, other = tiny(1, num_labels=2, **SMALL), tiny(2, num_labels=2, **SMALL)
    load(one, other)
    assert all(torch.equal(value, one.state_dict()[name]) for name, value in other.state_dict().items())


def test_an_encoder_without_a_head_leaves_the_head_as_drawn_and_classes_follow_their_names():
    large, small = tiny(1, num_labels=2, **LARGE), tiny(2, num_labels=2, **SMALL)
    drawn = {name: value.clone() for name, value in small.state_dict().items()}
    encoder = {name: value for name, value in large.state_dict().items() if name.startswith("segformer.")}
    done = load_part(small, encoder, part="selected", classes=["a", "b"], known_as=None, origin="large")
    assert set(done.drawn) == {name for name in drawn if name.startswith("decode_head.")}
    load(large, small, known_as=("b", "a"))
    key = "decode_head.classifier.weight"
    assert torch.equal(small.state_dict()[key], large.state_dict()[key].flip(0)[:, ::3])


def test_a_smaller_network_does_not_fit():
    large, small = tiny(1, num_labels=2, **LARGE), tiny(2, num_labels=2, **SMALL)
    with pytest.raises(EffiSegError, match=r"^large: does not fit the model.*; nothing was loaded: "):
        load(small, large)
