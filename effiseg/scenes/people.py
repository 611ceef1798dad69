"""People of a procedural street, on foot and on two wheels; bicycles and motorcycles also stand parked."""

from collections.abc import Iterator

import numpy as np

from effiseg.scenes.canvas import Canvas, Colour, Points, Surface, Texture, surface
from effiseg.scenes.palette import EARTHS, GREYS, VIVIDS, tint, tone
from effiseg.scenes.shapes import Pose, circle_at

PERSON = surface("person", Texture.FABRIC)
RIDER = surface("rider", Texture.FABRIC)
MOTORCYCLE = surface("motorcycle", Texture.SMOOTH)
BICYCLE = surface("bicycle", Texture.SMOOTH)

_SKIN: tuple[Colour, ...] = ((196, 150, 122), (150, 104, 80), (98, 68, 54))


def person(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """A person who stands or walks."""
    size = rng.uniform(0.9, 1.06)
    coat, trousers, skin = tone(rng, VIVIDS, GREYS), tone(rng, GREYS, VIVIDS), tone(rng, _SKIN)
    stride = rng.choice([0.06, 0.12, 0.26]) * size
    turn = rng.choice([-1, 1])

    def at(*points: tuple[float, float]) -> Points:
        return np.array([(x + turn * a, u * size, z) for a, u in points])

    for foot in (-stride, stride):
        canvas.stroke(at((0.04 * np.sign(foot), 0.88), (foot * 0.7, 0.45), (foot, 0.04)), 0.17, trousers, PERSON)
        canvas.stroke(at((foot - 0.05, 0.04), (foot + 0.13, 0.04)), 0.1, (40, 38, 38), PERSON)
    for hand in (-1, 1):
        canvas.stroke(at((hand * 0.17, 1.42), (hand * (0.22 + stride * 0.4), 0.85)), 0.11, tint(coat, 0.85), PERSON)
    canvas.paint(at((-0.2, 1.46), (0.2, 1.46), (0.19, 0.8), (-0.19, 0.8)), coat, PERSON)
    canvas.paint(at(*circle_at(0.0, 1.62, 0.125).tolist()), skin, PERSON)
    canvas.paint(at((-0.13, 1.62), (-0.1, 1.75), (0.1, 1.75), (0.13, 1.66)), tone(rng, EARTHS, GREYS[:2]), PERSON)


def _local(pose: Pose, *points: tuple[float, float]) -> Points:
    return pose.place([(ahead, 0.0, up) for ahead, up in points])


def _wheels(canvas: Canvas, pose: Pose, kind: Surface, base: float, radius: float, tyre: float) -> Iterator[Points]:
    for axle in (-base, base):
        rim = _local(pose, *circle_at(axle, radius, radius).tolist())
        canvas.mark(rim, kind)
        canvas.stroke(np.concatenate([rim, rim[:1]]), tyre, (28, 28, 30), kind)
        yield rim


def _ride(canvas: Canvas, rng: np.random.Generator, pose: Pose, seat: float, bars: tuple[float, float]) -> None:
    """A rider between the seat's height and the handlebars."""
    coat, trousers = tone(rng, VIVIDS, GREYS), tone(rng, GREYS, VIVIDS)
    hip, shoulder = (-0.2, seat + 0.08), (0.12, seat + 0.62)
    canvas.stroke(_local(pose, hip, (0.22, seat - 0.14), (0.05, seat - 0.6)), 0.18, trousers, RIDER)
    canvas.stroke(_local(pose, hip, shoulder), 0.38, coat, RIDER)
    canvas.stroke(_local(pose, shoulder, (0.3, seat + 0.3), bars), 0.12, tint(coat, 0.85), RIDER)
    head = pose.place((0.2, 0.0, seat + 0.84))
    for radius, colour, up in ((0.14, tone(rng, _SKIN), 0.0), (0.14, tone(rng, VIVIDS, GREYS), 0.06)):
        ring = circle_at(float(head[0]), float(head[1]) + up, radius)
        canvas.paint(np.column_stack([ring, np.full(len(ring), head[2])]), colour, RIDER)


def bicycle(canvas: Canvas, rng: np.random.Generator, pose: Pose, ridden: bool) -> None:
    """A bicycle, with its rider or parked."""
    colour = tone(rng, VIVIDS, GREYS)
    for rim in _wheels(canvas, pose, BICYCLE, 0.53, 0.35, 0.09):
        canvas.stroke(rim[[0, 6]], 0.02, (90, 90, 94))
        canvas.stroke(rim[[3, 9]], 0.02, (90, 90, 94))
    canvas.mark(_local(pose, (-0.5, 0.35), (-0.25, 0.92), (0.4, 0.95), (0.53, 0.35)), BICYCLE)
    canvas.stroke(
        _local(pose, (-0.53, 0.35), (-0.2, 0.85), (0.36, 0.82), (0.0, 0.3), (-0.53, 0.35)), 0.09, colour, BICYCLE
    )
    canvas.stroke(_local(pose, (0.53, 0.35), (0.34, 1.0), (0.2, 1.02)), 0.06, colour, BICYCLE)
    canvas.stroke(_local(pose, (-0.28, 0.93), (-0.08, 0.93)), 0.09, (34, 34, 36), BICYCLE)
    if ridden:
        _ride(canvas, rng, pose, 0.92, (0.3, 1.02))


def motorcycle(canvas: Canvas, rng: np.random.Generator, pose: Pose, ridden: bool) -> None:
    """A motorcycle or a scooter, with its rider or parked."""
    colour = tone(rng, VIVIDS, GREYS)
    for rim in _wheels(canvas, pose, MOTORCYCLE, 0.68, 0.32, 0.14):
        canvas.detail(rim, (62, 62, 66))
    canvas.paint(
        _local(pose, (-0.75, 0.75), (-0.3, 0.85), (0.1, 1.0), (0.5, 0.95), (0.55, 0.4), (-0.3, 0.25)),
        colour,
        MOTORCYCLE,
    )
    canvas.paint(_local(pose, (-0.8, 0.8), (-0.1, 0.78), (-0.1, 0.9), (-0.8, 0.95)), (32, 32, 34), MOTORCYCLE)
    canvas.stroke(_local(pose, (0.68, 0.32), (0.4, 1.1), (0.25, 1.12)), 0.1, (60, 60, 62), MOTORCYCLE)
    canvas.detail(_local(pose, *circle_at(-0.05, 0.42, 0.2).tolist()), (96, 96, 98))
    if ridden:
        _ride(canvas, rng, pose, 0.9, (0.32, 1.1))
