"""Fixed things along a procedural street: buildings, walls, fences, plants, poles, signs and traffic lights."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from effiseg.data.scene.canvas import STATIC, Canvas, Colour, Points, Surface, Texture, surface

BUILDING = surface("building", Texture.MASONRY)
WALL = surface("wall", Texture.MASONRY)
FENCE = surface("fence", Texture.SMOOTH)
PLANT = surface("vegetation", Texture.FOLIAGE)
TRUNK = surface("vegetation", Texture.MASONRY)
POLE = surface("pole", Texture.SMOOTH)
SIGN = surface("traffic sign", Texture.SMOOTH)
SIGNAL = surface("traffic light", Texture.SMOOTH)
CLUTTER = Surface(STATIC, Texture.SMOOTH)

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
DETAIL_RANGE = 70.0  # metres; farther away, small parts are left out


def tone(rng: np.random.Generator, *palettes: tuple[Colour, ...]) -> Colour:
    """A random variation of a random colour of a random one of the palettes."""
    palette = palettes[rng.integers(len(palettes))]
    base = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.75, 1.2) + rng.normal(0, 5, 3)
    red, green, blue = np.clip(base, 8, 250).tolist()
    return red, green, blue


def tint(colour: Colour, factor: float) -> Colour:
    """The colour, made lighter or darker."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


@cache
def circle(corners: int = 12, turn: float = 0.0) -> Points:
    """Regular polygon (corners, 2) of radius 1."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + turn
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def disc(x: float, y: float, z: float, radius: float, corners: int = 12, turn: float = 0.0) -> Points:
    """Regular polygon (corners, 3) that faces the camera."""
    points = np.empty((corners, 3))
    points[:, :2] = circle(corners, turn) * radius + (x, y)
    points[:, 2] = z
    return points


def panel(x: float, y: float, z: float, width: float, height: float) -> Points:
    """Upright rectangle (4, 3) that faces the camera; (x, y) is the middle of its lower edge."""
    half = width / 2
    return np.array([(x - half, y, z), (x + half, y, z), (x + half, y + height, z), (x - half, y + height, z)])


@dataclass(frozen=True)
class Facade:
    """An upright plane: `along` runs horizontally from `origin`, up is up."""

    origin: tuple[float, float, float]
    along: tuple[float, float]  # unit vector in (x, z)

    def rectangles(self, left: NDArray, right: NDArray, low: NDArray, high: NDArray) -> Points:
        """World corners (M, 4, 3) of M rectangles on the plane."""
        reach = np.stack([left, right, right, left], axis=-1)
        rise = np.stack([low, low, high, high], axis=-1)
        x, y, z = self.origin
        return np.stack([x + reach * self.along[0], y + rise, z + reach * self.along[1]], axis=-1)

    def rectangle(self, left: float, right: float, low: float, high: float) -> Points:
        """World corners (4, 3) of one rectangle."""
        return self.rectangles(np.array(left), np.array(right), np.array(low), np.array(high))


@dataclass(frozen=True)
class _Style:
    """What the faces of one building have in common."""

    wall: Colour
    trim: Colour
    glass: Colour
    shop: Colour
    storey: float
    storeys: int
    ground: float
    pitch: float
    fill: tuple[float, float]  # share of a bay's width and of a storey's height that is window
    has_shop: bool
    awning: bool

    @property
    def height(self) -> float:
        return self.ground + self.storey * self.storeys


def _style(rng: np.random.Generator, storeys: int) -> _Style:
    wall = tone(rng, GREYS, EARTHS, EARTHS, VIVIDS if rng.random() < 0.3 else GREYS)
    return _Style(
        wall=wall,
        trim=tint(wall, rng.choice([0.8, 1.2, 1.3])),
        glass=tone(rng, ((52, 58, 66), (84, 94, 106), (40, 42, 46), (120, 130, 140))),
        shop=tone(rng, VIVIDS, GREYS),
        storey=rng.uniform(2.8, 3.6),
        storeys=storeys,
        ground=rng.uniform(3.2, 4.4),
        pitch=rng.uniform(1.8, 3.4),
        fill=(rng.uniform(0.35, 0.75), rng.uniform(0.45, 0.65)),
        has_shop=bool(rng.random() < 0.5),
        awning=bool(rng.random() < 0.4),
    )


def _windows(
    canvas: Canvas, rng: np.random.Generator, face: Facade, length: float, style: _Style, shade: float
) -> None:
    bays = max(int(length / style.pitch), 1)
    centre, floor = np.meshgrid((np.arange(bays) + 0.5) * length / bays, np.arange(style.storeys))
    half = np.full(centre.size, style.fill[0] * length / bays / 2)
    middle = centre.ravel()
    low = style.ground + style.storey * (floor.ravel() + 0.25)
    high = low + style.fill[1] * style.storey
    lit = rng.random(centre.size) < (0.22 if canvas.light.dusk else 0.0)
    if face.origin[2] < DETAIL_RANGE:
        canvas.detail(
            face.rectangles(middle - half - 0.15, middle + half + 0.15, low - 0.2, high + 0.12), style.trim, shade
        )
    panes = face.rectangles(middle - half, middle + half, low, high)
    canvas.detail(panes[~lit], style.glass, shade)
    canvas.detail(panes[lit], (300, 250, 160))
    if face.origin[2] < DETAIL_RANGE / 2:
        canvas.detail(face.rectangles(middle - 0.05, middle + 0.05, low, high), style.trim, shade)


def _ground_floor(
    canvas: Canvas, rng: np.random.Generator, face: Facade, length: float, style: _Style, shade: float
) -> None:
    if not style.has_shop:
        canvas.detail(face.rectangle(0, length, 0, 0.8), tint(style.wall, 0.7), shade)
        door = rng.uniform(0.1, 0.8) * length
        canvas.detail(face.rectangle(door, door + 1.3, 0, 2.4), style.shop, shade)
        return
    bays = max(int(length / 4), 1)
    left = np.arange(bays) * length / bays
    canvas.detail(face.rectangle(0, length, style.ground - 0.8, style.ground - 0.1), style.shop, shade)
    canvas.detail(
        face.rectangles(left + 0.4, left + length / bays - 0.4, np.full(bays, 0.4), np.full(bays, style.ground - 1)),
        (250, 220, 150) if canvas.light.dusk else style.glass,
        1.0 if canvas.light.dusk else shade,
    )


def building(
    canvas: Canvas, rng: np.random.Generator, x: float, near: float, far: float, depth: float, storeys: int
) -> None:
    """A house with its facade on the street at x, from `near` to `far`, `depth` metres deep away from the street."""
    style = _style(rng, storeys)
    away = float(np.sign(x))
    street_shade = canvas.light.sides[0 if x > 0 else 1]
    end_shade = sum(canvas.light.sides) / 2
    end = Facade((x, 0, near), (away, 0))
    street = Facade((x, 0, near), (0, 1))
    roof = tone(rng, EARTHS, GREYS)
    pitched = rng.random() < 0.5
    ridge = style.height + rng.uniform(2, 4)
    if pitched:
        gable = [(x, style.height, near), (x + away * depth, style.height, near), (x + away * depth / 2, ridge, near)]
        slope = [(x, style.height, near), (x, style.height, far)]
        canvas.paint([*slope, (x + away * depth / 2, ridge, far), (x + away * depth / 2, ridge, near)], roof, BUILDING)
        canvas.paint(gable, style.wall, BUILDING, end_shade)
    for face, length, shade in ((end, depth, end_shade), (street, far - near, street_shade)):
        canvas.paint(face.rectangle(0, length, 0, style.height), style.wall, BUILDING, shade)
        canvas.detail(face.rectangle(0, length, style.height - 0.5, style.height), style.trim, shade)
        _windows(canvas, rng, face, length, style, shade)
        _ground_floor(canvas, rng, face, length, style, shade)
    if style.has_shop and style.awning:
        reach = [
            (x, 3.0, near + 0.5),
            (x, 3.0, far - 0.5),
            (x - away * 1.2, 2.4, far - 0.5),
            (x - away * 1.2, 2.4, near + 0.5),
        ]
        canvas.paint(reach, style.shop, BUILDING, street_shade)


def wall(canvas: Canvas, x: float, near: float, far: float, height: float, colour: Colour, courses: bool) -> None:
    """A piece of a free-standing wall along the street, with a coping and, if wanted, courses of blocks."""
    shade = canvas.light.sides[0 if x > 0 else 1]
    face = Facade((x, 0, near), (0, 1))
    length = far - near
    end = Facade((x, 0, near), (float(np.sign(x)), 0))
    canvas.paint(end.rectangle(0, 0.4, 0, height), colour, WALL)
    canvas.paint(face.rectangle(0, length, 0, height), colour, WALL, shade)
    canvas.detail(face.rectangle(0, length, height - 0.18, height), tint(colour, 1.25), shade)
    if courses and near < DETAIL_RANGE:
        rows = np.arange(0.45, height - 0.2, 0.45)
        canvas.detail(face.rectangles(0 * rows, 0 * rows + length, rows, rows + 0.05), tint(colour, 0.72), shade)
        posts = np.arange(0, length, 1.5)
        canvas.detail(face.rectangles(posts, posts + 0.06, 0 * posts, 0 * posts + height), tint(colour, 0.72), shade)


def fence(canvas: Canvas, x: float, near: float, far: float, height: float, colour: Colour, boards: bool) -> None:
    """A piece of a fence along the street: boards, or rails and bars that one sees through."""
    shade = canvas.light.sides[0 if x > 0 else 1]
    face = Facade((x, 0, near), (0, 1))
    length = far - near
    whole = face.rectangle(0, length, 0, height)
    gap = 0.45 if near < DETAIL_RANGE / 2 else 0.9
    bars = np.arange(0, length, gap)
    if boards:
        canvas.paint(whole, tint(colour, 0.6), FENCE, shade)
        canvas.detail(face.rectangles(bars, bars + gap * 0.8, 0 * bars, 0 * bars + height), colour, shade)
        return
    canvas.mark(whole, FENCE)
    for low, thick in ((0.12, 0.08), (0.5, 0.06), (0.92, 0.1)):
        canvas.detail(face.rectangle(0, length, low * height, low * height + thick), colour, shade)
    canvas.detail(face.rectangles(bars, bars + 0.12, 0 * bars, 0 * bars + height), colour, shade)


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
    canvas.stroke([(x, 0, z), (x, height, z), (x + reach, height + 0.3, z)], 0.13, colour, POLE)
    head = [(x + reach * 0.7, height + 0.1, z), (x + reach * 1.3, height + 0.2, z), (x + reach * 1.3, height + 0.4, z)]
    canvas.paint(head, (330, 300, 220) if canvas.light.dusk else tint(colour, 1.2), POLE)


def bollard(canvas: Canvas, x: float, z: float, colour: Colour) -> None:
    """A knee-high post at the kerb."""
    canvas.stroke([(x, 0, z), (x, 1.0, z)], 0.14, colour, POLE)
    canvas.stroke([(x, 0.7, z), (x, 0.85, z)], 0.14, WHITE)


def sign(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """One or two traffic signs on a post."""
    height = rng.uniform(2.2, 2.8)
    canvas.stroke([(x, 0, z), (x, height + 0.3, z)], 0.1, tone(rng, GREYS), POLE)
    for level in range(rng.integers(1, 3)):
        _plate(canvas, rng, x, height - 0.85 * level, z - 0.05)


def _plate(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    strong = tone(rng, VIVIDS)
    size = rng.uniform(0.32, 0.42)
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
        canvas.paint(panel(head, low, z - 0.05, 0.46, 1.15), (44, 46, 46), SIGNAL)
        for lens, glow in enumerate(((255, 60, 50), (255, 190, 60), (60, 235, 150))):
            bright = 1.3 if lens == lit else 0.22
            canvas.detail(disc(head, low + 0.95 - 0.36 * lens, z - 0.05, 0.15, 8), tint(glow, bright))


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
