"""Cross-entropy, Dice and focal loss, and what the Tversky losses have in common with them."""

from math import log

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from effiseg.base.schema import IGNORE_INDEX
from effiseg.losses.supervised import dice_loss, focal_loss, tversky_loss, weighted_cross_entropy

CLASSES = 4
WEIGHTS = torch.tensor([0.5, 2.0, 4.0, 1.0])

LOSSES = {
    "cross-entropy": lambda logits, labels: weighted_cross_entropy(logits, labels, WEIGHTS.to(logits.device)),
    "dice": lambda logits, labels: dice_loss(logits, labels, smooth=1.0),
    "focal": lambda logits, labels: focal_loss(logits, labels, WEIGHTS, gamma=2.0),
    "focal with a broken power": lambda logits, labels: focal_loss(logits, labels, WEIGHTS, gamma=0.5),
    "focal with power 0": lambda logits, labels: focal_loss(logits, labels, WEIGHTS, gamma=0.0),
    "tversky": lambda logits, labels: tversky_loss(logits, labels, 0.3, 0.7, smooth=1.0, power=1.0),
    "focal tversky": lambda logits, labels: tversky_loss(logits, labels, 0.3, 0.7, smooth=1.0, power=0.75),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def random_batch(seed: int, void: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, CLASSES, 5, 6, generator=generator)
    labels = torch.randint(0, CLASSES, (2, 5, 6), generator=generator)
    labels[torch.rand(2, 5, 6, generator=generator) < void] = IGNORE_INDEX
    return logits, labels


seeds = st.integers(0, 2**31)


# --- by hand ----------------------------------------------------------------------------------------------------------

# three pixels of two classes, the last one void; the others are of class 0 and of class 1
PIXELS = [[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]]
LABELS = torch.tensor([[[0, 1, IGNORE_INDEX]]])


def test_cross_entropy_by_hand(logits_of):
    value = weighted_cross_entropy(logits_of(PIXELS), LABELS, torch.tensor([1.0, 3.0]))
    assert value.item() == pytest.approx((1 * -log(0.8) + 3 * -log(0.4)) / (1 + 3), rel=1e-5)


def test_dice_by_hand(logits_of):
    # class 0: overlap 0.8, predicted 0.8 + 0.6, actual 1; class 1: overlap 0.4, predicted 0.2 + 0.4, actual 1
    first = 1 - (2 * 0.8 + 0.5) / (1.4 + 1 + 0.5)
    second = 1 - (2 * 0.4 + 0.5) / (0.6 + 1 + 0.5)
    value = dice_loss(logits_of(PIXELS), LABELS, smooth=0.5)
    assert value.item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_dice_of_one_present_class_by_hand(logits_of):
    labels = torch.tensor([[[1, 1, IGNORE_INDEX]]])
    # class 0 is absent; class 1: overlap 0.2 + 0.4, predicted 0.2 + 0.4, actual 2
    expected = 1 - (2 * 0.6 + 0.5) / (0.6 + 2 + 0.5)
    assert dice_loss(logits_of(PIXELS), labels, smooth=0.5).item() == pytest.approx(expected, rel=1e-5)


def test_focal_by_hand(logits_of):
    value = focal_loss(logits_of(PIXELS), LABELS, torch.tensor([1.0, 3.0]), gamma=2.0)
    expected = (1 * 0.2**2 * -log(0.8) + 3 * 0.6**2 * -log(0.4)) / 2
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_focal_weighs_by_the_probability_not_by_the_weighted_cross_entropy(logits_of):
    # the released code took p = exp(-weight * -log p), here 0.4 ** 3, which nearly switches the modulation off
    value = focal_loss(logits_of([[0.6, 0.4]]), torch.tensor([[[1]]]), torch.tensor([1.0, 3.0]), gamma=2.0)
    assert value.item() == pytest.approx(3 * 0.6**2 * -log(0.4), rel=1e-5)


def test_dice_counts_over_the_whole_batch(logits_of):
    logits = torch.cat([logits_of([[0.8, 0.2]]), logits_of([[0.6, 0.4]])])
    labels = torch.tensor([[[0]], [[1]]])
    expected = (1 - (2 * 0.8 + 1) / (1.4 + 1 + 1) + 1 - (2 * 0.4 + 1) / (0.6 + 1 + 1)) / 2
    assert dice_loss(logits, labels, smooth=1.0).item() == pytest.approx(expected, rel=1e-5)


# --- against others ---------------------------------------------------------------------------------------------------


@given(seeds)
def test_cross_entropy_is_that_of_torch(seed):
    logits, labels = random_batch(seed)
    expected = F.cross_entropy(logits, labels, WEIGHTS, ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, WEIGHTS), expected)


@given(seeds)
def test_equal_weights_are_no_weights(seed):
    logits, labels = random_batch(seed)
    expected = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX)
    for weight in (0.1, 1.0, 7.0):
        found = weighted_cross_entropy(logits, labels, torch.full((CLASSES,), weight))
        torch.testing.assert_close(found, expected)


@given(seeds)
def test_focal_loss_without_power_and_weights_is_cross_entropy(seed):
    logits, labels = random_batch(seed)
    expected = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(focal_loss(logits, labels, torch.ones(CLASSES), gamma=0.0), expected)


@given(seeds)
def test_a_higher_gamma_lowers_the_focal_loss(seed):
    logits, labels = random_batch(seed)
    values = [focal_loss(logits, labels, WEIGHTS, gamma).item() for gamma in (0.0, 0.5, 2.0, 5.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]


@given(seed=seeds, absent=st.sets(st.integers(0, CLASSES - 1), max_size=CLASSES - 1))
def test_dice_and_its_gradient_are_those_of_the_equation_on_one_hot_labels(seed, absent):
    logits, labels = random_batch(seed)
    for label in absent:
        labels[labels == label] = IGNORE_INDEX
    logits = logits.requires_grad_()
    dice_loss(logits, labels, smooth=1.0).backward()

    exact = logits.detach().double().requires_grad_()
    valid = labels != IGNORE_INDEX
    p = exact.softmax(1).movedim(1, -1)[valid]
    g = F.one_hot(labels[valid], CLASSES).double()
    per_class = 1 - (2 * (p * g).sum(0) + 1) / (p.sum(0) + g.sum(0) + 1)
    expected = per_class[g.sum(0) > 0].mean()
    expected.backward()
    assert dice_loss(logits, labels, smooth=1.0).item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-4, atol=1e-7)


# --- properties -------------------------------------------------------------------------------------------------------


@every_loss
@given(seed=seeds)
def test_a_perfect_prediction_costs_least_and_a_wrong_one_most(loss, seed):
    logits, labels = random_batch(seed)
    index = labels.where(labels != IGNORE_INDEX, 0)
    perfect = 20 * F.one_hot(index, CLASSES).movedim(-1, 1).float()
    wrong = 20 * F.one_hot((index + 1) % CLASSES, CLASSES).movedim(-1, 1).float()
    best, usual, worst = (loss(each, labels).item() for each in (perfect, logits, wrong))
    assert -1e-6 <= best < usual < worst
    assert best < 1e-4


@every_loss
@given(seed=seeds)
def test_logits_of_void_pixels_change_nothing_and_get_no_gradient(loss, seed, finite_gradient):
    logits, labels = random_batch(seed, void=0.5)
    void = (labels == IGNORE_INDEX)[:, None].expand_as(logits)
    changed = logits.where(~void, 50 * torch.randn(logits.shape))
    torch.testing.assert_close(loss(changed, labels), loss(logits, labels))
    gradient = finite_gradient(lambda x: loss(x, labels), changed)
    assert torch.all(gradient[void] == 0)
    assert torch.any(gradient[~void] != 0)


@every_loss
@given(seed=seeds)
def test_void_pixels_count_in_no_mean(loss, seed):
    logits, labels = random_batch(seed)
    border = torch.full((2, 5, 9), IGNORE_INDEX)
    padded = torch.cat([logits, torch.randn(2, CLASSES, 5, 9)], dim=3)
    torch.testing.assert_close(loss(padded, torch.cat([labels, border], dim=2)), loss(logits, labels))


@given(seed=seeds, order=st.permutations(range(CLASSES)))
def test_renaming_the_classes_changes_nothing(seed, order):
    logits, labels = random_batch(seed)
    old_of_new = torch.tensor(order)
    new_of_old = old_of_new.argsort()
    renamed = torch.cat([new_of_old, torch.full((IGNORE_INDEX + 1 - CLASSES,), IGNORE_INDEX)])[labels]
    shuffled, weights = logits[:, old_of_new], WEIGHTS[old_of_new]
    pairs = [
        (weighted_cross_entropy(shuffled, renamed, weights), weighted_cross_entropy(logits, labels, WEIGHTS)),
        (focal_loss(shuffled, renamed, weights, 2.0), focal_loss(logits, labels, WEIGHTS, 2.0)),
        (dice_loss(shuffled, renamed, 1.0), dice_loss(logits, labels, 1.0)),
        (LOSSES["focal tversky"](shuffled, renamed), LOSSES["focal tversky"](logits, labels)),
    ]
    for found, expected in pairs:
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "loss",
    [LOSSES["cross-entropy"], LOSSES["focal"], lambda logits, labels: dice_loss(logits, labels, smooth=1e-7)],
    ids=["cross-entropy", "focal", "dice"],
)
@given(seed=seeds)
def test_the_same_images_twice_give_the_same_value(loss, seed):
    logits, labels = random_batch(seed)
    torch.testing.assert_close(loss(logits.repeat(2, 1, 1, 1), labels.repeat(2, 1, 1)), loss(logits, labels))


@every_loss
@given(seed=seeds)
def test_a_constant_added_to_a_pixels_logits_changes_nothing(loss, seed):
    logits, labels = random_batch(seed)
    torch.testing.assert_close(loss(logits + 10 * torch.randn(2, 1, 5, 6), labels), loss(logits, labels))


def test_dice_leaves_absent_classes_out_of_the_mean():
    """A class that the batch lacks changes nothing but by what is predicted of it."""
    logits, _ = random_batch(0)
    labels = torch.randint(0, 2, (2, 5, 6))
    logits[:, 2:] = -100.0
    more_classes = torch.cat([logits, torch.full((2, 15, 5, 6), -100.0)], dim=1)
    torch.testing.assert_close(dice_loss(more_classes, labels, 1.0), dice_loss(logits[:, :2], labels, 1.0))


@every_loss
def test_labels_may_be_uint8_or_int64(loss):
    logits, labels = random_batch(0)
    assert loss(logits, labels.to(torch.uint8)) == loss(logits, labels)


# --- edges ------------------------------------------------------------------------------------------------------------


@every_loss
def test_a_batch_of_nothing_but_void_gives_zero_and_no_gradient(loss, finite_gradient):
    logits, _ = random_batch(0)
    labels = torch.full((2, 5, 6), IGNORE_INDEX, dtype=torch.uint8)
    assert loss(logits, labels) == 0
    assert torch.all(finite_gradient(lambda x: loss(x, labels), logits) == 0)


@every_loss
@pytest.mark.parametrize("label", range(CLASSES))
def test_a_batch_of_one_class_teaches_that_class(loss, label, finite_gradient):
    logits, _ = random_batch(0)
    labels = torch.full((2, 5, 6), label)
    gradient = finite_gradient(lambda x: loss(x, labels), logits)
    assert torch.all(gradient[:, label] <= 0)
    assert gradient[:, label].sum() < 0


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("hit", [True, False], ids=["right", "wrong"])
def test_extreme_logits_give_finite_values_and_gradients(loss, dtype, hit, finite_gradient):
    labels = torch.randint(0, CLASSES, (2, 5, 6))
    logits = torch.full((2, CLASSES, 5, 6), -1e4)
    logits.scatter_(1, (labels if hit else (labels + 1) % CLASSES)[:, None], 1e4)
    labels[0, 0] = IGNORE_INDEX
    finite_gradient(lambda x: loss(x, labels), logits.to(dtype))
    finite_gradient(lambda x: loss(x, labels), -logits.to(dtype))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_logits_are_computed_in_float32(loss, dtype, finite_gradient):
    logits, labels = random_batch(0)
    rounded = logits.to(dtype)
    assert loss(rounded, labels) == loss(rounded.float(), labels)
    assert finite_gradient(lambda x: loss(x, labels), rounded).dtype == dtype


@every_loss
def test_void_pixels_may_as_well_not_be_there(loss):
    """255 in uint8 must not turn into class -1 or 255."""
    logits, labels = random_batch(3, void=0.5)
    valid = labels != IGNORE_INDEX
    pixels = logits.movedim(1, -1)[valid].T[None, :, :, None]
    torch.testing.assert_close(loss(logits, labels.to(torch.uint8)), loss(pixels, labels[valid][None, :, None]))


@every_loss
def test_gradients_are_those_of_the_function(loss):
    """Against central differences."""
    logits, labels = random_batch(1)
    logits = logits[:1, :, :2, :2].clone().requires_grad_()
    labels = labels[:1, :2, :2]
    loss(logits, labels).backward()
    step = 1e-2
    for index in range(logits.numel()):
        shift = torch.zeros(logits.numel())
        shift[index] = step
        shift = shift.view_as(logits)
        with torch.no_grad():
            slope = (loss(logits + shift, labels) - loss(logits - shift, labels)) / (2 * step)
        assert logits.grad.flatten()[index].item() == pytest.approx(slope.item(), abs=3e-3)
