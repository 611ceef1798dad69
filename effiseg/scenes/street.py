"""The plan of one street: its camera, its light, its widths and its colours, before anything stands on it."""

from dataclasses import dataclass

import numpy as np

from effiseg.scenes.canvas import ASPECT, Camera, Colour, Light
from effiseg.scenes.palette import EARTHS, GREYS, LEAVES, tint, tone

FAR = 170.0  # metres; behind it there is only the skyline

# chances of what lines the street: building, greenery, wall, fence
STYLES = {
    "city": (0.76, 0.04, 0.10, 0.10),
    "suburb": (0.36, 0.26, 0.19, 0.19),
    "green": (0.10, 0.54, 0.18, 0.18),
}


@dataclass(frozen=True)
class Side:
    """One side of the street, from the kerb outwards; all in metres.

    Attributes:
        sign: -1 on the left, 1 on the right.
        style: key of `STYLES`.
        kerb: from the street's axis to the kerb.
        verge: width of the strip of grass at the kerb.
        sidewalk: width of the sidewalk.
    """

    sign: int
    style: str
    kerb: float
    verge: float
    sidewalk: float

    def at(self, beyond: float) -> float:
        """x of what is `beyond` metres outside the kerb."""
        return self.sign * (self.kerb + beyond)

    @property
    def edge(self) -> float:
        """Outer edge of the sidewalk, from the kerb."""
        return self.verge + self.sidewalk


@dataclass(frozen=True)
class Crossing:
    """A street across, from `near` to `far` metres ahead."""

    near: float
    far: float


@dataclass(frozen=True)
class Street:
    """What all parts of one scene share.

    Attributes:
        camera: how it is seen.
        light: how it is lit.
        kerb: half the road's width in metres.
        left: the left side.
        right: the right side.
        crossing: the street across, if there is one.
        avenue: how likely trees stand on the sidewalk.
        leaves: colour of the plants.
        road: colour of the road.
        paving: colour of the sidewalks.
        grass: colour of the terrain.
        sky: colours of the sky at the top and at the horizon.
    """

    camera: Camera
    light: Light
    kerb: float
    left: Side
    right: Side
    crossing: Crossing | None
    avenue: float
    leaves: Colour
    road: Colour
    paving: Colour
    grass: Colour
    sky: tuple[Colour, Colour]

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left and right."""
        return self.left, self.right

    def in_crossing(self, z: float, margin: float = 0.0) -> bool:
        """Whether z is on the street across, or at most `margin` metres away from it."""
        return self.crossing is not None and self.crossing.near - margin < z < self.crossing.far + margin


def plan(rng: np.random.Generator) -> Street:
    """Draw a random street."""
    light = _light(rng)
    kerb = rng.uniform(3.4, 5.2)
    start = rng.uniform(11, 28)
    return Street(
        camera=Camera(
            height=rng.uniform(1.15, 1.75),
            lateral=kerb * rng.uniform(0.2, 0.5),
            focal=rng.uniform(1.4, 1.9),
            horizon=rng.uniform(0.39, 0.47),
            vanishing=ASPECT / 2 + rng.normal(0, 0.13),
            bend=rng.normal(0, 0.0006),
        ),
        light=light,
        kerb=kerb,
        left=_side(rng, -1, kerb),
        right=_side(rng, 1, kerb),
        crossing=Crossing(start, start + rng.uniform(7, 11)) if rng.random() < 0.6 else None,
        avenue=rng.choice([0.15, 0.45, 0.9]),
        leaves=tone(rng, LEAVES),
        road=tone(rng, GREYS[:4], GREYS[1:4]),
        paving=tone(rng, GREYS[1:5], GREYS[2:5], EARTHS),
        grass=tone(rng, LEAVES, EARTHS[4:]),
        sky=_sky(rng, light),
    )


def _side(rng: np.random.Generator, sign: int, kerb: float) -> Side:
    style = str(rng.choice(list(STYLES), p=(0.58, 0.24, 0.18)))
    verge = rng.uniform(0.8, 2.2) if rng.random() < (0.2 if style == "city" else 0.5) else 0.0
    return Side(sign, style, kerb, verge, rng.uniform(3.0, 6.5))


def _light(rng: np.random.Generator) -> Light:
    warm, tinge = rng.normal(0, 0.085), rng.normal(0, 0.03)
    dusk = bool(rng.random() < 0.1)
    level = rng.uniform(0.55, 0.75) if dusk else rng.uniform(0.75, 1.2)
    sunny = rng.random() < 0.5 and not dusk
    sides = (rng.uniform(0.85, 1.0), rng.uniform(0.85, 1.0))
    if sunny:
        sides = (1.12, 0.62) if rng.random() < 0.5 else (0.62, 1.12)
    mist = rng.uniform(90, 190) * (0.6 if dusk else 1.0)
    return Light(
        gain=(level * (1 + warm), level * (1 + tinge), level * (1 - warm)),
        haze=(mist * (1 + warm / 2), mist, mist * (1 - warm / 2)),
        haze_range=rng.choice([130.0, 260.0, 500.0]),
        sides=sides,
        shadow=rng.uniform(0.45, 0.6) if sunny else rng.uniform(0.7, 0.85),
        dusk=dusk,
        gamma=rng.uniform(0.75, 1.3),
        blur=rng.uniform(0.0, 0.0022),
        noise=rng.uniform(1.0, 4.0),
    )


def _sky(rng: np.random.Generator, light: Light) -> tuple[Colour, Colour]:
    if light.dusk:
        return tone(rng, ((70, 76, 104), (60, 60, 82))), tone(rng, ((206, 146, 112), (160, 126, 130)))
    top = tone(rng, ((116, 156, 204), (168, 176, 188), (198, 200, 202), (146, 152, 162)))
    return top, tint(top, rng.uniform(1.08, 1.35))
