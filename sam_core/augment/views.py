"""What a training view looks like, drawn before a pixel is touched.

A view is numbers only, from the seed, the pass over the data and the image. So it depends on nothing but these three:
not on its neighbours in the batch, not on the device that renders it, not on how often the program was interrupted,
not on the number of processes.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from sam_core.augment.operations import OPERATIONS

#: RandAugment (Cubuk et al., 2020) as the released protocol calls it: 2 operations of magnitude 10 of 31 bins.
RANDAUGMENT_OPERATIONS = 2
RANDAUGMENT_STRENGTH = 10 / 30
ASPECT_RATIOS = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class View:
    """One view of a square image of `side` pixels: a crop (pixels), whether mirrored, and operations with strengths."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False
    operations: tuple[tuple[str, float], ...] = ()


def draw_view(key: str, *, augment: str, side: int, size: int, crop_scale: float) -> View:
    """Draw one training view.

    Args:
        key: what the view is seeded by: seed, pass and image.
        augment: `none`, `flip`, `crop` or `randaugment` (see `sam_core.config`).
        side: side of the stored image in pixels.
        size: side of the view in pixels.
        crop_scale: smallest share of the area that a random crop keeps.
    """
    generator = random.Random(key)
    mirrored = augment != "none" and generator.random() < 0.5
    if augment in ("none", "flip"):
        margin = (side - size) // 2
        return View(margin, margin, size, size, mirrored)
    top, left, height, width = _random_crop(generator, side, crop_scale)
    operations = ()
    if augment == "randaugment":
        names = [generator.choice(tuple(OPERATIONS)) for _ in range(RANDAUGMENT_OPERATIONS)]
        operations = tuple((name, generator.choice((-1.0, 1.0)) * RANDAUGMENT_STRENGTH) for name in names)
    return View(top, left, height, width, mirrored, operations)


def _random_crop(generator: random.Random, side: int, crop_scale: float) -> tuple[int, int, int, int]:
    """A rectangle of random area and aspect ratio, as torchvision's `RandomResizedCrop` draws it."""
    for _ in range(10):
        area = side * side * generator.uniform(crop_scale, 1)
        ratio = math.exp(generator.uniform(math.log(ASPECT_RATIOS[0]), math.log(ASPECT_RATIOS[1])))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= side and 0 < height <= side:
            return generator.randint(0, side - height), generator.randint(0, side - width), height, width
    return 0, 0, side, side


def view_box(side: int, size: int) -> tuple[float, float, float, float]:
    """Where the centre view lies in the full image: left, top, width, height as fractions."""
    margin = (side - size) // 2
    return margin / side, margin / side, size / side, size / side
