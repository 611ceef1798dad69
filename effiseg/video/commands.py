"""What `python -m effiseg predict` does where a video is read or written."""

import argparse
from contextlib import AbstractContextManager, nullcontext

from effiseg.base.device import choose_device
from effiseg.base.errors import EffiSegError
from effiseg.deployment.open import open_model
from effiseg.deployment.predictor import Predictor
from effiseg.deployment.targets import list_pictures
from effiseg.video.files import check_output, in_order, the_video
from effiseg.video.frames import RATE, Clip, open_pictures, open_video
from effiseg.video.predict import predict_video
from effiseg.video.pyav import import_av


def predict_frames(arguments: argparse.Namespace) -> None:
    """Predict a video, or a camera's pictures, into a video, and say how many frames and how fast.

    Raises:
        EffiSegError: something on the command line cannot be used (before any work), a frame cannot be read, or the
            video cannot be written; then none is left.
    """
    out, video = arguments.out, the_video(arguments.pictures)
    pictures = [] if video else in_order(list_pictures(arguments.pictures))
    check_output(out, [video] if video else pictures, overwrite=arguments.overwrite)
    for option in ("labels", "truth"):
        if getattr(arguments, option):
            raise EffiSegError(f"--{option}: of a folder of pictures, and --out {out} is a video; leave it out")
    if video and arguments.fps:
        raise EffiSegError(f"--fps: of pictures alone, and {video} has frames at times of its own; leave it out")
    import_av()  # its absence is told before the model is read
    clips: AbstractContextManager[Clip] = (
        open_video(video) if video else nullcontext(open_pictures(pictures, arguments.fps or RATE))
    )
    with clips as clip:
        device = choose_device()
        network, card = open_model(arguments.model, device, arguments.runtime)
        predictor = Predictor(network, card.size, card.fit, device, flip=arguments.flip, zoom=arguments.zoom)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EffiSegError(f"--out {out}: no folder can be made there ({error.strerror}); choose another") from None
        pace = predict_video(predictor, card.space, clip, out)
    print(f"{out}: by {card.name}, {pace.told()}")
