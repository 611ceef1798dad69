"""Vehicles of a procedural street, extruded from their profiles: cars, trucks, buses and trams."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from effiseg.scenes.canvas import Canvas, Colour, Points, Surface, Texture, surface
from effiseg.scenes.palette import EARTHS, GREYS, VIVIDS, WHITE, tint, tone
from effiseg.scenes.shapes import DETAIL_RANGE, Pose, circle_at

CAR = surface("car", Texture.SMOOTH)
TRUCK = surface("truck", Texture.SMOOTH)
BUS = surface("bus", Texture.SMOOTH)
TRAIN = surface("train", Texture.SMOOTH)

Profile = tuple[tuple[float, float], ...]
_GLASS: tuple[Colour, ...] = ((40, 46, 54), (62, 72, 82), (96, 106, 116))


@dataclass(frozen=True)
class Body:
    """A vehicle's shape, extruded from its side view.

    Attributes:
        profile: (ahead, up) from the lower rear corner over the roof to the lower front corner.
        glass: indices of those edges of the profile that are panes.
        windows: polygons (ahead, up) on the sides.
        wheels: (ahead, radius) of each axle.
        half_width: metres.
    """

    profile: Profile
    glass: tuple[int, ...]
    windows: tuple[Profile, ...]
    wheels: tuple[tuple[float, float], ...]
    half_width: float


_HATCHBACK = Body(
    profile=((-2.0, 0.28), (-2.05, 0.92), (-1.6, 1.42), (0.25, 1.48), (1.05, 1.0), (1.95, 0.82), (2.05, 0.28)),
    glass=(1, 3),
    windows=(
        ((-1.6, 0.98), (-1.3, 1.36), (-0.4, 1.4), (-0.4, 0.96)),
        ((-0.3, 0.96), (-0.3, 1.4), (0.2, 1.4), (0.8, 0.98)),
    ),
    wheels=((-1.25, 0.32), (1.25, 0.32)),
    half_width=0.88,
)
_SALOON = Body(
    profile=(
        (-2.3, 0.3),
        (-2.35, 0.88),
        (-1.75, 0.98),
        (-1.05, 1.4),
        (0.3, 1.43),
        (1.1, 0.97),
        (2.15, 0.8),
        (2.25, 0.3),
    ),
    glass=(2, 4),
    windows=(
        ((-1.45, 0.98), (-0.95, 1.33), (-0.4, 1.36), (-0.4, 0.96)),
        ((-0.3, 0.96), (-0.3, 1.36), (0.25, 1.36), (0.9, 0.96)),
    ),
    wheels=((-1.4, 0.33), (1.4, 0.33)),
    half_width=0.9,
)
_ESTATE = Body(
    profile=((-2.3, 0.35), (-2.35, 1.05), (-2.1, 1.62), (0.2, 1.7), (1.0, 1.15), (2.1, 0.98), (2.2, 0.35)),
    glass=(1, 3),
    windows=(
        ((-2.0, 1.12), (-1.85, 1.55), (-0.4, 1.6), (-0.4, 1.1)),
        ((-0.3, 1.1), (-0.3, 1.6), (0.15, 1.6), (0.75, 1.12)),
    ),
    wheels=((-1.4, 0.36), (1.4, 0.36)),
    half_width=0.94,
)
_VAN = Body(
    profile=((-2.4, 0.35), (-2.45, 1.15), (-2.35, 2.0), (1.1, 2.05), (1.85, 1.2), (2.45, 1.0), (2.5, 0.35)),
    glass=(1, 3),
    windows=(((0.1, 1.2), (0.1, 1.85), (1.0, 1.85), (1.6, 1.2)),),
    wheels=((-1.5, 0.34), (1.6, 0.34)),
    half_width=0.97,
)
_CARS = (_HATCHBACK, _HATCHBACK, _SALOON, _SALOON, _ESTATE, _ESTATE, _VAN)
_CARGO = Body(((-4.2, 0.6), (-4.2, 3.5), (1.9, 3.5), (1.9, 0.6)), (), (), ((-2.8, 0.5), (-1.7, 0.5)), 1.25)
_CAB = Body(
    profile=((2.1, 0.5), (2.1, 2.9), (3.6, 2.85), (4.1, 1.7), (4.2, 0.45)),
    glass=(2,),
    windows=(((2.7, 1.7), (2.7, 2.5), (3.4, 2.5), (3.8, 1.7)),),
    wheels=((3.2, 0.5),),
    half_width=1.2,
)


def _coach(length: float, height: float, pane: float, axles: tuple[float, ...], half_width: float) -> Body:
    """A box on wheels with a band of windows: a bus or a tram."""
    half = length / 2
    starts = np.arange(-half + 0.4, half - pane, pane)
    panes = tuple(
        ((a, 1.45), (a, height - 0.75), (a + pane * 0.86, height - 0.75), (a + pane * 0.86, 1.45))
        for a in starts.tolist()
    )
    return Body(
        profile=(
            (-half, 0.35),
            (-half, 1.4),
            (-half + 0.08, height - 0.6),
            (-half + 0.15, height),
            (half - 0.3, height),
            (half - 0.1, height - 0.5),
            (half, 1.2),
            (half, 0.35),
        ),
        glass=(1, 5),
        windows=panes,
        wheels=tuple((a * half, 0.48) for a in axles),
        half_width=half_width,
    )


_BUS = _coach(11.5, 3.15, 1.5, (-0.5, 0.55), 1.27)
_TRAM = _coach(26.0, 3.5, 1.7, (), 1.3)


def _paint_body(canvas: Canvas, pose: Pose, body: Body, colour: Colour, glass: Colour, kind: Surface) -> None:
    if pose.z < DETAIL_RANGE:
        _paint_tyres(canvas, pose, body, kind)
    profile = np.array(body.profile)
    eye = np.array((canvas.camera.lateral, canvas.camera.height, 0.0))
    edges = np.stack([profile[:-1], profile[1:]], axis=1)
    for index, edge in enumerate(edges):
        (rear, low), (front, high) = edge.tolist()
        strip = pose.place([(a, r, u) for (a, u), r in zip(edge[[0, 1, 1, 0]], _across(body), strict=True)])
        # outward normal of the edge, turned into the world
        outward = pose.place((low - high, 0.0, front - rear)) - pose.place((0.0, 0.0, 0.0))
        if outward @ (eye - strip.mean(axis=0)) <= 0:
            continue
        upward = abs(front - rear) > abs(high - low)
        if index not in body.glass:
            canvas.paint(strip, colour, kind, 1.12 if upward else 0.88)
            continue
        canvas.paint(strip, colour, kind, 1.0)
        inset = strip.mean(axis=0) + (strip - strip.mean(axis=0)) * 0.86
        canvas.detail(inset, glass, 1.0)
    _paint_side(canvas, pose, body, colour, glass, kind)


def _across(body: Body) -> tuple[float, float, float, float]:
    return -body.half_width, -body.half_width, body.half_width, body.half_width


def _paint_side(canvas: Canvas, pose: Pose, body: Body, colour: Colour, glass: Colour, kind: Surface) -> None:
    to_eye = np.array((canvas.camera.lateral - pose.x, -pose.z))
    right = np.array((np.cos(pose.heading), -np.sin(pose.heading)))
    side = body.half_width if to_eye @ right > 0 else -body.half_width
    if abs(to_eye @ right) <= body.half_width:
        return

    def flat(outline: ArrayLike) -> Points:
        ahead, up = np.moveaxis(np.asarray(outline, dtype=np.float64), -1, 0)
        return pose.place(np.stack([ahead, np.full_like(ahead, side), up], axis=-1))

    shade = canvas.light.sides[0 if side * right[0] < 0 else 1]
    canvas.paint(flat(body.profile), colour, kind, shade)
    for axle, radius in body.wheels:
        canvas.paint(flat(circle_at(axle, radius, radius)), (30, 30, 32), kind)
        canvas.detail(flat(circle_at(axle, radius, radius * 0.55)), (120, 122, 126), shade)
    for window in body.windows:
        canvas.detail(flat(window), glass, shade)
    if pose.z < DETAIL_RANGE / 2:
        (rear, low), (front, _) = body.profile[0], body.profile[-1]
        canvas.detail(
            flat([(rear, low), (rear, low + 0.12), (front, low + 0.12), (front, low)]), tint(colour, 0.55), shade
        )


def _paint_tyres(canvas: Canvas, pose: Pose, body: Body, kind: Surface) -> None:
    """The tyres seen end on, below the body."""
    for axle, radius in body.wheels:
        for side in (-0.84, 0.84):
            left, right = (side - 0.13) * body.half_width, (side + 0.13) * body.half_width
            corners = [(axle, left, 0), (axle, right, 0), (axle, right, radius * 2), (axle, left, radius * 2)]
            canvas.paint(pose.place(corners), (26, 26, 28), kind)


def _paint_ends(canvas: Canvas, pose: Pose, body: Body) -> None:
    """Lights, number plate and bumper on the end that faces the camera."""
    if pose.z > DETAIL_RANGE or abs(np.cos(pose.heading)) < 0.3:
        return
    towards = np.cos(pose.heading) < 0
    ahead = body.profile[-1][0] + 0.03 if towards else min(a for a, _ in body.profile) - 0.03
    width = body.half_width
    belt = min(body.profile[-2][1] if towards else body.profile[1][1], 1.2)

    def patch(left: float, right: float, low: float, high: float) -> Points:
        return pose.place([(ahead, left, low), (ahead, right, low), (ahead, right, high), (ahead, left, high)])

    canvas.detail(patch(-width, width, 0.3, 0.46), (48, 48, 50))
    lamp: Colour = (300, 290, 260) if towards else (205, 34, 30)
    for side in (-0.78, 0.78):
        canvas.detail(patch((side - 0.16) * width, (side + 0.16) * width, belt - 0.26, belt - 0.08), lamp)
    canvas.detail(patch(-0.26, 0.26, 0.5, 0.62), WHITE)
    if towards:
        canvas.detail(patch(-0.5 * width, 0.5 * width, belt - 0.24, belt - 0.1), (44, 46, 48))


def footprint(pose: Pose, length: float) -> Points:
    """Ground polygon (4, 3) in the shadow of a vehicle of that length."""
    half, width = length / 2 + 0.15, 1.15 if length < 6 else 1.5
    return pose.place([(-half, -width, 0), (half, -width, 0), (half, width, 0), (-half, width, 0)])


def car(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """A car or a van."""
    body = _CARS[rng.integers(len(_CARS))]
    colour = tone(rng, GREYS, GREYS, VIVIDS, EARTHS if rng.random() < 0.3 else VIVIDS)
    _paint_body(canvas, pose, body, colour, tone(rng, _GLASS), CAR)
    _paint_ends(canvas, pose, body)


def truck(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """A lorry with a box."""
    glass, load, cab = tone(rng, _GLASS), tone(rng, GREYS, VIVIDS, EARTHS), tone(rng, VIVIDS, GREYS)
    parts = [(_CARGO, load), (_CAB, cab)]
    if np.cos(pose.heading) > 0:
        parts.reverse()
    for body, colour in parts:
        _paint_body(canvas, pose, body, colour, glass, TRUCK)
    _paint_ends(canvas, pose, parts[-1][0])
    if np.cos(pose.heading) > 0.3:  # the doors
        for right in (-1.1, -0.04, 1.04):
            seam = [(-4.23, right + a, u) for a, u in ((0.0, 0.7), (0.06, 0.7), (0.06, 3.4), (0.0, 3.4))]
            canvas.detail(pose.place(seam), tint(load, 0.6))


def bus(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """A city bus."""
    _paint_body(canvas, pose, _BUS, tone(rng, VIVIDS, VIVIDS, GREYS), tone(rng, _GLASS), BUS)
    _paint_ends(canvas, pose, _BUS)


def tram(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """A tram with a pantograph: class train."""
    colour = tone(rng, VIVIDS, GREYS, EARTHS)
    top = pose.place([(0.0, 0.0, 3.5), (1.0, 0.0, 4.5), (0.0, 0.0, 5.3)])
    canvas.stroke(top, 0.1, (50, 50, 54), TRAIN)
    _paint_body(canvas, pose, _TRAM, colour, tone(rng, _GLASS), TRAIN)
    _paint_ends(canvas, pose, _TRAM)
