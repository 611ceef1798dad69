"""Reading pictures and label files of anybody: one way for training, evaluation, prediction and serving.

What is wrong with a file is raised as `BadFile`, for callers to stop at or to collect.
"""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from effiseg.data.labels import LabelSpace

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 64_000_000  # beyond what cameras give; decoding more would take gigabytes
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_PNG_DEPTH_BYTE = 24  # the signature (8), the IHDR chunk's length and type (8), width (4) and height (4) come before it
_SHOWN = 8  # ids of a label that one message lists


class BadFile(Exception):  # noqa: N818 - it is a finding, and becomes a problem of a data set
    """A file that cannot be used; the text is 'what is wrong: what to do'."""


def decode(data: bytes) -> Image.Image:
    """Decode a picture to RGB, turned as its EXIF data say.

    Grey, palette, CMYK and 16-bit pictures become RGB of 8 bits, of which 16 bits keep the upper 8; transparency is
    dropped; of several frames the first counts.

    Raises:
        BadFile: it is damaged, of another format, of floating-point values, or of more than `MAX_PIXELS`.
    """
    image = _open(data, FORMATS)
    if image.mode.startswith("I;16"):
        image = _upper_byte(image)
    if image.mode not in _MODES:
        raise BadFile(f"a picture of mode {image.mode}, expected 8 or 16 bits per channel: save it as 8-bit RGB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transparency is dropped
        return ImageOps.exif_transpose(image).convert("RGB")


def read_image(path: Path) -> Image.Image:
    """Read a file as `decode` does.

    Raises:
        BadFile: it cannot be read, or what `decode` refuses.
    """
    return decode(_read(path))


def read_label(path: Path, space: LabelSpace) -> NDArray[np.uint8]:
    """Decode a label, an 8-bit grey or a palette PNG of ids, to trainIds (H, W), uint8, `IGNORE_INDEX` for void.

    Raises:
        BadFile: it cannot be read, is damaged, no PNG, of another mode, to be turned, or holds an id that `space` does
            not know.
    """
    data = _read(path)
    image = _open(data, ("PNG",))
    depth = data[_PNG_DEPTH_BYTE]
    # Pillow stretches grey of fewer than 8 bits to 0..255, so the ids would be lost
    if not (image.mode == "P" or (image.mode == "L" and depth == 8)):
        raise BadFile(
            f"a PNG of mode {image.mode} with {depth} bits: a label is 8-bit grey (or palette), one id per pixel"
        )
    orientation = image.getexif().get(Base.Orientation, 1)
    if orientation != 1:
        raise BadFile(f"its EXIF data turn it (orientation {orientation}): save the label upright, without EXIF data")
    ids = np.asarray(image)
    train_ids = space.lookup()[ids]
    unknown = np.unique(ids[train_ids < 0])
    if unknown.size:
        shown = ", ".join(map(str, unknown[:_SHOWN])) + (", ..." if unknown.size > _SHOWN else "")
        allowed = f"{min(space.train_id_of)}..{max(space.train_id_of)}"
        raise BadFile(f"unknown label ids {shown}: ids of {space.name} are {allowed}; take the labels as published")
    return train_ids.astype(np.uint8)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadFile(f"cannot be read ({error.strerror}): check its permissions, or where the link leads") from None


def _open(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    """The decoded picture in the file's own mode."""
    if not data:
        raise BadFile("empty (0 bytes): copy it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit of pixels, which is above ours
            image: Image.Image = Image.open(BytesIO(data), formats=formats)
            if image.width * image.height > MAX_PIXELS:
                raise BadFile(
                    f"{image.width}x{image.height} is more than {MAX_PIXELS // 10**6} million pixels: make it smaller, "
                    "or cut it into pieces"
                )
            image.verify()  # checksums, which decoding a PNG skips; the object is of no use afterwards
            image = Image.open(BytesIO(data), formats=formats)
            image.load()
    except BadFile:
        raise
    except UnidentifiedImageError:
        *others, last = formats
        kinds = f"{', '.join(others)} or {last}" if others else last
        raise BadFile(f"not a {kinds} file, or its beginning is damaged: replace it") from None
    except Image.DecompressionBombError:
        raise BadFile(f"more than {MAX_PIXELS // 10**6} million pixels: make it smaller") from None
    except Exception as error:  # on damaged files Pillow raises many kinds, SyntaxError and struct.error among them
        reason = " ".join(str(error).split())
        raise BadFile(f"damaged ({type(error).__name__}: {reason}): copy it again") from None
    return image


def _upper_byte(image: Image.Image) -> Image.Image:
    exif = image.getexif()
    grey = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    grey.info["exif"] = exif.tobytes()  # how to turn it
    return grey
