"""PyAV, which brings ffmpeg along: an extra that only videos need."""

from importlib.util import find_spec
from types import ModuleType

from effiseg.base.errors import EffiSegError

INSTALL_AV = "pip install av==18.1.0"  # as requirements-video.in pins it


def av_installed() -> bool:
    """Whether the extra is there."""
    return find_spec("av") is not None


def import_av() -> ModuleType:
    """The library. It prints nothing of itself: what ffmpeg would say comes as an error, or is nothing to a user.

    Raises:
        EffiSegError: it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise EffiSegError(
            f"videos need av, which is not installed; run `make setup-video`, or elsewhere `{INSTALL_AV}`"
        ) from None
    return av
