"""Everything of a street that does not stand on it: sky, skyline, ground, markings, cast shadows, own bonnet."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from effiseg.scenes.buildings import BUILDING
from effiseg.scenes.canvas import (
    ASPECT,
    EGO_VEHICLE,
    GROUND,
    NEAR,
    Canvas,
    Colour,
    Points,
    Surface,
    Texture,
    surface,
)
from effiseg.scenes.palette import EARTHS, GREYS, WHITE, tint, tone
from effiseg.scenes.scenery import PLANT
from effiseg.scenes.shapes import disc, panel
from effiseg.scenes.street import FAR, Street

ROAD = surface("road", Texture.ASPHALT)
SIDEWALK = surface("sidewalk", Texture.PAVING)
TERRAIN = surface("terrain", Texture.GRASS)
SKY = surface("sky", Texture.CLOUD)
ISLAND = Surface(GROUND, Texture.PAVING)
HOOD = Surface(EGO_VEHICLE, Texture.SMOOTH)

_END = 400.0  # metres; close enough to the horizon
_SLICES = (3.0, 5.0, 8.0, 12.0, 18.0, 27.0, 40.0, 60.0, 90.0, 125.0, FAR)
_MARKED = 120.0  # metres; farther away, markings are too thin to be seen


def flat(left: float, right: float, near: float, far: float) -> Points:
    """Rectangle (4, 3) on the ground."""
    return np.array([(left, 0, near), (right, 0, near), (right, 0, far), (left, 0, far)])


def ribbon(
    canvas: Canvas, across: tuple[float, float], along: tuple[float, float], colour: Colour, kind: Surface
) -> None:
    """A strip of ground along the street, in slices that follow its bend and fade with depth."""
    near, far = max(along[0], NEAR), along[1]
    for start, end in pairwise([near, *(z for z in _SLICES if near < z < far), far]):
        canvas.paint(flat(*across, start, end), colour, kind)


def skyline(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Sky, and a row of far houses and trees that closes the street."""
    canvas.backdrop(*street.sky, SKY)
    x, z = -260.0, 260.0
    while x < 260:
        width, height = rng.uniform(9, 26), rng.uniform(12, 34)
        if rng.random() < 0.5:
            canvas.paint(panel(x, 0, z, width, height), tone(rng, GREYS, EARTHS), BUILDING)
        else:
            canvas.paint(disc(x, height * 0.2, z, width * 0.6), tint(street.leaves, 0.8), PLANT)
        x += width * 0.7


def ground(canvas: Canvas, street: Street, lawns: list[tuple[tuple[float, float], tuple[float, float]]]) -> None:
    """Sidewalks, road, street across, verges and kerbs; `lawns` are (across, along) ranges of terrain."""
    crossing = street.crossing
    ribbon(canvas, (-_END, _END), (NEAR, _END), street.paving, SIDEWALK)
    for across, along in lawns:
        ribbon(canvas, across, along, street.grass, TERRAIN)
    ribbon(canvas, (-street.kerb, street.kerb), (NEAR, _END), street.road, ROAD)
    if crossing is not None:
        ribbon(canvas, (-_END, _END), (crossing.near, crossing.far), street.road, ROAD)
    blocks = [(NEAR, FAR)] if crossing is None else [(NEAR, crossing.near), (crossing.far, FAR)]
    for side in street.sides:
        for block in blocks:
            if side.verge:
                ribbon(canvas, (side.at(0), side.at(side.verge)), block, street.grass, TERRAIN)
            ribbon(canvas, (side.at(0), side.at(0.16)), block, tint(street.paving, 1.2), SIDEWALK)


def markings(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Patches, gutters, lane markings, tram rails, and a crosswalk or a traffic island."""
    kerb, white = street.kerb, tint(WHITE, rng.uniform(0.7, 1.0))
    _patches(canvas, rng, street)
    solid = np.arange(NEAR + 0.1, _MARKED, 5.0)
    for side in street.sides:
        _line(canvas, street, side.at(-0.25), 0.5, tint(street.road, 0.8), solid, 5.0)
    if rng.random() < 0.85:
        dash = rng.choice([3.0, 4.0, 6.0])
        starts = np.arange(rng.uniform(1.2, 6), _MARKED, dash * 2)
        for lane in (0.0,) if kerb < 6 else (0.0, -kerb / 2, kerb / 2):
            _line(canvas, street, lane, 0.14, white, starts, dash)
    if rng.random() < 0.4:
        for edge in (0.4 - kerb, kerb - 0.4):
            _line(canvas, street, edge, 0.12, white, solid, 5.0)
    if rng.random() < 0.2:
        for rail in (-0.75, 0.75):
            _line(canvas, street, rail - kerb * 0.3, 0.1, tint(street.road, 0.6), solid, 5.0)
    if street.crossing is not None:
        _crosswalk(canvas, kerb, street.crossing.near, white)
    elif rng.random() < 0.3 and kerb > 5.5:
        _island(canvas, rng.uniform(14, 40), street.paving)


def _patches(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    worn = tint(street.road, rng.uniform(0.85, 0.95))
    for _ in range(rng.integers(2, 7)):
        x, z = rng.uniform(-street.kerb, street.kerb - 2), rng.uniform(4, 30)
        canvas.detail(flat(x, x + rng.uniform(0.1, 1.8), z, z + rng.uniform(1, 12)), worn)


def _crosswalk(canvas: Canvas, kerb: float, end: float, colour: Colour) -> None:
    stripes = np.arange(0.4 - kerb, kerb - 0.4, 1.0)
    canvas.detail(np.stack([flat(x, x + 0.5, end - 4.5, end - 1.5) for x in stripes]), colour)


def _island(canvas: Canvas, z: float, colour: Colour) -> None:
    corners = [(-0.8, 0, z), (0.8, 0, z), (0.8, 0, z + 9), (0, 0, z + 11), (-0.8, 0, z + 9)]
    canvas.paint(corners, tint(colour, 0.95), ISLAND)


def _line(
    canvas: Canvas, street: Street, x: float, width: float, colour: Colour, starts: NDArray[np.float64], length: float
) -> None:
    """Dashes along the street, except on the street across."""
    crossing = street.crossing
    if crossing is not None:
        starts = starts[(starts + length < crossing.near - 5) | (starts > crossing.far)]
    dashes = np.tile(flat(x - width / 2, x + width / 2, 0, length), (len(starts), 1, 1))
    dashes[..., 2] += starts[:, None]
    canvas.detail(dashes, colour)


def cast_shadows(rng: np.random.Generator, street: Street) -> list[Points]:
    """Shadows (4, 3) that the houses on the dark side cast over the street."""
    left_lit, right_lit = street.light.sides
    side = street.right if right_lit > left_lit else street.left
    if abs(left_lit - right_lit) < 0.3 or side.style != "city":
        return []
    edges = np.cumsum(rng.uniform(6, 16, 12)) - 8
    return [flat(side.at(-rng.uniform(-3, street.kerb)), side.at(30), near, far) for near, far in pairwise(edges)]


def bonnet(canvas: Canvas, rng: np.random.Generator) -> None:
    """The own car at the lower edge."""
    top, colour = 1.0 - rng.uniform(0.03, 0.1), tone(rng, GREYS)
    across = np.linspace(0, ASPECT, 24)
    for drop, shade in ((0.0, 0.55), (0.025, 0.75), (0.06, 0.62)):
        crest = top + drop + 0.07 * np.abs(across - ASPECT / 2) ** 2.2
        outline = np.vstack([np.column_stack([across, crest]), [(ASPECT, 1.2), (0, 1.2)]])
        canvas.paint_flat(outline, canvas.light.shade(colour, 0, shade), HOOD)
