"""Pencil and dice: smooth curves, mixed colours, and chance that is the same on every machine."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TypeVar

import numpy as np

from sam_core.datasets.fieldguide.species import Colour

Item = TypeVar("Item")

#: Side of an image on disk, and how many times larger a bird is drawn before it is reduced.
SIZE = 256
SCALE = 3

Points = np.ndarray
"""(N, 2) float64, x to the right and y down."""


class Dice:
    """Chance from a name.

    Only `random.Random.random` is used, the one method whose numbers Python promises to keep from version to version.
    """

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256("/".join(str(part) for part in key).encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:8], "big")).random

    def __call__(self) -> float:
        """A number from 0 to 1, 1 excluded."""
        return self._random()

    def between(self, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        return low + (high - low) * self._random()

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self._random() * (high - low + 1))

    def pick(self, choices: Sequence[Item]) -> Item:
        """One of the choices."""
        return choices[int(self._random() * len(choices))]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in a random order."""
        return [item for _, item in sorted(((self._random(), index), item) for index, item in enumerate(items))]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with this share of `second` stirred in."""
    return (
        int(first[0] + (second[0] - first[0]) * share),
        int(first[1] + (second[1] - first[1]) * share),
        int(first[2] + (second[2] - first[2]) * share),
    )


def darker(colour: Colour, share: float) -> Colour:
    """Towards a cool near-black, as shadows are painted."""
    return mix(colour, (18, 18, 30), share)


def lighter(colour: Colour, share: float) -> Colour:
    """Towards a warm white."""
    return mix(colour, (255, 252, 242), share)


def varied(dice: Dice, colour: Colour, amount: float) -> Colour:
    """The colour, a little lighter or darker and a little warmer or cooler."""
    light, warm = dice.between(-amount, amount), dice.between(-amount, amount) * 0.4
    return tuple(max(0, min(255, int(c + light + w))) for c, w in zip(colour, (warm, 0.0, -warm), strict=True))


@cache
def _spline(count: int, steps: int, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights that turn `count` points into a Catmull-Rom curve, and into its direction: both (rows, count)."""
    segments = count if closed else count - 1
    t = np.arange(steps) / steps
    values = np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], axis=1) / 2
    slopes = np.stack([-1 + 4 * t - 3 * t**2, -10 * t + 9 * t**2, 1 + 8 * t - 9 * t**2, 3 * t**2 - 2 * t], axis=1) / 2
    curve, direction = np.zeros((2, segments * steps + (not closed), count))
    for segment in range(segments):
        for k in range(4):
            # An open curve repeats its ends
            point = (segment + k - 1) % count if closed else min(max(segment + k - 1, 0), count - 1)
            rows = slice(segment * steps, segment * steps + steps)
            curve[rows, point] += values[:, k]
            direction[rows, point] += slopes[:, k]
    if not closed:
        curve[-1, -1] = 1
        direction[-1, -2:] = (-0.5, 0.5)
    return curve, direction


# Bounded: a branch's widths are its own
@lru_cache(maxsize=512)
def _widths(widths: tuple[float, ...], rows: int) -> np.ndarray:
    return np.interp(np.arange(rows) / (rows - 1), np.arange(len(widths)) / (len(widths) - 1), widths)[:, None] / 2


def smooth(points: Points | Sequence[tuple[float, float]], *, closed: bool = True, steps: int = 8) -> Points:
    """A Catmull-Rom curve through the points: (N, 2) -> (about N*steps, 2), point k at row k*steps."""
    return _spline(len(points), steps, closed)[0] @ np.asarray(points, dtype=np.float64)


def ribbon(points: Points | Sequence[tuple[float, float]], widths: tuple[float, ...], *, steps: int = 6) -> Points:
    """The outline of a band along the curve through the points, whose width runs through `widths`."""
    points = np.asarray(points, dtype=np.float64)
    curve, direction = _spline(len(points), 1 if len(points) == 2 and len(widths) == 2 else steps, False)
    spine, along = curve @ points, direction @ points
    length = np.sqrt(along[:, 0] ** 2 + along[:, 1] ** 2)[:, None] + 1e-9
    across = along[:, ::-1] / length * _LEFT * _widths(widths, len(spine))
    return np.concatenate([spine + across, (spine - across)[::-1]])


_LEFT = np.array((-1.0, 1.0))


def polar(origin: Sequence[float], angle: float, length: float) -> tuple[float, float]:
    """The point at this distance and angle, in degrees: 0 to the right, 90 up."""
    radians = math.radians(angle)
    return origin[0] + length * math.cos(radians), origin[1] - length * math.sin(radians)


def ellipse(centre: Sequence[float], across: float, down: float) -> Points:
    """A closed curve around a centre with these half axes."""
    return _CIRCLE * (across, down) + centre


_CIRCLE = np.array([(math.cos(math.tau * k / 20), math.sin(math.tau * k / 20)) for k in range(20)])


def stamped(template: Points, places: Points, turns: np.ndarray | float = 0.0) -> Points:
    """One outline set down at many places: (K, 2), (N, 2), turned by (N,) radians -> (N, K, 2)."""
    turns = np.broadcast_to(np.asarray(turns, dtype=np.float64), len(places))
    cosine, sine = np.cos(turns)[:, None], np.sin(turns)[:, None]
    x, y = template[:, 0], template[:, 1]
    return np.stack([x * cosine + y * sine, y * cosine - x * sine], axis=2) + np.asarray(places)[:, None]


def whole_pixels(
    shapes: Sequence[Points], scale: float | tuple[float, float], corner: tuple[float, float] = (0, 0)
) -> list[list[int]]:
    """Outlines rounded to whole pixels of an enlarged drawing that starts at `corner`, flat, as Pillow takes them.

    Rounding makes the drawing the same on every machine, whatever its last bits of floating point.
    """
    flat = np.rint((np.concatenate(shapes) - corner) * scale).astype(np.int64).ravel().tolist()
    outlines, start = [], 0
    for shape in shapes:
        end = start + 2 * len(shape)
        outlines.append(flat[start:end])
        start = end
    return outlines
