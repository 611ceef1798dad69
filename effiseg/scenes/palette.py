"""Colours of a procedural street, and their random variations."""

import numpy as np

from effiseg.scenes.canvas import Colour

# the palettes are shared by all classes, so that no colour gives a class away
GREYS: tuple[Colour, ...] = (
    (58, 60, 64),
    (88, 88, 90),
    (118, 116, 114),
    (142, 144, 148),
    (172, 170, 166),
    (206, 206, 204),
)
EARTHS: tuple[Colour, ...] = (
    (140, 88, 70),
    (112, 76, 62),
    (178, 150, 122),
    (196, 178, 150),
    (108, 98, 82),
    (154, 128, 102),
)
VIVIDS: tuple[Colour, ...] = (
    (160, 44, 42),
    (48, 74, 140),
    (54, 104, 70),
    (206, 164, 56),
    (214, 216, 220),
    (36, 38, 44),
    (104, 50, 76),
    (190, 100, 46),
    (64, 128, 138),
)
WHITE: Colour = (225.0, 225.0, 222.0)
LEAVES: tuple[Colour, ...] = ((64, 84, 48), (82, 96, 56), (52, 68, 48), (104, 106, 62), (118, 100, 62), (74, 94, 60))


def tone(rng: np.random.Generator, *palettes: tuple[Colour, ...]) -> Colour:
    """A random variation of a random colour of a random one of the palettes."""
    palette = palettes[rng.integers(len(palettes))]
    base = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.75, 1.2) + rng.normal(0, 5, 3)
    red, green, blue = np.clip(base, 8, 250).tolist()
    return red, green, blue


def tint(colour: Colour, factor: float) -> Colour:
    """The colour, made lighter or darker."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor
