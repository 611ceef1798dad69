"""KL divergence and CSKD."""

from math import exp, log, sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effiseg.losses.distillation import cosine_guided_distillation, kl_divergence

seeds = st.integers(0, 2**31)


def pair(seed: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator), torch.randn(*shape, generator=generator)


# --- KL ---------------------------------------------------------------------------------------------------------------


def test_kl_at_temperature_1_by_hand(logits_of):
    student, teacher = logits_of([[0.5, 0.5], [0.9, 0.1]]), logits_of([[0.8, 0.2], [0.3, 0.7]])
    first = 0.8 * log(0.8 / 0.5) + 0.2 * log(0.2 / 0.5)
    second = 0.3 * log(0.3 / 0.9) + 0.7 * log(0.7 / 0.1)
    assert kl_divergence(student, teacher, 1.0).item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_kl_at_temperature_2_by_hand(logits_of):
    # softened by 2, probabilities are as their square roots
    s = [sqrt(0.9), sqrt(0.1)]
    t = [sqrt(0.3), sqrt(0.7)]
    s, t = [x / sum(s) for x in s], [x / sum(t) for x in t]
    expected = 2**2 * (t[0] * log(t[0] / s[0]) + t[1] * log(t[1] / s[1]))
    found = kl_divergence(logits_of([[0.9, 0.1]]), logits_of([[0.3, 0.7]]), 2.0)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_kl_is_of_the_teacher_from_the_student_not_the_reverse(logits_of):
    student, teacher = logits_of([[0.5, 0.5]]), logits_of([[0.99, 0.01]])
    expected = 0.99 * log(0.99 / 0.5) + 0.01 * log(0.01 / 0.5)
    reverse = 0.5 * log(0.5 / 0.99) + 0.5 * log(0.5 / 0.01)
    assert abs(expected - reverse) > 0.5
    assert kl_divergence(student, teacher, 1.0).item() == pytest.approx(expected, rel=1e-5)


@given(seed=seeds, temperature=st.sampled_from([0.5, 1.0, 4.0]))
def test_kl_is_a_mean_over_pixels_whatever_the_size_of_the_batch_and_the_maps(seed, temperature):
    student, teacher = pair(seed, 2, 4, 3, 5)
    value = kl_divergence(student, teacher, temperature)
    for repeats in [(2, 1, 1, 1), (1, 1, 2, 1), (1, 1, 1, 3), (2, 1, 3, 2)]:
        found = kl_divergence(student.repeat(repeats), teacher.repeat(repeats), temperature)
        torch.testing.assert_close(found, value)


@given(seeds)
def test_kl_is_positive_and_zero_when_equal(seed):
    student, teacher = pair(seed, 2, 4, 3, 5)
    assert kl_divergence(student, teacher, 1.0) > 0
    assert kl_divergence(student, student, 2.0) == pytest.approx(0, abs=1e-6)
    assert kl_divergence(student + 3, student, 2.0) == pytest.approx(0, abs=1e-5), "a constant changes no softmax"


def test_kl_at_high_temperature_tends_to_half_the_squared_difference_of_centred_logits():
    """Why T^2 stands there: the value, and so the gradient, keeps its size."""
    student, teacher = (x - x.mean(1, keepdim=True) for x in pair(0, 1, 4, 2, 2))
    expected = ((student - teacher) ** 2).sum(1).mean() / (2 * 4)
    assert kl_divergence(student, teacher, 300.0).item() == pytest.approx(expected.item(), rel=0.02)


def test_the_gradient_of_kl_at_temperature_1_is_the_difference_of_probabilities():
    student, teacher = pair(0, 1, 3, 2, 2)
    student.requires_grad_()
    kl_divergence(student, teacher, 1.0).backward()
    torch.testing.assert_close(student.grad, (student.softmax(1) - teacher.softmax(1)).detach() / 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_of_extreme_logits_is_finite(dtype, temperature, finite_gradient):
    student = torch.full((1, 3, 2, 2), -1e4)
    student[:, 0] = 1e4
    student = student.to(dtype)
    finite_gradient(lambda x: kl_divergence(x, student.flip(1), temperature), student)
    finite_gradient(lambda x: kl_divergence(x, torch.zeros_like(student), temperature), student)
    finite_gradient(lambda x: kl_divergence(x, student, temperature), torch.zeros_like(student))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_kl_of_half_precision_logits_is_computed_in_float32(dtype):
    student, teacher = (x.to(dtype) for x in pair(0, 2, 4, 3, 5))
    assert kl_divergence(student, teacher, 2.0) == kl_divergence(student.float(), teacher.float(), 2.0)


# --- CSKD -------------------------------------------------------------------------------------------------------------


def cosine(first: list[float], second: list[float]) -> float:
    dot = sum(a * b for a, b in zip(first, second, strict=True))
    return dot / sqrt(sum(a * a for a in first)) / sqrt(sum(b * b for b in second))


def cskd_by_loops(student: torch.Tensor, teacher: torch.Tensor, lambda_m: float, lambda_s: float) -> float:
    """The equations one index at a time."""
    s, t = student.tolist(), teacher.tolist()
    n_images, n_channels, height, width = student.shape
    total = 0.0
    for n in range(n_images):
        positions = [(h, w) for h in range(height) for w in range(width)]
        over_channels = {
            (h, w): cosine([s[n][c][h][w] for c in range(n_channels)], [t[n][c][h][w] for c in range(n_channels)])
            for h, w in positions
        }
        over_positions = [
            cosine([s[n][c][h][w] for h, w in positions], [t[n][c][h][w] for h, w in positions])
            for c in range(n_channels)
        ]
        guided = 0.0
        for c in range(n_channels):
            for h, w in positions:
                guidance = (1 - over_channels[h, w]) * (1 - over_positions[c])
                guided += guidance * (t[n][c][h][w] - s[n][c][h][w]) ** 2
        total += lambda_m * guided / (n_channels * height * width)
        total += lambda_s * sum(1 - value for value in over_positions) / n_channels
        total += lambda_s * sum(1 - value for value in over_channels.values()) / (height * width)
    return total / n_images


def test_cskd_of_one_channel_and_two_positions_by_hand():
    student, teacher = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[3.0, -4.0]]]])
    # over one channel the cosine is the sign: 1 and -1; over the positions (1*3 - 2*4) / (sqrt(5) * 5)
    over_positions = 1 - (3 - 8) / (sqrt(5) * 5)
    guided = (0 * over_positions * (3 - 1) ** 2 + 2 * over_positions * (-4 - 2) ** 2) / 2
    expected = 1.5 * guided + 0.5 * over_positions + 0.5 * (0 + 2) / 2
    assert cosine_guided_distillation(student, teacher, 1.5, 0.5).item() == pytest.approx(expected, rel=1e-5)


@given(
    seed=seeds,
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4)),
    lambda_m=st.floats(0, 3),
    lambda_s=st.floats(0, 3),
)
def test_cskd_is_the_equations_written_as_loops(seed, shape, lambda_m, lambda_s):
    student, teacher = pair(seed, *shape)
    found = cosine_guided_distillation(student, teacher, lambda_m, lambda_s).item()
    assert found == pytest.approx(cskd_by_loops(student, teacher, lambda_m, lambda_s), rel=1e-4, abs=1e-5)


@given(seeds)
def test_cskd_passes_no_gradient_through_the_guidance(seed):
    """The gradient is that of the expression in which G is a constant, and not that of the one in which it moves."""
    student, teacher = (x.double() for x in pair(seed, 2, 3, 2, 4))

    def by_hand(x: torch.Tensor, constant: bool) -> torch.Tensor:
        def cosines(axes: tuple[int, ...]) -> torch.Tensor:
            norms = (x**2).sum(axes, keepdim=True).sqrt() * (teacher**2).sum(axes, keepdim=True).sqrt()
            return (x * teacher).sum(axes, keepdim=True) / norms

        over_channels, over_positions = 1 - cosines((1,)), 1 - cosines((2, 3))
        guidance = over_channels * over_positions
        guidance = guidance.detach() if constant else guidance
        return (guidance * (teacher - x) ** 2).mean() + 0.5 * (over_channels.mean() + over_positions.mean())

    gradients = []
    for constant in (True, False):
        x = student.clone().requires_grad_()
        by_hand(x, constant).backward()
        gradients.append(x.grad.float())
    x = student.float().requires_grad_()
    cosine_guided_distillation(x, teacher.float(), 1.0, 0.5).backward()
    torch.testing.assert_close(x.grad, gradients[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(x.grad, gradients[1], rtol=1e-2, atol=1e-3)


@given(seeds)
def test_cskd_is_the_mean_over_the_images(seed):
    student, teacher = pair(seed, 3, 4, 2, 5)
    single = [cosine_guided_distillation(s[None], t[None], 1.0, 0.5) for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(cosine_guided_distillation(student, teacher, 1.0, 0.5), torch.stack(single).mean())


@given(seeds)
def test_cskd_does_not_depend_on_the_order_of_channels_or_positions(seed):
    student, teacher = pair(seed, 2, 4, 3, 5)
    value = cosine_guided_distillation(student, teacher, 1.0, 0.5)
    channels, positions = torch.randperm(4), torch.randperm(15)

    def shuffled(x: torch.Tensor) -> torch.Tensor:
        return x[:, channels].flatten(2)[:, :, positions].view(2, 4, 3, 5)

    torch.testing.assert_close(cosine_guided_distillation(shuffled(student), shuffled(teacher), 1.0, 0.5), value)


@given(seeds)
def test_cskd_of_equal_maps_is_zero_with_zero_gradient(seed):
    student, _ = pair(seed, 2, 4, 3, 5)
    teacher = student.clone()
    student.requires_grad_()
    value = cosine_guided_distillation(student, teacher, 1.0, 0.5)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-6


@given(seed=seeds, scale=st.floats(0.1, 10))
def test_cosine_terms_ignore_a_scale_and_the_guided_term_is_quadratic_in_it(seed, scale):
    student, teacher = pair(seed, 2, 4, 3, 5)
    cosines = cosine_guided_distillation(student, teacher, 0.0, 1.0)
    torch.testing.assert_close(cosine_guided_distillation(scale * student, teacher, 0.0, 1.0), cosines)
    torch.testing.assert_close(cosine_guided_distillation(student, scale * teacher, 0.0, 1.0), cosines)
    guided = cosine_guided_distillation(student, teacher, 1.0, 0.0)
    both = cosine_guided_distillation(scale * student, scale * teacher, 1.0, 0.0)
    torch.testing.assert_close(both, scale**2 * guided, rtol=1e-4, atol=1e-6)


def test_cskd_is_largest_for_the_opposite_map():
    _, teacher = pair(0, 2, 4, 3, 5)
    # both cosines are -1, so that G is 4 and each cosine term 2
    expected = 4 * (4 * teacher**2).mean() + 0.5 * (2 + 2)
    torch.testing.assert_close(cosine_guided_distillation(-teacher, teacher, 1.0, 0.5), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("student", ["zero", "constant", "random", "huge", "tiny"])
@pytest.mark.parametrize("teacher", ["zero", "constant", "random", "huge", "tiny"])
def test_cskd_of_degenerate_maps_is_finite(student, teacher, dtype, finite_gradient):
    shape = (2, 4, 3, 5)
    maps = {
        "zero": torch.zeros(shape),
        "constant": torch.ones(shape),
        "random": torch.randn(shape),
        "huge": 3e4 * torch.randn(shape).sign(),
        "tiny": 1e-7 * torch.randn(shape),
    }
    # one dead channel and one dead position, too
    for value in maps.values():
        value[0, 1], value[1, :, 2, 3] = 0, 0
    target = maps[teacher].to(dtype)
    finite_gradient(lambda x: cosine_guided_distillation(x, target, 1.0, 0.5), maps[student].to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_cskd_of_half_precision_maps_is_computed_in_float32(dtype):
    student, teacher = (x.to(dtype) for x in pair(0, 2, 4, 3, 5))
    found = cosine_guided_distillation(student, teacher, 1.0, 0.5)
    assert found == cosine_guided_distillation(student.float(), teacher.float(), 1.0, 0.5)


def test_softmax_reference_used_above_is_sound(logits_of):
    """The hand-written probabilities are what the logits say."""
    logits = logits_of([[0.9, 0.1]]).flatten().tolist()
    assert exp(logits[0]) / (exp(logits[0]) + exp(logits[1])) == pytest.approx(0.9)
