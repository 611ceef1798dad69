"""The Tversky loss and its focal form; what every loss against the labels has in common is in test_supervised."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from effiseg.base.schema import IGNORE_INDEX
from effiseg.losses.supervised import dice_loss, tversky_loss

CLASSES = 4
seeds = st.integers(0, 2**31)

# three pixels of two classes, the last one void; the others are of class 0 and of class 1
PIXELS = [[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]]
LABELS = torch.tensor([[[0, 1, IGNORE_INDEX]]])
# class 0: overlap 0.8, too much 0.6, missed 0.2; class 1: overlap 0.4, too much 0.2, missed 0.6
FIRST = 1 - (0.8 + 0.5) / (0.8 + 0.3 * 0.6 + 0.7 * 0.2 + 0.5)
SECOND = 1 - (0.4 + 0.5) / (0.4 + 0.3 * 0.2 + 0.7 * 0.6 + 0.5)


def random_batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (2, 5, 6), generator=generator)
    labels[torch.rand(2, 5, 6, generator=generator) < 0.2] = IGNORE_INDEX
    return 3 * torch.randn(2, CLASSES, 5, 6, generator=generator), labels


def test_tversky_by_hand(logits_of):
    value = tversky_loss(logits_of(PIXELS), LABELS, alpha=0.3, beta=0.7, smooth=0.5, power=1.0)
    assert value.item() == pytest.approx((FIRST + SECOND) / 2, rel=1e-5)


def test_focal_tversky_by_hand(logits_of):
    value = tversky_loss(logits_of(PIXELS), LABELS, alpha=0.3, beta=0.7, smooth=0.5, power=0.75)
    assert value.item() == pytest.approx((FIRST**0.75 + SECOND**0.75) / 2, rel=1e-5)


def test_tversky_of_one_present_class_by_hand(logits_of):
    labels = torch.tensor([[[1, 1, IGNORE_INDEX]]])
    # class 0 is absent; class 1: overlap 0.2 + 0.4, too much 0, missed 0.8 + 0.6
    expected = 1 - (0.6 + 0.5) / (0.6 + 0.7 * 1.4 + 0.5)
    value = tversky_loss(logits_of(PIXELS), labels, alpha=0.3, beta=0.7, smooth=0.5, power=1.0)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_tversky_counts_over_the_whole_batch(logits_of):
    logits = torch.cat([logits_of([[0.8, 0.2]]), logits_of([[0.6, 0.4]])])
    value = tversky_loss(logits, torch.tensor([[[0]], [[1]]]), alpha=0.3, beta=0.7, smooth=0.5, power=1.0)
    assert value.item() == pytest.approx((FIRST + SECOND) / 2, rel=1e-5)


@given(seed=seeds, smooth=st.floats(0.01, 10))
def test_even_tversky_is_dice_with_twice_the_smoothing(seed, smooth):
    logits, labels = random_batch(seed)
    found = tversky_loss(logits, labels, alpha=0.5, beta=0.5, smooth=smooth, power=1.0)
    torch.testing.assert_close(found, dice_loss(logits, labels, 2 * smooth), rtol=1e-5, atol=1e-6)


@given(seed=seeds, alpha=st.floats(0, 2), beta=st.floats(0.1, 2), power=st.sampled_from([0.5, 0.75, 1.0]))
def test_tversky_and_its_gradient_are_those_of_the_equation_on_one_hot_labels(seed, alpha, beta, power):
    logits, labels = random_batch(seed)
    labels[labels == seed % CLASSES] = IGNORE_INDEX  # one class is absent
    logits = logits.requires_grad_()
    value = tversky_loss(logits, labels, alpha, beta, smooth=1.0, power=power)
    value.backward()

    exact = logits.detach().double().requires_grad_()
    valid = labels != IGNORE_INDEX
    p = exact.softmax(1).movedim(1, -1)[valid]
    g = F.one_hot(labels[valid], CLASSES).double()
    wrong = alpha * (p * (1 - g)).sum(0) + beta * ((1 - p) * g).sum(0)
    index = ((p * g).sum(0) + 1) / ((p * g).sum(0) + wrong + 1)
    expected = ((1 - index)[g.sum(0) > 0] ** power).mean()
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-3, atol=1e-6)


@given(seeds)
def test_alpha_weighs_what_is_predicted_too_much_and_beta_what_is_missed(seed):
    logits, labels = random_batch(seed)
    low, high = (tversky_loss(logits, labels, 0.3, beta, 1.0, 1.0) for beta in (0.3, 0.7))
    assert low < high
    low, high = (tversky_loss(logits, labels, alpha, 0.3, 1.0, 1.0) for alpha in (0.3, 0.7))
    assert low < high
    # when all is of one class, that class is never predicted too much
    only = torch.ones_like(labels)
    one, other = (tversky_loss(logits, only, alpha, 0.7, 1.0, 1.0) for alpha in (0.1, 0.9))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@given(seeds)
def test_a_power_below_one_raises_the_loss(seed):
    logits, labels = random_batch(seed)
    values = [tversky_loss(logits, labels, 0.3, 0.7, 1.0, power).item() for power in (1.0, 0.75, 0.5)]
    assert values == sorted(values)
    assert values[0] < values[-1]


@pytest.mark.parametrize(("probability", "steeper"), [(0.95, True), (0.05, False)])
def test_a_power_below_one_is_steeper_for_small_losses_and_flatter_for_large_ones(logits_of, probability, steeper):
    slopes = []
    for power in (1.0, 0.75):
        logits = logits_of([[probability, 1 - probability]] * 20).requires_grad_()
        tversky_loss(logits, torch.zeros(1, 1, 20, dtype=torch.long), 0.3, 0.7, 0.01, power).backward()
        slopes.append(logits.grad.abs().sum())
    assert (slopes[1] > slopes[0]) == steeper


def test_absent_classes_are_left_out_of_the_mean():
    """A class that the batch lacks changes nothing but by what is predicted of it."""
    logits, _ = random_batch(0)
    labels = torch.randint(0, 2, (2, 5, 6))
    logits[:, 2:] = -100.0
    more_classes = torch.cat([logits, torch.full((2, 15, 5, 6), -100.0)], dim=1)
    for power in (1.0, 0.75):
        found = tversky_loss(more_classes, labels, 0.3, 0.7, 1.0, power)
        torch.testing.assert_close(found, tversky_loss(logits[:, :2], labels, 0.3, 0.7, 1.0, power))
