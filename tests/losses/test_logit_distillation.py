"""CWD and DIST, which compare whole maps of logits."""

from math import log, sqrt

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from effiseg.losses.distillation import channel_wise_distillation, relational_distillation

LOSSES = {
    "cwd": lambda student, teacher: channel_wise_distillation(student, teacher, 4.0),
    "dist": lambda student, teacher: relational_distillation(student, teacher, 1.0, 0.5, 2.0),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
seeds = st.integers(0, 2**31)
temperatures = st.sampled_from([0.5, 1.0, 4.0])


def pair(seed: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator), torch.randn(*shape, generator=generator)


def maps(images: list[list[list[float]]]) -> torch.Tensor:
    """Maps (N, C, 1, W) whose softmax over positions gives the numbers written down channel by channel."""
    return torch.tensor([[[log(p) for p in channel] for channel in image] for image in images])[:, :, None, :]


# --- CWD --------------------------------------------------------------------------------------------------------------


def test_cwd_at_temperature_1_by_hand():
    student, teacher = maps([[[0.5, 0.5], [0.9, 0.1]]]), maps([[[0.8, 0.2], [0.3, 0.7]]])
    # KL(teacher || student) of each channel's distribution over two positions; T^2 / C is 1/2
    first = 0.8 * log(0.8 / 0.5) + 0.2 * log(0.2 / 0.5)
    second = 0.3 * log(0.3 / 0.9) + 0.7 * log(0.7 / 0.1)
    assert channel_wise_distillation(student, teacher, 1.0).item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_cwd_of_two_images_and_three_channels_at_temperature_2_by_hand():
    s = [[[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], [[0.4, 0.6], [0.7, 0.3], [0.1, 0.9]]]
    t = [[[0.8, 0.2], [0.3, 0.7], [0.2, 0.8]], [[0.5, 0.5], [0.1, 0.9], [0.6, 0.4]]]
    per_image = []
    for ours, theirs in zip(s, t, strict=True):
        total = 0.0
        for p, q in zip(ours, theirs, strict=True):
            # softened by 2, probabilities are as their square roots
            p, q = ([sqrt(x) / sum(map(sqrt, values)) for x in values] for values in (p, q))
            total += sum(b * log(b / a) for a, b in zip(p, q, strict=True))
        per_image.append(2**2 / 3 * total)
    found = channel_wise_distillation(maps(s), maps(t), 2.0)
    assert found.item() == pytest.approx(sum(per_image) / 2, rel=1e-5)


@given(seed=seeds, temperature=temperatures)
def test_cwd_is_zero_when_equal_and_positive_otherwise(seed, temperature):
    student, teacher = pair(seed, 2, 4, 3, 5)
    assert channel_wise_distillation(student, teacher, temperature) > 0
    assert channel_wise_distillation(teacher, teacher, temperature) == 0


@given(seed=seeds, temperature=temperatures)
def test_cwd_ignores_a_constant_added_to_a_channel_of_an_image(seed, temperature):
    student, teacher = pair(seed, 2, 4, 3, 5)
    value = channel_wise_distillation(student, teacher, temperature)
    ours, theirs = pair(seed + 1, 2, 4, 1, 1)
    found = channel_wise_distillation(student + 5 * ours, teacher + 5 * theirs, temperature)
    torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)
    assert not torch.isclose(
        channel_wise_distillation(student + pair(seed, 1, 1, 3, 5)[1], teacher, temperature), value
    )


@given(seeds)
def test_cwd_does_not_depend_on_the_order_of_the_positions_and_grows_with_none(seed):
    student, teacher = pair(seed, 2, 4, 3, 5)
    order = torch.randperm(15)
    shuffled = (x.flatten(2)[:, :, order].view(2, 4, 5, 3) for x in (student, teacher))
    value = channel_wise_distillation(student, teacher, 2.0)
    torch.testing.assert_close(channel_wise_distillation(*shuffled, 2.0), value)
    # the same maps side by side halve every probability on both sides, which no ratio shows
    torch.testing.assert_close(
        channel_wise_distillation(student.repeat(1, 1, 1, 2), teacher.repeat(1, 1, 1, 2), 2.0), value
    )


def test_the_gradient_of_cwd_is_the_difference_of_distributions():
    student, teacher = pair(0, 2, 3, 2, 2)
    student.requires_grad_()
    channel_wise_distillation(student, teacher, 2.0).backward()
    ours, theirs = ((x.detach().flatten(2) / 2).softmax(2).view_as(x) for x in (student, teacher))
    # T^2 / (N C) * (p - q) / T
    torch.testing.assert_close(student.grad, 2 * (ours - theirs) / (2 * 3))


# --- DIST -------------------------------------------------------------------------------------------------------------


def dist_by_numpy(student: torch.Tensor, teacher: torch.Tensor, beta: float, gamma: float, temperature: float) -> float:
    """The definition: one Pearson correlation after the other."""

    def probabilities(logits: torch.Tensor) -> np.ndarray:
        e = np.exp(logits.double().numpy() / temperature)
        return np.moveaxis(e / e.sum(1, keepdims=True), 1, -1).reshape(-1, logits.shape[1])  # pixels, classes

    ours, theirs = probabilities(student), probabilities(teacher)
    between = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(ours, theirs, strict=True)]
    within = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, theirs.T, strict=True)]
    return temperature**2 * (beta * np.mean(between) + gamma * np.mean(within))


def test_dist_of_two_pixels_of_three_classes_by_hand(logits_of):
    student, teacher = logits_of([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2]]), logits_of([[0.6, 0.3, 0.1], [0.1, 0.7, 0.2]])
    # pixel 1, times 30: (5, -1, -4) and (8, -1, -7); pixel 2, times 15: (-2, 4, -2) and (-3.5, 5.5, -2)
    first = (5 * 8 + 1 + 4 * 7) / sqrt((25 + 1 + 16) * (64 + 1 + 49))
    second = (2 * 3.5 + 4 * 5.5 + 2 * 2) / sqrt((4 + 16 + 4) * (3.5**2 + 5.5**2 + 2**2))
    # over two pixels a correlation is the sign: classes 1 and 2 move alike; the student's class 3 does not move: 0
    between, within = 1 - (first + second) / 2, 1 - (1 + 1 + 0) / 3
    found = relational_distillation(student, teacher, 1.0, 0.0, 1.0).item()
    assert found == pytest.approx(between, rel=1e-4)
    assert relational_distillation(student, teacher, 0.0, 1.0, 1.0).item() == pytest.approx(within, rel=1e-4)
    assert relational_distillation(student, teacher, 3.0, 2.0, 1.0).item() == pytest.approx(3 * between + 2 * within)


@given(
    seed=seeds,
    shape=st.tuples(st.integers(1, 3), st.integers(3, 5), st.integers(1, 3), st.integers(3, 4)),
    beta=st.floats(0, 3),
    gamma=st.floats(0, 3),
    temperature=temperatures,
)
def test_dist_is_that_of_numpys_correlations(seed, shape, beta, gamma, temperature):
    student, teacher = pair(seed, *shape)
    found = relational_distillation(student, teacher, beta, gamma, temperature).item()
    assert found == pytest.approx(dist_by_numpy(student, teacher, beta, gamma, temperature), rel=1e-3, abs=1e-4)


@given(seed=seeds, temperature=temperatures)
def test_dist_is_zero_when_equal_and_positive_otherwise(seed, temperature):
    student, teacher = pair(seed, 2, 4, 3, 5)
    assert relational_distillation(student, teacher, 1.0, 1.0, temperature) > 0.01
    assert relational_distillation(teacher, teacher, 1.0, 1.0, temperature) == pytest.approx(0, abs=1e-4)


@given(seed=seeds, share=st.floats(0.1, 0.9))
def test_dist_ignores_what_a_softmax_or_a_correlation_ignores(seed, share):
    student, teacher = pair(seed, 2, 4, 3, 5)
    value = relational_distillation(student, teacher, 1.0, 2.0, 1.0)
    moved = student + 5 * torch.randn(2, 1, 3, 5)
    torch.testing.assert_close(relational_distillation(moved, teacher, 1.0, 2.0, 1.0), value, rtol=1e-4, atol=1e-5)
    # the same mixture with even probabilities everywhere scales and shifts every row and column
    mixed = (share * student.softmax(1) + (1 - share) / 4).log()
    torch.testing.assert_close(relational_distillation(mixed, teacher, 1.0, 2.0, 1.0), value, rtol=1e-3, atol=1e-4)
    # pixel by pixel another mixture: still nothing between the classes of a pixel
    shares = 0.1 + 0.8 * torch.rand(2, 1, 3, 5)
    mixed = (shares * student.softmax(1) + (1 - shares) / 4).log()
    between = relational_distillation(student, teacher, 1.0, 0.0, 1.0)
    torch.testing.assert_close(relational_distillation(mixed, teacher, 1.0, 0.0, 1.0), between, rtol=1e-3, atol=1e-4)


@given(seeds)
def test_dist_does_not_depend_on_the_order_of_classes_or_of_the_batchs_pixels(seed):
    student, teacher = pair(seed, 2, 4, 3, 5)
    classes, pixels = torch.randperm(4), torch.randperm(30)

    def shuffled(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1).flatten(1)[classes][:, pixels].view(4, 3, 2, 5).transpose(0, 1)

    value = relational_distillation(student, teacher, 1.0, 2.0, 1.0)
    found = relational_distillation(shuffled(student), shuffled(teacher), 1.0, 2.0, 1.0)
    torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)


def test_dist_reaches_two_at_the_opposite_relations():
    _, teacher = pair(0, 2, 2, 3, 5)
    opposite = teacher.flip(1)  # of two classes: p becomes 1 - p, at every pixel and in every class
    assert relational_distillation(opposite, teacher, 1.0, 0.0, 1.0).item() == pytest.approx(2, rel=1e-4)
    assert relational_distillation(opposite, teacher, 0.0, 1.0, 1.0).item() == pytest.approx(2, rel=1e-4)


# --- both -------------------------------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("student", ["zero", "flat", "even", "random", "huge", "tiny"])
@pytest.mark.parametrize("teacher", ["zero", "flat", "even", "random", "huge", "tiny"])
def test_degenerate_maps_give_finite_values_and_gradients(loss, student, teacher, dtype, finite_gradient):
    shape = (2, 4, 3, 5)
    kinds = {
        "zero": torch.zeros(shape),
        "flat": torch.randn(1, 4, 1, 1).expand(shape),  # every pixel says the same
        "even": torch.randn(2, 1, 3, 5).expand(shape),  # no pixel prefers a class
        "random": torch.randn(shape),
        "huge": 1e4 * F.one_hot(torch.randint(4, (2, 3, 5)), 4).movedim(-1, 1),
        "tiny": 1e-7 * torch.randn(shape),
    }
    gradient = finite_gradient(lambda x: loss(x, kinds[teacher].to(dtype)), kinds[student].to(dtype))
    assert gradient.abs().max() < 1e4, "clipped, it would silence every other term"


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_logits_are_computed_in_float32(loss, dtype):
    student, teacher = (x.to(dtype) for x in pair(0, 2, 4, 3, 5))
    assert loss(student, teacher) == loss(student.float(), teacher.float())


@every_loss
def test_gradients_are_those_of_the_function(loss):
    """Against central differences."""
    student, teacher = pair(1, 1, 3, 2, 2)
    student.requires_grad_()
    loss(student, teacher).backward()
    step = 1e-2
    for index in range(student.numel()):
        shift = torch.zeros(student.numel())
        shift[index] = step
        shift = shift.view_as(student)
        with torch.no_grad():
            slope = (loss(student + shift, teacher) - loss(student - shift, teacher)) / (2 * step)
        assert student.grad.flatten()[index].item() == pytest.approx(slope.item(), abs=3e-3)
