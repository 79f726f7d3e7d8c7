"""One plate: a bird in a habitat, under one light, with the exact map of its parts."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from sam_core.datasets.fieldguide.birds import Bird
from sam_core.datasets.fieldguide.drawing import SIZE, Dice
from sam_core.datasets.fieldguide.habitats import PAINTERS, Layer, Stand

Light = tuple[float, float, float]
"""Gains of red, green and blue, which bird and habitat share."""


def draw_light(dice: Dice) -> Light:
    """Brighter or dimmer, warmer or cooler."""
    strength, warmth = dice.between(0.84, 1.10), dice.between(-0.06, 0.08)
    return strength * (1 + warmth), strength, strength * (1 - warmth)


def compose(bird: Bird, habitat: str, light: Light, dice: Dice) -> tuple[Image.Image, Image.Image]:
    """The bird in the habitat: the image, and its part map of the same size."""
    painter = PAINTERS[habitat]
    stand = Stand(bird.foot[0], bird.foot[1], bird.unit, bird.facing)
    stage, front = Layer(), Layer()
    image = painter.backdrop(dice).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    painter.stage(stage, dice, stand)
    painter.front(front, dice, stand)

    stage.paint_over(image)
    behind = ImageChops.multiply(image.crop(bird.place), bird.uncovered)
    image.paste(ImageChops.add(behind, bird.colours), bird.place)
    front.paint_over(image)
    parts = bird.parts.copy()
    front.wipe(parts)
    tables = [np.minimum(255, (_VALUES * gain + 0.5).astype(np.int64)).tolist() for gain in light]
    return image.point(tables[0] + tables[1] + tables[2]), parts


_VALUES = np.arange(256)
