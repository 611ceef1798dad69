"""Lays out one procedural street scene and renders it to an image and its Cityscapes label ids."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from effiseg.scenes import buildings, ground, people, scenery, vehicles
from effiseg.scenes.canvas import DYNAMIC, NEAR, OUT_OF_ROI, Canvas, Points, Surface, Texture
from effiseg.scenes.palette import EARTHS, GREYS, VIVIDS, tint, tone
from effiseg.scenes.shapes import Pose, disc
from effiseg.scenes.street import FAR, STYLES, Side, Street, plan

_LITTER = Surface(DYNAMIC, Texture.SMOOTH)
_FRAME = 0.004  # width of the border out of the region of interest, in image heights
_VEHICLES: tuple[tuple[Callable[..., None], float, float], ...] = (  # what, its length, how likely
    (vehicles.car, 4.4, 0.64),
    (vehicles.truck, 8.4, 0.13),
    (vehicles.bus, 11.5, 0.12),
    (vehicles.tram, 26.0, 0.11),
)


class _Scene:
    """Everything that stands on one street, with the depth by which it is painted far to near.

    Long things beside the street count as far as their far end, things on the road as near as their near end: on one
    line of sight, what is farther from the street's axis is farther from the camera too.
    """

    def __init__(self, rng: np.random.Generator, street: Street) -> None:
        self._rng = rng
        self._street = street
        self._items: list[tuple[float, Callable[[Canvas], None]]] = []
        self._lawns: list[tuple[tuple[float, float], tuple[float, float]]] = []
        self._shadows: list[Points] = []
        for side in street.sides:
            self._line(side)
            self._furnish(side)
            self._populate(side)
            self._park(side)
        self._drive()
        self._cycle()
        self._cross()

    def render(self, canvas: Canvas) -> None:
        """Paint the street, then everything on it, far to near."""
        ground.skyline(canvas, self._rng, self._street)
        ground.ground(canvas, self._street, self._lawns)
        ground.markings(canvas, self._rng, self._street)
        canvas.shadows(self._shadows + ground.cast_shadows(self._rng, self._street))
        for _, draw in sorted(self._items, key=lambda item: -item[0]):
            draw(canvas)
        ground.bonnet(canvas, self._rng)
        canvas.frame(_FRAME, OUT_OF_ROI)

    def _add(self, depth: float, draw: Callable[..., None], *arguments: object) -> None:
        self._items.append((depth, lambda canvas: draw(canvas, *arguments)))

    def _add_random(self, depth: float, draw: Callable[..., None], *arguments: object) -> None:
        self._items.append((depth, lambda canvas: draw(canvas, self._rng, *arguments)))

    # --- what lines the street ---

    def _line(self, side: Side) -> None:
        """Fill the side with segments, from near to far."""
        rng, crossing = self._rng, self._street.crossing
        segments = (self._buildings, self._greenery, self._walled, self._fenced)
        z = rng.uniform(-6.0, 2.0)
        while z < FAR:
            length = rng.uniform(9, 22) * (1.0 if z < 70 else 1.6)
            if crossing is not None and crossing.near - 5 < z < crossing.far + 1:
                z = crossing.far + 2.0
            elif crossing is not None and z < crossing.near < z + length + 2:
                length = crossing.near - 2 - z
            segments[rng.choice(4, p=STYLES[side.style])](side, z, z + length)
            z += length

    def _buildings(self, side: Side, near: float, far: float) -> None:
        rng, city = self._rng, side.style == "city"
        garden = rng.uniform(2, 6) if not city and rng.random() < 0.7 else 0.0
        storeys = rng.integers(4, 8) if city else rng.integers(2, 5)
        gap = 0.0 if city else rng.uniform(1, 4)
        self._house(side, near, max(far - gap, near + 2), side.edge + garden, int(storeys), far)
        if garden:
            self._lawn(side, near, far)
            if rng.random() < 0.5:
                self._hedge(side, near, far, 0.4)
        if rng.random() < self._street.avenue:
            self._tree(side.at(side.edge * 0.35), rng.uniform(near, far), rng.uniform(6, 10))

    def _house(self, side: Side, near: float, far: float, beyond: float, storeys: int, depth: float) -> None:
        if far > NEAR + 1:
            self._add_random(
                depth, buildings.building, side.at(beyond), max(near, NEAR), far, self._rng.uniform(9, 14), storeys
            )

    def _greenery(self, side: Side, near: float, far: float) -> None:
        rng = self._rng
        self._lawn(side, near, far)
        for distance, count, low, high in ((12.0, 4, 12, 18), (6.0, 3, 9, 14), (2.5, 2, 7, 12)):
            for _ in range(count):
                x = side.at(side.edge + distance + rng.uniform(-1, 1))
                self._tree(x, rng.uniform(near, far), rng.uniform(low, high))
        if rng.random() < 0.65:
            self._hedge(side, near, far, rng.uniform(1.0, 5.0))

    def _walled(self, side: Side, near: float, far: float) -> None:
        rng = self._rng
        height, colour = rng.uniform(1.9, 3.6), tone(rng, GREYS, EARTHS, VIVIDS if rng.random() < 0.3 else GREYS)
        for start, end in _pieces(near, far, 4.0):
            self._add(end, buildings.wall, side.at(side.edge), start, end, height, colour, height < 2.8)
        self._behind(side, near, far)

    def _fenced(self, side: Side, near: float, far: float) -> None:
        rng = self._rng
        height, colour, boards = rng.uniform(1.4, 2.5), tone(rng, GREYS, VIVIDS, EARTHS), rng.random() < 0.75
        for start, end in _pieces(near, far, 4.0):
            self._add(end, buildings.fence, side.at(side.edge), start, end, height, colour, boards)
        self._lawn(side, near, far)
        self._behind(side, near, far)

    def _behind(self, side: Side, near: float, far: float) -> None:
        """Trees, and perhaps a house, behind a wall or a fence."""
        rng = self._rng
        if rng.random() < 0.5:
            self._house(side, near, far, side.edge + rng.uniform(4, 9), int(rng.integers(1, 4)), far + 0.5)
        for _ in range(3):
            self._tree(side.at(side.edge + rng.uniform(3, 8)), rng.uniform(near, far), rng.uniform(8, 14))

    def _tree(self, x: float, z: float, height: float) -> None:
        if z < 5 or self._street.in_crossing(z):
            return
        colour = tint(self._street.leaves, self._rng.uniform(0.75, 1.25))
        self._add_random(z, scenery.tree, x, z, height, colour)
        self._shadows.append(disc(x, z, 0, height * 0.32)[:, [0, 2, 1]])  # lies on the ground

    def _hedge(self, side: Side, near: float, far: float, beyond: float) -> None:
        size, colour = self._rng.uniform(0.9, 1.8), tint(self._street.leaves, self._rng.uniform(0.8, 1.2))
        x = side.at(side.edge + beyond + size * 0.6)
        for z in np.arange(max(near, 4.0), far, size).tolist():
            self._add_random(z, scenery.bush, x, z, size, colour)

    def _lawn(self, side: Side, near: float, far: float) -> None:
        if far > NEAR:
            self._lawns.append(((side.at(side.edge), side.at(60)), (near, far)))

    # --- things and people on the sidewalk ---

    def _furnish(self, side: Side) -> None:
        rng, x = self._rng, side.at(0.6)
        colour, height = tone(rng, GREYS), rng.uniform(5.5, 8.5)
        for z in np.arange(rng.uniform(6, 14), 90, rng.uniform(22, 36)).tolist():
            self._add(z, scenery.lamp, x, z, height, colour)
        for z in rng.uniform(7, 19, rng.integers(1, 4)).tolist():
            self._add_random(z, scenery.sign, x + rng.uniform(-0.2, 0.2), z)
        if rng.random() < 0.3:
            z = rng.uniform(15, 45)
            self._add_random(z, scenery.board, side.at(1.4), z)
        if rng.random() < 0.25:
            for z in np.arange(rng.uniform(5, 9), 40, 2.2).tolist():
                self._add(z, scenery.bollard, side.at(0.35), z, colour)
        for _ in range(rng.integers(0, 4)):
            z, kind = rng.uniform(6, 45), _LITTER if rng.random() < 0.35 else scenery.CLUTTER
            self._add_random(z, scenery.box, side.at(side.edge * rng.uniform(0.6, 0.9)), z, kind)

    def _populate(self, side: Side) -> None:
        rng = self._rng
        for _ in range(rng.poisson(3.2 if side.style == "city" else 1.8)):
            z, x = rng.uniform(5.5, 15), side.at(side.verge + side.sidewalk * rng.uniform(0.2, 0.9))
            for companion in range(rng.integers(1, 3)):
                self._person(x + 0.6 * companion, z + rng.uniform(-0.4, 0.4))
        if rng.random() < 0.55:
            z, x = rng.uniform(5.5, 12), side.at(side.edge * 0.7)
            for place in range(rng.integers(1, 5)):
                pose = Pose(x, z + 0.9 * place, rng.choice([-1, 1]) * rng.uniform(0.9, 1.6))
                self._add_random(pose.z, people.bicycle, pose, False)
        if rng.random() < 0.4:
            pose = Pose(side.at(0.7), rng.uniform(5.5, 12), rng.uniform(0.6, 1.6))
            self._add_random(pose.z, people.motorcycle, pose, False)

    def _person(self, x: float, z: float) -> None:
        self._add_random(z, people.person, x, z)
        self._shadows.append(ground.flat(x - 0.3, x + 0.3, z - 0.2, z + 0.2))

    # --- traffic ---

    def _vehicle(self, draw: Callable[..., None], pose: Pose, length: float) -> None:
        self._add_random(pose.z - abs(np.cos(pose.heading)) * length / 2, draw, pose)
        self._shadows.append(vehicles.footprint(pose, length))

    def _pick_vehicle(self) -> tuple[Callable[..., None], float]:
        draw, length, _ = _VEHICLES[self._rng.choice(len(_VEHICLES), p=[chance for _, _, chance in _VEHICLES])]
        return draw, length

    def _park(self, side: Side) -> None:
        rng = self._rng
        # a narrow road leaves no room for a full row beside the own lane
        occupied = rng.choice([0.0, 0.2, 0.2 if self._street.kerb < 5.0 and side.sign > 0 else 0.5])
        heading = 0.0 if side.sign > 0 or rng.random() < 0.3 else np.pi
        for z in np.arange(rng.uniform(7, 11), 95, rng.uniform(5.3, 6.5)).tolist():
            if rng.random() < occupied and not self._street.in_crossing(z, 6):
                self._vehicle(vehicles.car, Pose(side.at(-1.05), z, heading + rng.normal(0, 0.02)), 4.4)

    def _drive(self) -> None:
        """Vehicles ahead in the own lane and oncoming ones."""
        rng = self._rng
        for lane, heading in ((self._street.camera.lateral, 0.0), (-self._street.kerb * 0.3, np.pi)):
            z = rng.uniform(8, 19)
            while z < 110:
                draw, length = self._pick_vehicle()
                pose = Pose(lane + rng.normal(0, 0.2), z + length / 2, heading + rng.normal(0, 0.03))
                self._vehicle(draw, pose, length)
                z += length + rng.exponential(22) + 4

    def _cycle(self) -> None:
        """Riders along the street."""
        rng, kerb = self._rng, self._street.kerb
        for draw, chance in ((people.bicycle, 0.5), (people.motorcycle, 0.4)):
            if rng.random() < chance:
                towards = rng.random() < 0.4
                heading = rng.choice([-1, 1]) * rng.uniform(0.35, 0.8) + (np.pi if towards else 0)
                pose = Pose(2.6 - kerb if towards else kerb - 2.4, rng.uniform(5.5, 12), heading)
                self._add_random(pose.z, draw, pose, True)

    def _cross(self) -> None:
        """What goes on at a crossing: lights, people and vehicles across."""
        crossing = self._street.crossing
        if crossing is None:
            return
        rng, kerb = self._rng, self._street.kerb
        lit, arm = int(rng.integers(3)), bool(rng.random() < 0.5)
        for side in self._street.sides:
            for z, with_arm in ((crossing.near - 2, arm), (crossing.far + 2, False)):
                self._add_random(z, scenery.signal, side.at(0.5), z, lit, with_arm)
        for _ in range(rng.integers(0, 4)):
            self._person(rng.uniform(-kerb, kerb), crossing.near - 3 + rng.uniform(-1, 1))
        across = rng.choice([-1, 1]) * np.pi / 2
        if rng.random() < 0.6:
            draw, length = self._pick_vehicle()
            self._vehicle(draw, Pose(rng.uniform(-9, 9), crossing.near + 3.5, across), length)
        if rng.random() < 0.35:
            pose = Pose(rng.uniform(-6, 6), crossing.near - 1, across)
            self._add_random(pose.z, people.bicycle, pose, True)


def _pieces(near: float, far: float, step: float) -> list[tuple[float, float]]:
    """Cuts a long thing into pieces that can be sorted by depth; what is behind the camera is left out."""
    edges = np.linspace(near, far, max(int((far - near) / step), 1) + 1).tolist()
    return [(max(start, NEAR), end) for start, end in pairwise(edges) if end > NEAR + 0.2]


def render_scene(seed: int | Sequence[int], height: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one street scene.

    The layout depends on `seed` only: the same seed shows the same street at every height.

    Returns:
        The image (height, 2 * height, 3), RGB, and the Cityscapes label ids (height, 2 * height), both uint8.

    Raises:
        ValueError: a negative seed.
    """
    layout, noise = np.random.default_rng(seed).spawn(2)
    street = plan(layout)
    canvas = Canvas(height, street.camera, street.light)
    _Scene(layout, street).render(canvas)
    return canvas.finish(noise)
