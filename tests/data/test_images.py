"""Pictures of every kind: turned upright and made RGB, or refused in one line."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from effiseg.data.images import MAX_PIXELS, BadFile, decode, read_image

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.stack([GREY, 255 - GREY, np.full_like(GREY, 7)], axis=-1)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def as_grey_rgb(values):
    return np.stack([values] * 3, axis=-1)


ALPHA = Image.fromarray(np.dstack([COLOUR, GREY]))
PALETTE = Image.fromarray(GREY // 20, "P")
PALETTE.putpalette([value for i in range(12) for value in (i, 2 * i, 255 - i)])
KINDS = {
    "rgb": (Image.fromarray(COLOUR), COLOUR),
    "grey": (Image.fromarray(GREY), as_grey_rgb(GREY)),
    "alpha": (ALPHA, COLOUR),
    "grey with alpha": (Image.fromarray(GREY).convert("LA"), as_grey_rgb(GREY)),
    "palette": (PALETTE, np.stack([GREY // 20, GREY // 20 * 2, 255 - GREY // 20], axis=-1)),
    "16-bit grey": (Image.fromarray(GREY.astype(np.uint16) * 256 + 99), as_grey_rgb(GREY)),
    "black and white": (Image.fromarray(GREY > 100), as_grey_rgb((GREY > 100) * np.uint8(255))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_rgb(kind):
    image, expected = KINDS[kind]
    found = decode(encoded(image))

    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True}), ("BMP", {})])
def test_other_formats_are_read(kind, options):
    picture = np.full((16, 16, 3), (200, 30, 60), dtype=np.uint8)
    found = np.asarray(decode(encoded(Image.fromarray(picture), kind, **options)))
    assert np.abs(found.astype(int) - picture).max() <= 6


@pytest.mark.parametrize("kind", ["rgb", "16-bit grey"])
@pytest.mark.parametrize(("orientation", "turn"), [(1, lambda x: x), (3, lambda x: x[::-1, ::-1]), (6, np.rot90)])
def test_exif_says_which_side_is_up(kind, orientation, turn):
    image, expected = KINDS[kind]
    exif = Image.Exif()
    exif[0x0112] = orientation

    found = np.asarray(decode(encoded(image, exif=exif)))

    turned = np.rot90(expected, -1) if orientation == 6 else turn(expected)
    np.testing.assert_array_equal(found, turned)


def bomb() -> bytes:
    """A file of a few kilobytes with 100 million pixels."""
    return encoded(Image.new("L", (10_000, 10_000)))


REFUSED = {
    "nothing": (b"", "empty (0 bytes): copy it again"),
    "rubbish": (b"rubbish", "not a PNG, JPEG, WEBP, BMP or TIFF file, or its beginning is damaged: replace it"),
    "half": (
        encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))[:999],
        "damaged",
    ),
    "float": (
        encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
        "a picture of mode F, expected 8 or 16 bits",
    ),
    "gif": (encoded(Image.fromarray(GREY), "GIF"), "not a PNG, JPEG, WEBP, BMP or TIFF file"),
    "100 million pixels": (bomb(), f"10000x10000 is more than {MAX_PIXELS // 10**6} million pixels"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_picture_is_refused_in_one_line(kind):
    data, message = REFUSED[kind]
    with pytest.raises(BadFile) as caught:
        decode(data)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(BadFile, match=r"cannot be read \(No such file or directory\)"):
        read_image(tmp_path / "nowhere.png")
