"""The table of terms, and what each takes from a training step."""

import pytest
import torch
from torch import nn

from effiseg.base.objective import DISTILLATION_TERMS, Loss, LossWeights
from effiseg.losses.supervised import tversky_loss
from effiseg.losses.terms import LOSSES, Setting, Signals
from effiseg.models.outputs import Outputs

CLASSES = 3
STUDENT, TEACHER = [2, 3, 4, 5], [4, 5, 6, 7]
GRIDS = [(8, 16), (4, 8), (2, 4), (1, 2)]
WEIGHTS = torch.tensor([0.5, 2.0, 4.0])
every_term = pytest.mark.parametrize("name", LOSSES)


def outputs(channels: list[int], requires_grad: bool) -> Outputs:
    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, requires_grad=requires_grad)

    grids = list(zip(channels, GRIDS, strict=True))
    return Outputs(
        logits=random(2, CLASSES, *GRIDS[0]),
        features=[random(2, c, h, w) for c, (h, w) in grids],
        embeddings=[random(2, h * w, c) for c, (h, w) in grids],
    )


@pytest.fixture
def signals() -> Signals:
    student = outputs(STUDENT, requires_grad=True)
    upsampled = nn.functional.interpolate(student.logits, size=(32, 64), mode="bilinear")
    labels = torch.randint(0, CLASSES, (2, 32, 64), dtype=torch.uint8)
    return Signals(logits=upsampled, labels=labels, student=student, teacher=outputs(TEACHER, requires_grad=False))


@pytest.fixture
def build(shipped):
    """Builds a term from the shipped parameters, some of them changed."""

    def make(name: str, **changes: dict) -> nn.Module:
        content = shipped.loss.model_dump()
        for section, values in changes.items():
            content[section] |= values
        return LOSSES[name](Loss(**content), Setting(WEIGHTS, STUDENT, TEACHER))

    return make


def leaves(student: Outputs) -> list[torch.Tensor]:
    return [student.logits, *student.features, *student.embeddings]


def test_the_terms_are_those_that_params_yaml_weighs():
    assert list(LOSSES) == list(LossWeights.model_fields)


@every_term
def test_every_term_builds_from_the_shipped_parameters_and_teaches_the_student(name, build, signals):
    term = build(name)
    value = term(signals)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert value > 0
    value.backward()
    reached = [leaf for leaf in leaves(signals.student) if leaf.grad is not None]
    assert reached
    assert all(leaf.grad.isfinite().all() and leaf.grad.abs().sum() > 0 for leaf in reached)
    for parameter in term.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("kl", "logits"),
        ("cwd", "logits"),
        ("dist", "logits"),
        ("cskd", "features"),
        ("pekd", "embeddings"),
        ("feature_mse", "features"),
    ],
)
def test_distillation_reaches_all_stages_of_what_it_compares_and_nothing_else(name, reads, build, signals):
    build(name)(signals).backward()
    for kind in ("logits", "features", "embeddings"):
        values = getattr(signals.student, kind)
        for value in values if isinstance(values, list) else [values]:
            assert (value.grad is not None) == (kind == reads)


@every_term
def test_no_term_sends_a_gradient_into_what_the_teacher_computed_without_one(name, build, signals):
    build(name)(signals).backward()
    assert all(value.grad is None and not value.requires_grad for value in leaves(signals.teacher))


def names_that_fail_without(teacher: Outputs, build, signals: Signals) -> set[str]:
    failed = set()
    for name in LOSSES:
        try:
            build(name)(Signals(signals.logits, signals.labels, signals.student, teacher))
        except (AssertionError, ValueError, AttributeError, TypeError):
            failed.add(name)
    return failed


def test_the_terms_that_need_the_teacher_are_those_that_fail_without_it(build, signals):
    assert names_that_fail_without(Outputs(), build, signals) == set(DISTILLATION_TERMS)


def test_needs_teacher_logits_is_said_by_exactly_the_terms_that_read_them(build, signals):
    headless = Outputs(None, signals.teacher.features, signals.teacher.embeddings)
    said = {name for name, term in LOSSES.items() if term.needs_teacher_logits}
    assert names_that_fail_without(headless, build, signals) == said == {"kl", "cwd", "dist"}


@every_term
def test_plain_terms_have_no_parameters_and_feature_terms_one_projector_per_stage(name, build):
    shapes = {key: tuple(value.shape) for key, value in build(name).named_parameters()}
    pairs = list(enumerate(zip(STUDENT, TEACHER, strict=True)))
    biases = {f"projectors.{i}.bias": (t,) for i, (_, t) in pairs}
    convolutions = {f"projectors.{i}.weight": (t, s, 1, 1) for i, (s, t) in pairs} | biases
    linear = {f"projectors.{i}.weight": (t, s) for i, (s, t) in pairs} | biases
    expected = {"cskd": convolutions, "pekd": linear, "feature_mse": convolutions}
    assert shapes == expected.get(name, {})


@every_term
def test_a_terms_state_is_its_projectors_alone(name, build):
    term = build(name)
    assert set(term.state_dict()) == {key for key, _ in term.named_parameters()}


@pytest.mark.parametrize("name", ["weighted_ce", "ce", "focal"])
def test_class_weights_move_with_the_term(name, build):
    term = build(name).to(torch.float64)
    assert [buffer.dtype for buffer in term.buffers()] == [torch.float64]


# --- each setting reaches its function --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("dice", {"smooth": 50.0}),
        ("focal", {"gamma": 0.5}),
        ("tversky", {"alpha": 0.9}),
        ("tversky", {"beta": 0.1}),
        ("tversky", {"smooth": 50.0}),
        ("focal_tversky", {"gamma": 3.0}),
        ("kl", {"temperature": 3.0}),
        ("cwd", {"temperature": 1.0}),
        ("dist", {"beta": 3.0}),
        ("dist", {"gamma": 3.0}),
        ("dist", {"temperature": 3.0}),
        ("cskd", {"lambda_m": 3.0}),
        ("cskd", {"lambda_s": 3.0}),
        ("cskd", {"stage_weights": [1.0, 1.0, 1.0, 2.0]}),
        ("pekd", {"stage_weights": [0.1, 0.1, 0.5, 2.0]}),
        ("feature_mse", {"stage_weights": [1.0, 2.0, 1.0, 1.0]}),
    ],
)
def test_every_setting_of_a_term_changes_its_value(name, changes, build, signals):
    values = []
    for settings in ({}, changes):
        torch.manual_seed(1)  # the same projectors
        values.append(build(name, **{name: settings})(signals).item())
    assert values[0] != pytest.approx(values[1], rel=1e-3)


@pytest.mark.parametrize("name", ["weighted_ce", "focal"])
def test_class_weights_reach_the_term(name, shipped, signals):
    rare = signals.labels == 2
    signals.labels[rare] = 0
    signals.labels[0, 0, 0] = 2
    values = [
        LOSSES[name](shipped.loss, Setting(torch.tensor([1.0, 1.0, weight]), STUDENT, TEACHER))(signals).item()
        for weight in (1.0, 1e4)
    ]
    assert values[0] != pytest.approx(values[1], rel=0.01)


def test_ce_is_that_of_torch_whatever_the_class_weights(build, signals):
    signals.labels[:, :7] = 255
    expected = nn.functional.cross_entropy(signals.logits, signals.labels.long(), ignore_index=255)
    torch.testing.assert_close(build("ce")(signals), expected)
    assert not torch.isclose(build("weighted_ce")(signals), expected)


def test_focal_tversky_has_tverskys_settings_and_its_own_power(build, signals):
    settings = {"alpha": 0.2, "beta": 0.9, "smooth": 3.0}
    found = build("focal_tversky", tversky=settings, focal_tversky={"gamma": 1.5})(signals)
    torch.testing.assert_close(found, tversky_loss(signals.logits, signals.labels, **settings, power=1 / 1.5))
    plain = build("tversky", tversky=settings, focal_tversky={"gamma": 1.5})(signals)
    torch.testing.assert_close(plain, tversky_loss(signals.logits, signals.labels, **settings, power=1.0))


def test_supervised_terms_take_the_logits_at_the_labels_resolution_and_logit_terms_the_networks_own(build, signals):
    for name in ("weighted_ce", "ce", "dice", "focal", "tversky", "focal_tversky"):
        value = build(name)(signals)
        signals.student.logits = None
        assert build(name)(signals) == value
        signals.student.logits = torch.randn(2, CLASSES, *GRIDS[0])
    names = ("kl", "cwd", "dist")
    values = [build(name)(signals) for name in names]
    signals.logits = signals.labels = None
    assert [build(name)(signals) for name in names] == values


# --- by hand ----------------------------------------------------------------------------------------------------------


def one_position(values: list[list[float]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Four stages of one position: as maps (1, C, 1, 1) and as tokens (1, 1, C)."""
    return [torch.tensor(v).view(1, -1, 1, 1) for v in values], [torch.tensor(v).view(1, 1, -1) for v in values]


def test_pekd_by_hand(shipped):
    loss = Loss(**shipped.loss.model_dump() | {"pekd": {"stage_weights": [0.1, 0.2, 0.5, 1.0]}})
    term = LOSSES["pekd"](loss, Setting(WEIGHTS, [1, 1, 1, 1], [2, 2, 2, 2]))
    with torch.no_grad():
        for projector in term.projectors:
            projector.weight.copy_(torch.tensor([[2.0], [-1.0]]))
            projector.bias.copy_(torch.tensor([1.0, 0.0]))
    _, student = one_position([[1.0], [2.0], [3.0], [0.0]])  # projected: (3, -1), (5, -2), (7, -3), (1, 0)
    _, teacher = one_position([[3.0, 1.0], [5.0, -2.0], [4.0, 1.0], [0.0, 0.0]])
    stages = [(0 + 4) / 2, 0, (9 + 16) / 2, (1 + 0) / 2]
    expected = 0.1 * stages[0] + 0.2 * stages[1] + 0.5 * stages[2] + 1.0 * stages[3]
    signals = Signals(None, None, Outputs(embeddings=student), Outputs(embeddings=teacher))
    assert term(signals).item() == pytest.approx(expected, rel=1e-5)


def test_feature_mse_by_hand(shipped):
    loss = Loss(**shipped.loss.model_dump() | {"feature_mse": {"stage_weights": [0.1, 0.2, 0.0, 1.0]}})
    term = LOSSES["feature_mse"](loss, Setting(WEIGHTS, [1, 1, 1, 1], [2, 2, 2, 2]))
    with torch.no_grad():
        for projector in term.projectors:
            projector.weight.copy_(torch.tensor([2.0, -1.0]).view(2, 1, 1, 1))
            projector.bias.copy_(torch.tensor([1.0, 0.0]))
    student, _ = one_position([[1.0], [2.0], [3.0], [0.0]])  # projected: (3, -1), (5, -2), (7, -3), (1, 0)
    teacher, _ = one_position([[3.0, 1.0], [5.0, 0.0], [4.0, 1.0], [0.0, 0.0]])
    expected = 0.1 * (0 + 4) / 2 + 0.2 * (0 + 4) / 2 + 0.0 + 1.0 * (1 + 0) / 2
    signals = Signals(None, None, Outputs(features=student), Outputs(features=teacher))
    assert term(signals).item() == pytest.approx(expected, rel=1e-5)


def test_cskd_sums_the_stages_by_their_weights(shipped):
    settings = {
        "lambda_m": 2.0,
        "lambda_s": 0.25,
        "stage_weights": [1.0, 0.0, 3.0, 0.5],
        "projector": "conv",
        "frozen": False,
    }
    loss = Loss(**shipped.loss.model_dump() | {"cskd": settings})
    term = LOSSES["cskd"](loss, Setting(WEIGHTS, [1, 1, 1, 1], [2, 2, 2, 2]))
    with torch.no_grad():
        for projector in term.projectors:
            projector.weight.copy_(torch.tensor([3.0, 4.0]).view(2, 1, 1, 1))
            projector.bias.zero_()
    student, _ = one_position([[1.0], [1.0], [1.0], [-1.0]])  # projected: (3, 4), the last one (-3, -4)
    teacher, _ = one_position([[3.0, 4.0], [9.0, 9.0], [4.0, 3.0], [3.0, 4.0]])
    # over channels the cosine of (3, 4) and (4, 3) is 24/25; over the one position it is the sign
    third = 0.25 * (1 - 24 / 25)  # 1 - S^S is 0, and so is the guidance
    fourth = 2.0 * (2 * 2 * (6**2 + 8**2) / 2) + 0.25 * 2 + 0.25 * 2
    signals = Signals(None, None, Outputs(features=student), Outputs(features=teacher))
    assert term(signals).item() == pytest.approx(1.0 * 0 + 3.0 * third + 0.5 * fourth, rel=1e-4)


@pytest.mark.parametrize("name", ["cskd", "pekd", "feature_mse"])
def test_networks_of_different_depth_are_an_error(name, build, signals):
    signals.teacher.features.pop()
    signals.teacher.embeddings.pop()
    with pytest.raises(ValueError, match="zip"):
        build(name)(signals)
