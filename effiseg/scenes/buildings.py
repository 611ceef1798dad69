"""What is built along a procedural street: houses with windows and shops, walls and fences."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effiseg.scenes.canvas import Canvas, Colour, Points, Texture, surface
from effiseg.scenes.palette import EARTHS, GREYS, VIVIDS, tint, tone
from effiseg.scenes.shapes import DETAIL_RANGE

BUILDING = surface("building", Texture.MASONRY)
WALL = surface("wall", Texture.MASONRY)
FENCE = surface("fence", Texture.SMOOTH)


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
