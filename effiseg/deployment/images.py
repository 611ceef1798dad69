"""Any picture that people have, as upright RGB."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from effiseg.base.errors import EffiSegError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 64_000_000  # beyond what cameras give; decoding more would take gigabytes
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")


def decode(data: bytes, origin: str) -> Image.Image:
    """Decode a picture to RGB, turned as its EXIF data say.

    Grey, palette and 16-bit grey pictures become RGB of 8 bits, of which 16 bits keep the upper 8; transparency is
    dropped; of several frames the first counts.

    Raises:
        EffiSegError: it is damaged, of another format, of floating-point values, or of more than `MAX_PIXELS`.
    """
    if not data:
        raise EffiSegError(f"{origin}: empty (0 bytes); copy it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit of pixels, which is above ours, and transparency
            image: Image.Image = Image.open(BytesIO(data), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise EffiSegError(
                    f"{origin}: {image.width}x{image.height} is more than {MAX_PIXELS // 10**6} million pixels; "
                    "make it smaller, or cut it into pieces"
                )
            image.load()
            if image.mode.startswith("I;16"):
                image = _upper_byte(image)
            if image.mode not in _MODES:
                raise EffiSegError(
                    f"{origin}: a picture of mode {image.mode}, expected 8 or 16 bits per channel; save it as 8-bit RGB"
                )
            return ImageOps.exif_transpose(image).convert("RGB")
    except EffiSegError:
        raise
    except UnidentifiedImageError:
        raise EffiSegError(f"{origin}: not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture; replace it") from None
    except Image.DecompressionBombError:
        raise EffiSegError(f"{origin}: more than {MAX_PIXELS // 10**6} million pixels; make it smaller") from None
    except Exception as error:  # on damaged files Pillow raises many kinds, SyntaxError and struct.error among them
        reason = " ".join(str(error).split())
        raise EffiSegError(f"{origin}: damaged ({type(error).__name__}: {reason}); copy it again") from None


def read_picture(path: Path) -> Image.Image:
    """Read a file as `decode` does.

    Raises:
        EffiSegError: it cannot be read, or what `decode` refuses.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EffiSegError(
            f"{path}: cannot be read ({error.strerror}); check where it is and its permissions"
        ) from None
    return decode(data, str(path))


def _upper_byte(image: Image.Image) -> Image.Image:
    exif = image.getexif()
    grey = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    grey.info["exif"] = exif.tobytes()  # how to turn it
    return grey
