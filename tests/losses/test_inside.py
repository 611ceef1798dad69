"""What lies outside the images has no part in what the student learns from the teacher."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effiseg.base.config import Config
from effiseg.base.objective import DISTILLATION_TERMS
from effiseg.losses.distillation import channel_wise_distillation, cosine_guided_distillation
from effiseg.losses.inside import on_grids
from effiseg.losses.terms import LOSSES, Setting, Signals, squared_error
from effiseg.models.outputs import Outputs

CLASSES = 5
STUDENT, TEACHER = [2, 3, 4, 5], [4, 5, 6, 7]
GRIDS = [(16, 24), (8, 12), (4, 6), (2, 3)]

Inside = Sequence[Tensor | None]
Terms = dict[str, nn.Module]
every_term = pytest.mark.parametrize("name", DISTILLATION_TERMS)


@dataclass
class Given:
    """What a network hands over, as maps alone, which are easy to crop."""

    logits: Tensor
    features: list[Tensor]
    embeddings: list[Tensor]

    def changed(self, change: Callable[[Tensor, int], Tensor]) -> "Given":
        """Each map after `change(map, stage)`."""
        features, embeddings = (
            [change(x, stage) for stage, x in enumerate(maps)] for maps in (self.features, self.embeddings)
        )
        return Given(change(self.logits, 0), features, embeddings)

    def leaves(self) -> list[Tensor]:
        return [self.logits, *self.features, *self.embeddings]

    def outputs(self) -> Outputs:
        return Outputs(self.logits, self.features, [x.flatten(2).mT for x in self.embeddings])


def given(channels: list[int], images: int = 2) -> Given:
    features, embeddings = (
        [torch.randn(images, c, h, w) for c, (h, w) in zip(channels, GRIDS, strict=True)] for _ in range(2)
    )
    return Given(torch.randn(images, CLASSES, *GRIDS[0]), features, embeddings)


@pytest.fixture
def terms(shipped: Config) -> Terms:
    return {name: LOSSES[name](shipped.loss, Setting(torch.ones(CLASSES), STUDENT, TEACHER)) for name in LOSSES}


def value(term: nn.Module, student: Given, teacher: Given, inside: Inside = (None,) * 4) -> Tensor:
    return term(Signals(torch.empty(0), torch.empty(0), student.outputs(), teacher.outputs(), inside))


def gradients(term: nn.Module, student: Given, teacher: Given, inside: Inside = (None,) * 4) -> list[Tensor]:
    """With respect to the student's maps that the term reads, and to its projectors."""
    leaves = [*student.changed(lambda x, _: x.requires_grad_()).leaves(), *term.parameters()]
    found = torch.autograd.grad(value(term, student, teacher, inside), leaves, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def blobs() -> list[Tensor]:
    """Masks without any form, other ones for each image; some of every grid is in and some out."""
    masks = [torch.rand(2, 1, h, w) < 0.5 for h, w in GRIDS]
    for mask in masks:
        mask[..., 0, 0], mask[..., 0, 1] = True, False
    return masks


# --- every term -------------------------------------------------------------------------------------------------------


@every_term
def test_what_is_outside_changes_no_value_and_no_gradient_and_gets_none(name: str, terms: Terms):
    term, inside = terms[name], blobs()

    def spoilt(x: Tensor, stage: int) -> Tensor:
        return x.where(inside[stage], 50 * torch.randn_like(x))

    student, teacher = given(STUDENT), given(TEACHER)
    other_student, other_teacher = student.changed(spoilt), teacher.changed(spoilt)
    assert torch.equal(value(term, other_student, other_teacher, inside), value(term, student, teacher, inside))
    assert not torch.isclose(value(term, other_student, other_teacher), value(term, student, teacher), rtol=1e-3)

    masks = dict(zip(GRIDS, inside, strict=True))
    expected = gradients(term, student, teacher, inside)
    for ours, theirs in zip(gradients(term, other_student, other_teacher, inside), expected, strict=True):
        assert torch.equal(ours, theirs)
        if tuple(ours.shape[2:]) in masks:  # of a map, not of a projector
            mask = masks[tuple(ours.shape[2:])].expand_as(ours)
            assert (ours[~mask] == 0).all()
            assert (ours[mask] != 0).any()


@every_term
def test_a_term_is_that_of_the_inside_alone(name: str, terms: Terms):
    term = terms[name]

    def cropped(x: Tensor, stage: int) -> Tensor:
        rows, columns = (side // 2 for side in GRIDS[stage])
        return x[:, :, rows:, : columns + 1]

    inside = []
    for stage, (height, width) in enumerate(GRIDS):
        mask = torch.zeros(2, 1, height, width, dtype=torch.bool)
        cropped(mask, stage).fill_(True)
        inside.append(mask)
    student, teacher = given(STUDENT), given(TEACHER)
    alone = value(term, student.changed(cropped), teacher.changed(cropped))
    torch.testing.assert_close(value(term, student, teacher, inside), alone)
    assert not torch.isclose(value(term, student, teacher), alone, rtol=1e-3)


@every_term
def test_a_mask_of_all_gives_the_same_bits_as_none(name: str, terms: Terms):
    term, student, teacher = terms[name], given(STUDENT), given(TEACHER)
    inside = [torch.ones(2, 1, h, w, dtype=torch.bool) for h, w in GRIDS]
    assert torch.equal(value(term, student, teacher, inside), value(term, student, teacher))
    for ours, theirs in zip(gradients(term, student, teacher, inside), gradients(term, student, teacher), strict=True):
        assert torch.equal(ours, theirs)


@every_term
def test_an_image_with_nothing_inside_may_as_well_not_be_there(name: str, terms: Terms):
    term, inside = terms[name], blobs()
    for mask in inside:
        mask[1] = False
    student, teacher = given(STUDENT), given(TEACHER)
    first = student.changed(lambda x, _: x[:1]), teacher.changed(lambda x, _: x[:1])
    expected = value(term, *first, [mask[:1] for mask in inside])
    torch.testing.assert_close(value(term, student, teacher, inside), expected)


@every_term
def test_with_nothing_inside_there_is_nothing_to_learn(name: str, terms: Terms):
    inside = [torch.zeros(2, 1, h, w, dtype=torch.bool) for h, w in GRIDS]
    assert value(terms[name], given(STUDENT), given(TEACHER), inside).isfinite()
    assert all((gradient == 0).all() for gradient in gradients(terms[name], given(STUDENT), given(TEACHER), inside))


# --- images of which more is inside than of others --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kl", "dist"])
def test_every_pixel_inside_counts_alike(name: str, terms: Terms):
    inside = blobs()

    def of_one_row(x: Tensor, _: int) -> Tensor:
        """The pixels inside as an image of one row."""
        if x.shape[2:] != GRIDS[0]:
            return x
        return x.transpose(0, 1)[:, inside[0][:, 0]][None, :, None]

    student, teacher = given(STUDENT), given(TEACHER)
    expected = value(terms[name], student.changed(of_one_row), teacher.changed(of_one_row))
    torch.testing.assert_close(value(terms[name], student, teacher, inside), expected)


def test_every_position_inside_counts_alike_in_a_squared_error():
    student, teacher, mask = torch.randn(2, 4, 8, 12), torch.randn(2, 4, 8, 12), blobs()[1]
    expected = (student - teacher).movedim(1, -1)[mask[:, 0]].square().mean()
    torch.testing.assert_close(squared_error(student, teacher, mask), expected)


def test_cwd_is_the_mean_over_the_images():
    student, teacher, mask = torch.randn(2, 4, 8, 12), torch.randn(2, 4, 8, 12), blobs()[1]
    alone = [
        channel_wise_distillation(s[None, :, None, m[0]], t[None, :, None, m[0]], 4.0)
        for s, t, m in zip(student, teacher, mask, strict=True)
    ]
    torch.testing.assert_close(channel_wise_distillation(student, teacher, 4.0, mask), torch.stack(alone).mean())


def test_cskd_by_its_equation_on_what_is_inside():
    student, teacher, mask = torch.randn(2, 4, 8, 12), torch.randn(2, 4, 8, 12), blobs()[1]
    guided, channels, positions = [], [], []
    for image in range(2):
        ours, theirs = (x[image][:, mask[image, 0]] for x in (student, teacher))  # channels, positions
        channels.append(1 - F.cosine_similarity(ours, theirs, dim=0))
        positions.append(1 - F.cosine_similarity(ours, theirs, dim=1))
        guided.append((channels[-1][None] * positions[-1][:, None] * (ours - theirs) ** 2).mean(dim=0))
    expected = 2 * torch.cat(guided).mean() + 0.5 * (torch.cat(channels).mean() + torch.cat(positions).mean())
    torch.testing.assert_close(cosine_guided_distillation(student, teacher, 2.0, 0.5, mask), expected)


# --- grids ------------------------------------------------------------------------------------------------------------


def test_a_position_is_inside_where_more_than_half_of_it_is():
    inside = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    inside[..., :4, :3] = True  # 12 of 16 pixels of the first position of a 2x2 grid
    inside[..., 4:, :2] = True  # 8 of 16
    maps = [torch.empty(1, 3, side, side) for side in (8, 2, 1)]
    same, quarter, one = on_grids(inside, maps)
    assert torch.equal(same, inside)
    assert quarter.tolist() == [[[[True, False], [False, False]]]]
    assert one.tolist() == [[[[False]]]]


def test_where_all_is_inside_there_are_no_masks():
    assert on_grids(None, [torch.empty(1, 3, 8, 8)] * 3) == [None] * 3
