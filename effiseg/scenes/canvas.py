"""What the procedural streets are painted with: a camera, a light, and a canvas of image and label at once.

World coordinates are metres: x to the right of the street's axis, y up from the road, z ahead of the camera. Image
coordinates are in image heights, so that a scene is the same at every resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import exp
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

from effiseg.data.dataset import open_dataset

Colour = tuple[float, float, float]
Points = NDArray[np.float64]

NEAR = 1.0  # metres; what is nearer is drawn as if it were here
ASPECT = 2  # width over height
_SUPERSAMPLE = 2  # of the image only: an antialiased label would invent classes

LABEL_ID = {entry.name: entry.ids[0] for entry in open_dataset("synthetic").classes}
# void ids have no name in the label space; these are the data set's own
EGO_VEHICLE, OUT_OF_ROI, STATIC, DYNAMIC, GROUND = 1, 3, 4, 5, 6


class Texture(IntEnum):
    """Row of `_TEXTURES`."""

    SMOOTH = 0
    ASPHALT = 1
    PAVING = 2
    MASONRY = 3
    FOLIAGE = 4
    GRASS = 5
    CLOUD = 6
    FABRIC = 7


# noise octaves as (rows, columns) of a grid stretched over the image; 0: one value per pixel
_OCTAVES = ((5, 10), (22, 44), (75, 150), (90, 14), (0, 0))
# relative strength of each octave
_TEXTURES = np.array(
    [
        (0.03, 0.01, 0.00, 0.00, 0.01),
        (0.06, 0.03, 0.02, 0.03, 0.05),
        (0.04, 0.05, 0.06, 0.05, 0.04),
        (0.05, 0.03, 0.03, 0.01, 0.03),
        (0.08, 0.14, 0.24, 0.00, 0.10),
        (0.07, 0.08, 0.12, 0.08, 0.12),
        (0.08, 0.04, 0.00, 0.00, 0.00),
        (0.03, 0.06, 0.08, 0.00, 0.04),
    ],
    dtype=np.float32,
)


class Surface(NamedTuple):
    """What a polygon is made of: its label id and its texture."""

    label: int
    texture: Texture


def surface(name: str, texture: Texture) -> Surface:
    """Surface of the evaluated class `name`."""
    return Surface(LABEL_ID[name], texture)


@dataclass(frozen=True)
class Camera:
    """Pinhole camera over a gently bending street.

    Attributes:
        height: metres above the road.
        lateral: metres to the right of the street's axis.
        focal: focal length in image heights.
        horizon: row of the horizon in image heights.
        vanishing: column of the vanishing point in image heights.
        bend: sideways drift of the street, metres per metre squared.
    """

    height: float
    lateral: float
    focal: float
    horizon: float
    vanishing: float
    bend: float

    def project(self, points: Points) -> Points:
        """World points (..., 3) to image points (..., 2) in image heights."""
        depth = np.maximum(points[..., 2], NEAR)
        image = np.empty((*points.shape[:-1], 2))
        image[..., 0] = self.vanishing + self.focal * ((points[..., 0] - self.lateral) / depth + self.bend * depth)
        image[..., 1] = self.horizon + self.focal * (self.height - points[..., 1]) / depth
        return image


@dataclass(frozen=True)
class Light:
    """Illumination and the camera's response to it.

    Attributes:
        gain: factor on red, green and blue: brightness and white balance.
        haze: colour that far things fade into.
        haze_range: metres over which they do.
        sides: factor on faces that look to the left and to the right.
        shadow: factor in cast shadows.
        dusk: lamps and some windows are lit.
        gamma: exponent on the finished image.
        blur: radius of the lens blur in image heights.
        noise: standard deviation of the sensor noise in grey levels.
    """

    gain: Colour
    haze: Colour
    haze_range: float
    sides: tuple[float, float]
    shadow: float
    dusk: bool
    gamma: float
    blur: float
    noise: float

    def shade(self, colour: Colour, depth: float, factor: float = 1.0) -> tuple[int, int, int]:
        """Colour of a surface as seen from `depth` metres."""
        clear = exp(-depth / self.haze_range)
        lit, mist = clear * factor, 1 - clear
        (red, green, blue), gain, haze = colour, self.gain, self.haze
        return (
            min(int(red * gain[0] * lit + haze[0] * mist), 255),
            min(int(green * gain[1] * lit + haze[1] * mist), 255),
            min(int(blue * gain[2] * lit + haze[2] * mist), 255),
        )


class Canvas:
    """Image, label and texture map, painted together."""

    def __init__(self, height: int, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        self._height = height
        size = (ASPECT * height, height)
        self._image = Image.new("RGB", (size[0] * _SUPERSAMPLE, size[1] * _SUPERSAMPLE))
        self._label = Image.new("L", size)
        self._texture = Image.new("L", size)
        self._draw_image = ImageDraw.Draw(self._image)
        self._draw_label = ImageDraw.Draw(self._label)
        self._draw_texture = ImageDraw.Draw(self._texture)

    def backdrop(self, top: Colour, bottom: Colour, kind: Surface) -> None:
        """Fill everything with a vertical gradient that ends at the horizon."""
        rows = np.linspace(0, 1, self._image.height)[:, None, None] / self.camera.horizon
        ramp = np.array(top) + (np.array(bottom) - np.array(top)) * np.minimum(rows, 1)
        strip = Image.fromarray(np.clip(ramp, 0, 255).astype(np.uint8))
        self._image.paste(strip.resize(self._image.size, Image.Resampling.NEAREST))
        self._label.paste(kind.label, (0, 0, *self._label.size))
        self._texture.paste(int(kind.texture), (0, 0, *self._texture.size))

    def paint(self, points: ArrayLike, colour: Colour, kind: Surface, shade: float = 1.0) -> None:
        """Fill the world polygon (N, 3) in image, label and texture."""
        world = np.asarray(points, dtype=np.float64)
        self.paint_flat(self.camera.project(world), self.light.shade(colour, float(world[:, 2].mean()), shade), kind)

    def paint_each(self, points: ArrayLike, colours: Sequence[Colour], kind: Surface) -> None:
        """Fill each of the world polygons (M, N, 3) with its own colour, in order."""
        world = np.asarray(points, dtype=np.float64)
        outlines = self.camera.project(world)
        rows = zip(
            _in_view(outlines).tolist(),
            world[..., 2].mean(axis=1).tolist(),
            colours,
            self._pixels(outlines, _SUPERSAMPLE),
            self._pixels(outlines),
            strict=True,
        )
        for seen, depth, colour, image_pixels, label_pixels in rows:
            if seen:
                self._draw_image.polygon(image_pixels, fill=self.light.shade(colour, depth))
                self._draw_label.polygon(label_pixels, fill=kind.label)
                self._draw_texture.polygon(label_pixels, fill=int(kind.texture))

    def paint_flat(self, outline: Points, colour: tuple[int, int, int], kind: Surface) -> None:
        """Fill the image polygon (N, 2), in image heights, with a colour that is already lit."""
        if not _in_view(outline):
            return
        self._draw_image.polygon(self._pixels(outline, _SUPERSAMPLE), fill=colour)
        label_pixels = self._pixels(outline)
        self._draw_label.polygon(label_pixels, fill=kind.label)
        self._draw_texture.polygon(label_pixels, fill=int(kind.texture))

    def detail(self, points: ArrayLike, colour: Colour, shade: float = 1.0) -> None:
        """Fill the world polygon (N, 3), or each of (M, N, 3), in the image only: same class as what is below."""
        world = np.asarray(points, dtype=np.float64)
        world = world if world.ndim == 3 else world[None]
        outlines = self.camera.project(world)
        shown = _in_view(outlines) & (world[..., 2] >= NEAR).all(axis=1)
        depths = world[shown, :, 2].mean(axis=1).tolist()
        for depth, pixels in zip(depths, self._pixels(outlines[shown], _SUPERSAMPLE), strict=True):
            self._draw_image.polygon(pixels, fill=self.light.shade(colour, depth, shade))

    def mark(self, points: ArrayLike, kind: Surface) -> None:
        """Fill the world polygon (N, 3) in the label only: things one sees through, labelled as a whole."""
        outline = self.camera.project(np.asarray(points, dtype=np.float64))
        if _in_view(outline):
            self._draw_label.polygon(self._pixels(outline), fill=kind.label)

    def stroke(
        self, points: ArrayLike, width: float, colour: Colour, kind: Surface | None = None, shade: float = 1.0
    ) -> None:
        """Draw the world polyline (N, 3), `width` metres thick and at least a pixel; image only without `kind`."""
        world = np.asarray(points, dtype=np.float64)
        depth = max(float(world[:, 2].mean()), NEAR)
        outline = self.camera.project(world)
        if not _in_view(outline):
            return
        thick = width * self.camera.focal / depth * self._height
        lit = self.light.shade(colour, depth, shade)
        self._draw_image.line(
            self._pixels(outline, _SUPERSAMPLE), fill=lit, width=max(round(thick * _SUPERSAMPLE), _SUPERSAMPLE)
        )
        if kind is not None:
            label_pixels, label_width = self._pixels(outline), max(round(thick), 1)
            self._draw_label.line(label_pixels, fill=kind.label, width=label_width)
            self._draw_texture.line(label_pixels, fill=int(kind.texture), width=label_width)

    def shadows(self, footprints: Sequence[Points]) -> None:
        """Darken what is painted so far inside the world polygons."""
        mask = Image.new("L", self._image.size)
        draw = ImageDraw.Draw(mask)
        for footprint in footprints:
            outline = self.camera.project(footprint)
            if _in_view(outline):
                draw.polygon(self._pixels(outline, _SUPERSAMPLE), fill=255)
        soft = mask.reduce(_SUPERSAMPLE).filter(ImageFilter.BoxBlur(0.004 * self._height)).resize(mask.size)
        dark = self._image.point([int(v * self.light.shadow) for v in range(256)] * 3)
        self._image.paste(dark, mask=soft)

    def frame(self, width: float, label: int) -> None:
        """Label a border of `width` image heights."""
        columns, rows = self._label.size
        self._draw_label.rectangle((0, 0, columns - 1, rows - 1), outline=label, width=max(round(width * rows), 1))

    def finish(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Texture, blur, tone and noise; returns image (H, 2H, 3) and label ids (H, 2H), both uint8."""
        texture = np.asarray(self._texture)
        grain = np.ones(texture.shape, dtype=np.float32)
        for octave, (rows, columns) in enumerate(_OCTAVES):
            grain += _TEXTURES[:, octave][texture] * _noise(rng, texture.shape, rows, columns)
        pixels = np.asarray(self._image.reduce(_SUPERSAMPLE), dtype=np.float32) * grain[..., None]
        textured = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        blurred = textured.filter(ImageFilter.GaussianBlur(self.light.blur * self._height))
        curve = [255 * (v / 255) ** self.light.gamma for v in range(256)]
        pixels = np.asarray(curve, dtype=np.float32)[np.asarray(blurred)]
        pixels += self.light.noise * rng.standard_normal(pixels.shape, dtype=np.float32)
        return np.clip(pixels, 0, 255).astype(np.uint8), np.array(self._label)

    def _pixels(self, outlines: Points, scale: int = 1) -> list[Any]:
        """Flat pixel coordinates of the image polygon (N, 2), or of each of (M, N, 2)."""
        # Pillow's integer coordinates are pixel centres
        return (outlines * (self._height * scale) - 0.5).reshape(*outlines.shape[:-2], 2 * outlines.shape[-2]).tolist()


def _in_view(outlines: Points) -> NDArray[np.bool_]:
    """Whether the image polygon (N, 2), or each of (M, N, 2), may touch the image."""
    low, high = outlines.min(axis=-2), outlines.max(axis=-2)
    return (high[..., 0] > 0) & (high[..., 1] > 0) & (low[..., 0] < ASPECT) & (low[..., 1] < 1)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], rows: int, columns: int) -> NDArray[np.float32]:
    if rows == 0:
        return rng.standard_normal(shape, dtype=np.float32)
    grid = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32))
    return np.asarray(grid.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
