"""Augmentation: ramps and painted labels show where every output pixel came from."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kornia.augmentation import ColorJiggle
from torch import Tensor

from effiseg.base.recipe import Augment
from effiseg.base.schema import IGNORE_INDEX
from effiseg.data.augment import Augmentation

SIZE = (64, 128)
LEVELS = torch.arange(256).mul(7).add(5).clamp_max(250).to(torch.uint8)  # grey level by label; none is black


def augmentation(**changes: Any) -> Augmentation:
    """No change at all, but for the arguments."""
    return Augmentation(
        Augment(**{"flip": 0.0, "scale": [1.0, 1.0], "crop": list(SIZE), "colour": 0.0, "hue": 0.0} | changes)
    )


def ramps(count: int) -> tuple[Tensor, Tensor]:
    """Channel 0 is the column, channel 1 the row, channel 2 is white; the label is the column too."""
    columns = torch.arange(SIZE[1], dtype=torch.uint8).expand(SIZE)
    rows = torch.arange(SIZE[0], dtype=torch.uint8)[:, None].expand(SIZE)
    image = torch.stack([columns, rows, torch.full(SIZE, 255, dtype=torch.uint8)])
    return image.expand(count, -1, -1, -1).clone(), columns.expand(count, -1, -1).clone()


def patches(count: int, labels: list[int]) -> tuple[Tensor, Tensor]:
    """Patches of 16x16 pixels with one of the labels each, painted in the label's grey level."""
    index = torch.randint(len(labels), (count, SIZE[0] // 16, SIZE[1] // 16))
    painted = torch.tensor(labels)[index].repeat_interleave(16, 1).repeat_interleave(16, 2)
    return LEVELS[painted][:, None].expand(-1, 3, -1, -1).clone(), painted.to(torch.uint8)


def away_from_borders(labels: Tensor) -> Tensor:
    """Where the whole 5x5 neighbourhood has one label; what lies beyond the crop is unknown."""
    padded = F.pad(labels[:, None].float(), (2, 2, 2, 2), value=-1)
    return (F.max_pool2d(padded, 5, 1) == -F.max_pool2d(-padded, 5, 1))[:, 0]


def seen(images: Tensor) -> Tensor:
    """Where the output shows the image alone, unmixed with the black around it."""
    return images[:, 2] > 254.99


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("crop", [[64, 128], [32, 64], [32, 128]])
def test_image_and_label_show_the_same_place_to_half_a_pixel(flip: float, crop: list[int]):
    images, labels = augmentation(flip=flip, scale=[0.6, 1.8], crop=crop)(*ramps(40))
    inside = seen(images)
    apart = (images[:, 0] - labels)[inside]
    assert inside.float().mean() > 0.5
    # the image interpolates between columns, the label is the nearest one
    assert apart.abs().max() <= 0.5 + 1e-3
    assert apart.mean().abs() < 0.01


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_painted_labels_stay_on_their_pixels(flip: float):
    images, labels = augmentation(flip=flip, scale=[0.7, 1.7])(*patches(20, [0, 1, 7, 18, 31]))
    checked = away_from_borders(labels) & (labels != IGNORE_INDEX)
    assert checked.float().mean() > 0.3
    expected = LEVELS[labels[checked].long()].float()
    torch.testing.assert_close(images.permute(0, 2, 3, 1)[checked], expected[:, None].expand(-1, 3), atol=0.01, rtol=0)


@pytest.mark.parametrize(("flip", "share"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_the_share_of_mirrored_images_is_the_probability(flip: float, share: float):
    images, _ = augmentation(flip=flip)(*ramps(200))
    mirrored = images[:, 0, 0, 0] > images[:, 0, 0, -1]
    assert mirrored.float().mean().item() == pytest.approx(share, abs=0.1 if flip == 0.5 else 0)
    # never upside down
    assert (images[:, 1, 0, 0] < images[:, 1, -1, 0]).all()


def test_a_mirrored_image_is_the_exact_mirror_image():
    images, labels = patches(3, [0, 4, 255])
    moved, moved_labels = augmentation(flip=1.0)(images, labels)
    torch.testing.assert_close(moved, images.flip(-1).float(), atol=0.01, rtol=0)
    assert torch.equal(moved_labels, labels.flip(-1))


def test_zoom_is_alike_on_both_axes_and_fills_its_range():
    images, _ = augmentation(scale=[1.25, 2.0])(*ramps(200))
    middle = images[:, :, 16:48, 32:96]  # the outermost pixels may mix with the black outside
    zoom = 1 / middle[:, 0].diff(dim=2).mean(dim=(1, 2))
    torch.testing.assert_close(1 / middle[:, 1].diff(dim=1).mean(dim=(1, 2)), zoom)
    assert 1.25 <= zoom.min() < 1.28
    assert 1.97 < zoom.max() <= 2.0001
    assert zoom.mean().item() == pytest.approx(1.625, abs=0.05)


def test_a_small_crop_reaches_every_place_and_nothing_outside():
    images, labels = augmentation(crop=[32, 64])(*ramps(400))
    assert images.shape == (400, 3, 32, 64)
    assert labels.shape == (400, 32, 64)
    for channel, room in ((0, 64), (1, 32)):
        first = images[:, channel, 0, 0] / room
        assert first.min() < 0.02
        assert first.max() > 0.98
        assert torch.histc(first, 4, 0, 1).min() > 60  # of 100
    assert seen(images).all()


def test_a_small_image_lands_anywhere_and_wholly_in_the_crop():
    images, _ = augmentation(scale=[0.5, 0.5])(*ramps(300))
    assert (images[:, 2] / 255).sum(dim=(1, 2)).div(SIZE[0] * SIZE[1]).sub(0.25).abs().max() < 0.005
    left = seen(images).any(dim=1).float().argmax(dim=1)
    assert left.min() <= 1
    assert left.max() >= 62


def test_draws_differ_between_the_images_of_a_batch():
    images, _ = augmentation(flip=0.5, scale=[1.1, 1.5], crop=[32, 64])(*ramps(8))
    assert len({tuple(image[:2, 0, 0].tolist()) for image in images}) == 8
    painted, labels = patches(1, [3, 9])
    jittered, _ = augmentation(colour=0.3)(painted.expand(8, -1, -1, -1), labels.expand(8, -1, -1))
    assert len({image.mean().item() for image in jittered}) == 8


def test_mixed_precision_does_not_coarsen_the_geometry():
    augment, batch = augmentation(flip=0.5, scale=[0.5, 2.0], colour=0.2), ramps(4)
    torch.manual_seed(1)
    images, labels = augment(*batch)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed_images, mixed_labels = augment(*batch)
    assert torch.equal(mixed_images, images)
    assert torch.equal(mixed_labels, labels)


# --- labels -----------------------------------------------------------------------------------------------------------


def test_what_comes_from_outside_is_black_and_ignored():
    images, labels = augmentation(flip=0.5, scale=[0.4, 0.9])(*patches(20, [0]))
    outside = (images == 0).all(dim=1)
    assert 0.3 < outside.float().mean() < 0.9
    assert (labels[outside] == IGNORE_INDEX).all()
    assert set(labels[~outside].unique().tolist()) <= {0, IGNORE_INDEX}
    # every pixel that is more than half image has its class
    mostly = (images > LEVELS[0] * 0.8).all(dim=1)
    assert (labels[mostly] == 0).all()


ZOOMED_OUT = [{"scale": [0.4, 0.9]}, {"scale": [0.5, 2.0], "crop": [64, 96]}, {"scale": [0.6, 0.6], "crop": [32, 128]}]


@pytest.mark.parametrize("changes", ZOOMED_OUT, ids=str)
def test_inside_is_where_labels_come_from_the_image(changes: dict[str, Any]):
    augment = augmentation(flip=0.5, **changes)
    draws = torch.rand(40, augment.draws)
    images, labels = patches(40, [0])
    _, moved = augment(images, labels, draws)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = augment.inside(SIZE, draws)
    assert inside.dtype == torch.bool
    assert torch.equal(inside[:, 0], moved != IGNORE_INDEX)
    assert 0.1 < inside.float().mean() < 0.95


@pytest.mark.parametrize("changes", [{}, {"scale": [1.0, 1.5]}, {"scale": [0.5, 2.0], "crop": [32, 64]}], ids=str)
def test_where_no_draw_leaves_the_image_inside_is_none_and_all_labels_come_from_it(changes: dict[str, Any]):
    augment = augmentation(flip=0.5, **changes)
    draws = torch.rand(100, augment.draws)
    assert augment.inside(SIZE, draws) is None
    assert (augment(*patches(100, [0]), draws)[1] == 0).all()


@pytest.mark.parametrize("scale", [[1.0, 1.0], [0.5, 2.0]])
def test_no_label_is_invented_and_none_is_lost(scale: list[float]):
    values = [0, 1, 18, 127, 128, 254, 255]
    images, labels = patches(20, values)
    _, moved = augmentation(flip=0.5, scale=scale)(images, labels)
    assert moved.unique().tolist() == values


def test_every_label_survives_untouched_where_nothing_moves():
    labels = torch.arange(256, dtype=torch.uint8).repeat(32).view(1, *SIZE)
    _, moved = augmentation()(torch.zeros(1, 3, *SIZE, dtype=torch.uint8), labels)
    assert torch.equal(moved, labels)


# --- values -----------------------------------------------------------------------------------------------------------


def test_types_and_shapes():
    images, labels = augmentation(flip=0.5, scale=[0.8, 1.2], crop=[32, 96], colour=0.2)(*patches(3, [0, 255]))
    assert (images.dtype, images.shape) == (torch.float32, (3, 3, 32, 96))
    assert (labels.dtype, labels.shape) == (torch.uint8, (3, 32, 96))


def test_without_zoom_crop_flip_and_colour_nothing_changes():
    images = torch.randint(256, (4, 3, *SIZE), dtype=torch.uint8)
    labels = torch.randint(256, (4, *SIZE), dtype=torch.uint8)
    moved, moved_labels = augmentation()(images, labels)
    torch.testing.assert_close(moved, images.float(), atol=0.02, rtol=0)
    assert torch.equal(moved_labels, labels)


def test_colour_moves_values_but_no_pixels_and_stays_in_range():
    images, labels = patches(30, [0, 5, 9, 255])
    images[:, 1] //= 3  # not grey: saturation shows
    moved, moved_labels = augmentation(colour=0.9)(images, labels)
    assert torch.equal(moved_labels, labels)
    assert moved.min() >= 0
    assert moved.max() <= 255
    assert not moved.allclose(images.float(), atol=5)
    # what had one colour in an image still has one
    for image, label in zip(moved, labels, strict=True):
        for value in label.unique():
            assert image[:, label == value].std(dim=1).max() < 0.1


def test_more_colour_strength_moves_further():
    images, labels = patches(50, [0, 9, 20])
    weak, strong = (
        (augmentation(colour=colour)(images, labels)[0] - images).abs().mean().item() for colour in (0.1, 0.5)
    )
    assert 0 < 2 * weak < strong


def test_a_sample_is_augmented_by_its_own_draws_whatever_is_beside_it():
    augment, batch = augmentation(flip=0.5, scale=[0.5, 2.0], crop=[32, 64], colour=0.3), patches(6, [0, 1, 255])
    draws = torch.rand(6, augment.draws)
    images, labels = augment(*batch, draws)
    for i in range(6):
        image, label = augment(batch[0][i : i + 1], batch[1][i : i + 1], draws[i : i + 1])
        torch.testing.assert_close(image[0], images[i])
        assert torch.equal(label[0], labels[i])


def test_colour_is_kornias_jiggle_in_a_fixed_order():
    images, labels = patches(4, [0, 5, 9])
    images[:, 1] //= 3
    draws = torch.rand(4, 7)
    moved, _ = augmentation(colour=0.4)(images, labels, draws)
    jiggle = ColorJiggle(0.4, 0.4, 0.4, order=[0, 1, 2])
    names = ("brightness_factor", "contrast_factor", "saturation_factor")
    factors = dict(zip(names, (1 + 0.4 * (2 * draws[:, 4:] - 1)).unbind(1), strict=True))
    params = jiggle.forward_parameters(images.shape) | factors
    torch.testing.assert_close(moved, 255 * jiggle(images / 255, params=params), atol=0.02, rtol=1e-4)


def test_draws_that_are_not_given_come_from_the_global_seed():
    augment, batch = augmentation(flip=0.5, scale=[0.5, 2.0], crop=[32, 64], colour=0.3), patches(6, [0, 1, 255])
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augment(*batch))
    (images, labels), (same_images, same_labels), (other_images, other_labels) = results
    assert torch.equal(images, same_images)
    assert torch.equal(labels, same_labels)
    assert not torch.equal(images, other_images)
    assert not torch.equal(labels, other_labels)


def test_the_batch_that_goes_in_is_left_alone():
    images, labels = patches(2, [0, 255])
    before = images.clone(), labels.clone()
    augmentation(flip=1.0, scale=[0.5, 2.0], colour=0.5)(images, labels)
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
