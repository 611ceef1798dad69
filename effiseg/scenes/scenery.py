"""Plants and street furniture of a procedural street: trees, lamps, posts, signs, traffic lights and boxes."""

import numpy as np

from effiseg.scenes.canvas import STATIC, Canvas, Colour, Surface, Texture, surface
from effiseg.scenes.palette import EARTHS, GREYS, VIVIDS, WHITE, tint, tone
from effiseg.scenes.shapes import DETAIL_RANGE, circle, disc, panel

PLANT = surface("vegetation", Texture.FOLIAGE)
TRUNK = surface("vegetation", Texture.MASONRY)
POLE = surface("pole", Texture.SMOOTH)
SIGN = surface("traffic sign", Texture.SMOOTH)
SIGNAL = surface("traffic light", Texture.SMOOTH)
CLUTTER = Surface(STATIC, Texture.SMOOTH)

# blobs of foliage from the shaded inside to the lit top: brightness, how many near and far, size
_LAYERS = ((0.62, 6, 4, 1.15), (0.82, 7, 4, 1.0), (1.0, 6, 3, 0.87), (1.22, 4, 2, 0.73))


def _foliage(
    canvas: Canvas,
    rng: np.random.Generator,
    middle: tuple[float, float, float],
    size: tuple[float, float],
    colour: Colour,
) -> None:
    """Ragged blobs inside an ellipse: dark ones first, lit ones last and higher up."""
    wide, tall = size
    counts = [near if middle[2] < DETAIL_RANGE / 2 else far for _, near, far, _ in _LAYERS]
    layer = np.repeat(np.arange(len(_LAYERS)), counts)
    brightness, _, _, scale = np.array(_LAYERS)[layer].T
    total = len(layer)
    angle, reach = rng.uniform(0, 2 * np.pi, total), np.sqrt(rng.uniform(0, 1, total)) * 0.75
    radius = min(wide, tall) * rng.uniform(0.32, 0.5, total) * scale
    lift = 0.8 * reach * np.sin(angle) + 0.1 * (layer - 1)
    blobs = np.empty((total, 13, 3))
    ragged = circle(13) * rng.uniform(0.75, 1.15, (total, 13, 1)) * radius[:, None, None]
    blobs[..., 0] = ragged[..., 0] + (middle[0] + wide * reach * np.cos(angle))[:, None]
    blobs[..., 1] = ragged[..., 1] + (middle[1] + tall * lift)[:, None]
    blobs[..., 2] = middle[2]
    canvas.paint_each(blobs, [tint(colour, b) for b in (brightness * rng.uniform(0.92, 1.08, total)).tolist()], PLANT)


def tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float, height: float, colour: Colour) -> None:
    """A broad-leaved tree; its trunk is vegetation too."""
    lean = rng.uniform(-0.3, 0.3)
    bark = tone(rng, EARTHS, GREYS)
    fork = height * rng.uniform(0.38, 0.5)
    canvas.stroke([(x, 0, z), (x + lean, fork, z)], height * 0.045, tint(bark, 0.6), TRUNK)
    for side in (-1, 1):
        canvas.stroke(
            [(x + lean, fork * 0.8, z), (x + side * height * 0.14, fork * 1.4, z)],
            height * 0.02,
            tint(bark, 0.55),
            TRUNK,
        )
    width = height * rng.uniform(0.28, 0.42)
    _foliage(canvas, rng, (x + lean, height * 0.68, z), (width, height * 0.34), colour)


def bush(canvas: Canvas, rng: np.random.Generator, x: float, z: float, size: float, colour: Colour) -> None:
    """A bush, or a piece of a hedge."""
    _foliage(canvas, rng, (x, size * 0.45, z), (size * 0.8, size * 0.5), colour)


def lamp(canvas: Canvas, x: float, z: float, height: float, colour: Colour) -> None:
    """A street lamp with an arm over the road."""
    reach = -float(np.sign(x)) * 1.6
    canvas.stroke([(x, 0, z), (x, height, z), (x + reach, height + 0.3, z)], 0.2, colour, POLE)
    head = [(x + reach * 0.7, height + 0.1, z), (x + reach * 1.3, height + 0.2, z), (x + reach * 1.3, height + 0.4, z)]
    canvas.paint(head, (330, 300, 220) if canvas.light.dusk else tint(colour, 1.2), POLE)


def bollard(canvas: Canvas, x: float, z: float, colour: Colour) -> None:
    """A knee-high post at the kerb."""
    canvas.stroke([(x, 0, z), (x, 1.0, z)], 0.14, colour, POLE)
    canvas.stroke([(x, 0.7, z), (x, 0.85, z)], 0.14, WHITE)


def sign(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """One or two traffic signs on a post."""
    height = rng.uniform(2.2, 2.8)
    canvas.stroke([(x, 0, z), (x, height + 0.3, z)], 0.13, tone(rng, GREYS), POLE)
    for level in range(rng.integers(1, 3)):
        _plate(canvas, rng, x, height - 1.0 * level, z - 0.05)


def _plate(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    strong = tone(rng, VIVIDS)
    size = rng.uniform(0.36, 0.5)
    kind = rng.integers(5)
    if kind == 0:  # order or ban: round
        canvas.paint(disc(x, y, z, size), strong, SIGN)
        canvas.detail(disc(x, y, z, size * 0.7), WHITE)
        canvas.detail(panel(x, y - size * 0.3, z, size * 0.6, size * 0.6), (50, 50, 54))
    elif kind == 1:  # danger or right of way: triangle
        turn = rng.choice([np.pi / 2, -np.pi / 2])
        canvas.paint(disc(x, y, z, size * 1.25, 3, turn), strong, SIGN)
        canvas.detail(disc(x, y, z, size * 0.75, 3, turn), WHITE)
    elif kind == 2:  # priority: a square on its corner
        canvas.paint(disc(x, y, z, size * 1.15, 4), WHITE, SIGN)
        canvas.detail(disc(x, y, z, size * 0.8, 4), strong)
    elif kind == 3:  # stop: octagon
        canvas.paint(disc(x, y, z, size * 1.1, 8, np.pi / 8), strong, SIGN)
        canvas.detail(panel(x, y - 0.08, z, size * 1.4, 0.16), WHITE)
    else:  # parking or crossing: square
        canvas.paint(panel(x, y - size, z, 1.9 * size, 1.9 * size), strong, SIGN)
        canvas.detail(panel(x, y - size * 0.6, z, size, 1.2 * size), WHITE)


def board(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """A direction board on two posts."""
    width, height = rng.uniform(1.6, 2.6), rng.uniform(0.9, 1.4)
    for side in (-0.35, 0.35):
        canvas.stroke([(x + side * width, 0, z), (x + side * width, 2.4, z)], 0.12, tone(rng, GREYS), POLE)
    canvas.paint(panel(x, 2.3, z, width, height), tone(rng, VIVIDS), SIGN)
    lines = 2.3 + height * np.array([0.2, 0.5, 0.75])
    rows = np.stack([panel(x, y, z, width * rng.uniform(0.5, 0.8), 0.16) for y in lines])
    canvas.detail(rows, WHITE)


def signal(canvas: Canvas, rng: np.random.Generator, x: float, z: float, lit: int, arm: bool) -> None:
    """A traffic light on a post, with a second one on an arm over the road if wanted; `lit` counts from the top."""
    colour = tone(rng, GREYS)
    heads = [(x, 2.4)]
    if arm:
        reach = x - float(np.sign(x)) * 3.2
        canvas.stroke([(x, 0, z), (x, 5.6, z), (reach, 5.7, z)], 0.18, colour, POLE)
        heads.append((reach, 4.9))
    else:
        canvas.stroke([(x, 0, z), (x, 2.6, z)], 0.14, colour, POLE)
    for head, low in heads:
        canvas.paint(panel(head, low, z - 0.05, 0.6, 1.5), (44, 46, 46), SIGNAL)
        for lens, glow in enumerate(((255, 60, 50), (255, 190, 60), (60, 235, 150))):
            bright = 1.3 if lens == lit else 0.22
            canvas.detail(disc(head, low + 1.22 - 0.47 * lens, z - 0.05, 0.2, 8), tint(glow, bright))


def box(canvas: Canvas, rng: np.random.Generator, x: float, z: float, kind: Surface) -> None:
    """A bin, a switch box or a container."""
    width, height = rng.uniform(0.5, 1.3), rng.uniform(0.8, 1.5)
    colour = tone(rng, GREYS, VIVIDS)
    side = -float(np.sign(x)) * width / 2
    canvas.paint(panel(x, 0, z, width, height), colour, kind, 0.85)
    canvas.paint(
        [(x + side, 0, z), (x + side, 0, z + 0.7), (x + side, height, z + 0.7), (x + side, height, z)], colour, kind
    )
    canvas.detail(panel(x, height - 0.15, z, width, 0.15), tint(colour, 0.7))
