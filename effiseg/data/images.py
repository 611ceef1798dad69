"""Reading pictures of anybody: one way for training, evaluation, prediction and serving.

What is wrong with a file is raised as `BadFile`, for callers to stop at or to collect.
"""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_DARK = 4096  # of 65536: what has fewer bits is not scaled to 16
MAX_PIXELS = 64_000_000  # beyond what cameras give; decoding more would take gigabytes
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")


class BadFile(Exception):  # noqa: N818 - it is a finding, and becomes a problem of a data set
    """A file that cannot be used; the text is 'what is wrong: what to do'."""


def decode(data: bytes) -> Image.Image:
    """Decode a picture to RGB, turned as its EXIF data say.

    Grey, palette, CMYK and 16-bit pictures become RGB of 8 bits, of which 16 bits keep the upper 8; transparency is
    dropped; of several frames the first counts.

    Raises:
        BadFile: it is damaged, of another format, of floating-point values, of more than `MAX_PIXELS`, or of 16 bits
            that are not filled.
    """
    image = open_image(data, FORMATS)
    if image.mode.startswith("I;16"):
        largest = int(np.asarray(image).max())
        if 0 < largest < _DARK:
            raise BadFile(
                f"16 bits whose largest value is {largest}: the upper 8 bits are kept, so it would be black; scale it "
                "to 0..65535, or save 8 bits"
            )
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
    return decode(read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The file's content; raises `BadFile` when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadFile(f"cannot be read ({error.strerror}): check its permissions, or where the link leads") from None


def open_image(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    """The decoded picture in the file's own mode; raises `BadFile` when it is damaged or of another format."""
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
