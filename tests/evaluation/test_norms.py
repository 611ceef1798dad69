"""Sampled norms: what they hold against what the norm computes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from effiseg.data.prepared import Split
from effiseg.evaluation.norms import sample_norms
from effiseg.models.norms import DyL, DyT, norm_places
from effiseg.models.segformer import Segmenter

MakeModel = Callable[..., Segmenter]
MakeSplit = Callable[..., Split]


@pytest.mark.parametrize("name", ["baseline", "tanh_linear"])
def test_sampled_norms_relate_input_to_output_as_the_norm_does(make_model: MakeModel, make_split: MakeSplit, name: str):
    model = make_model(name)
    with torch.no_grad():  # alike per channel, so that any element tells
        for _, _, holder, attribute in norm_places(model.network):
            norm = getattr(holder, attribute)
            norm.weight.fill_(1.7)
            norm.bias.fill_(-0.3)
    samples = sample_norms(model, torch.tensor(make_split(2).images), points=50)

    norms = {name: getattr(holder, attribute) for _, name, holder, attribute in norm_places(model.network)}
    assert samples["names"].tolist() == list(norms)
    assert samples["inputs"].shape == samples["outputs"].shape == (30, 50)
    assert samples["inputs"].dtype == samples["outputs"].dtype == np.float32
    kinds = dict(zip(samples["names"], samples["kinds"], strict=True))
    replaced = {"layernorm": 4, "dyt": 4, "dyl": 22} if name == "tanh_linear" else {"layernorm": 30}
    assert {kind: list(kinds.values()).count(kind) for kind in set(kinds.values())} == replaced

    for norm, inputs, outputs in zip(norms.values(), samples["inputs"], samples["outputs"], strict=True):
        if isinstance(norm, DyT):
            np.testing.assert_allclose(outputs, 1.7 * np.tanh(0.5 * inputs) - 0.3, rtol=1e-4, atol=1e-5)
        elif isinstance(norm, DyL):
            np.testing.assert_allclose(outputs, 1.7 * 0.5 * inputs - 0.3, rtol=1e-4, atol=1e-5)
        else:
            assert np.corrcoef(inputs, outputs)[0, 1] > 0.3
        assert inputs.std() > 0


def test_norms_are_sampled_at_the_same_places_every_time_and_leave_no_hooks(
    make_model: MakeModel, make_split: MakeSplit
):
    model, images = make_model("tanh"), torch.tensor(make_split(2).images)
    first, second = (sample_norms(model, images, points=20) for _ in range(2))
    assert all(np.array_equal(first[key], second[key]) for key in ("names", "kinds", "inputs", "outputs"))
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(RuntimeError):
        sample_norms(model, images[:, :1, :8, :8].repeat(1, 5, 1, 1))
    assert not any(module._forward_hooks for module in model.modules())
