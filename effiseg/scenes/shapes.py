"""Shapes that the things on a procedural street are made of, and the pose in which a thing stands."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from effiseg.scenes.canvas import Points

DETAIL_RANGE = 70.0  # metres; farther away, small parts are left out


@cache
def circle(corners: int = 12, turn: float = 0.0) -> Points:
    """Regular polygon (corners, 2) of radius 1."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + turn
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def circle_at(across: float, up: float, radius: float) -> Points:
    """Regular polygon (12, 2) of that radius around the point (across, up)."""
    return circle() * radius + (across, up)


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
class Pose:
    """Where something stands on the ground and where it heads: 0 away from the camera, pi towards it."""

    x: float
    z: float
    heading: float

    def place(self, points: ArrayLike) -> Points:
        """Own coordinates (..., 3) of (ahead, right, up) to world coordinates (..., 3)."""
        ahead, right, up = np.moveaxis(np.asarray(points, dtype=np.float64), -1, 0)
        sine, cosine = np.sin(self.heading), np.cos(self.heading)
        return np.stack([self.x + ahead * sine + right * cosine, up, self.z + ahead * cosine - right * sine], axis=-1)
