"""CSKD's projectors: the 1x1 convolution that trains along, and what the code released with the paper has instead."""

import pytest
import torch
from torch import nn

from effiseg.base.errors import EffiSegError
from effiseg.base.objective import Loss
from effiseg.losses.distillation import cosine_guided_distillation
from effiseg.losses.terms import Cskd, Setting, Signals
from effiseg.models.outputs import Outputs
from effiseg.models.products import Pointwise

STUDENT, TEACHER = [2, 3, 4, 5], [4, 5, 6, 7]


@pytest.fixture
def build(shipped):
    def make(**settings) -> Cskd:
        loss = shipped.loss.model_dump()
        loss["cskd"] |= settings
        return Cskd(Loss(**loss), Setting(torch.ones(3), STUDENT, TEACHER))

    return make


@pytest.fixture
def signals() -> Signals:
    def maps(channels: list[int]) -> Outputs:
        return Outputs(features=[torch.randn(2, c, 4, 6) for c in channels])

    return Signals(torch.empty(0), torch.empty(0), maps(STUDENT), maps(TEACHER))


def test_one_pixel_of_one_image_has_no_variance_and_the_cure_is_told(build, signals):
    term = build(projector="conv_bn_relu").train()
    for side in (signals.student, signals.teacher):
        side.features[-1] = side.features[-1][:1, :, :1, :1]
    with pytest.raises(EffiSegError, match=r"set a larger train\.augment\.crop or"):
        term(signals)


def test_a_frozen_projector_never_moves_but_hands_the_gradient_on(build, signals):
    term = build(frozen=True)
    assert not any(parameter.requires_grad for parameter in term.parameters())
    for feature in signals.student.features:
        feature.requires_grad_()
    term(signals).backward()
    assert all(feature.grad.abs().max() > 0 for feature in signals.student.features)
    assert all(parameter.requires_grad for parameter in build().parameters())


def test_frozen_or_not_the_projectors_are_drawn_alike_and_saved(build):
    terms = []
    for frozen in (False, True):
        torch.manual_seed(0)
        terms.append(build(frozen=frozen).state_dict())
    assert terms[0].keys() == terms[1].keys()
    assert all(torch.equal(terms[0][name], terms[1][name]) for name in terms[0])


def test_conv_bn_relu_is_that_and_cannot_reach_a_negative_target(build, signals):
    term = build(projector="conv_bn_relu")
    projected = []
    for projector, feature in zip(term.projectors, signals.student.features, strict=True):
        assert [type(layer) for layer in projector] == [Pointwise, nn.BatchNorm2d, nn.ReLU]
        values = projector[0](feature)
        mean, variance = values.mean(dim=(0, 2, 3), keepdim=True), values.var(dim=(0, 2, 3), keepdim=True, correction=0)
        projected.append(((values - mean) / (variance + 1e-5).sqrt()).clamp(min=0))
    expected = sum(
        cosine_guided_distillation(ours, theirs, 1.0, 0.5)
        for ours, theirs in zip(projected, signals.teacher.features, strict=True)
    )
    torch.testing.assert_close(term(signals), expected, rtol=1e-4, atol=1e-5)
    assert min(values.min() for values in projected) == 0
