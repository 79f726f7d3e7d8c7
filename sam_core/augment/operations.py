"""RandAugment's operations on images of 8 bits, alone or in batches that share a strength."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torchvision.transforms.v2 import functional as F

#: What geometric operations leave where the image ends: grey, in place of torchvision's black.
FILL = 128


@dataclass(frozen=True)
class Motion:
    """A geometric operation: degrees of turning, a shift as a share of the side, degrees of shearing."""

    angle: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    shear: tuple[float, float] = (0.0, 0.0)


def _degrees(strength: float) -> float:
    return math.degrees(math.atan(0.3 * strength))


#: The geometric operations at a strength in -1..1, with the ranges of torchvision's `RandAugment`.
MOTIONS: dict[str, Callable[[float], Motion]] = {
    "shear_x": lambda strength: Motion(shear=(_degrees(strength), 0.0)),
    "shear_y": lambda strength: Motion(shear=(0.0, _degrees(strength))),
    "translate_x": lambda strength: Motion(shift=(strength * 150 / 331, 0.0)),
    "translate_y": lambda strength: Motion(shift=(0.0, strength * 150 / 331)),
    "rotate": lambda strength: Motion(angle=30 * strength),
}

#: The others; what has no sign ignores it. Each image's result is its own: means and histograms are taken per image.
CHANGES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda image, strength: image,
    "brightness": lambda image, strength: F.adjust_brightness(image, 1 + 0.9 * strength),
    "color": lambda image, strength: F.adjust_saturation(image, 1 + 0.9 * strength),
    "contrast": lambda image, strength: F.adjust_contrast(image, 1 + 0.9 * strength),
    "sharpness": lambda image, strength: F.adjust_sharpness(image, 1 + 0.9 * strength),
    "posterize": lambda image, strength: F.posterize(image, 8 - round(abs(strength) * 4)),
    "solarize": lambda image, strength: F.solarize(image, 255 * (1 - abs(strength))),
    "autocontrast": lambda image, strength: F.autocontrast(image),
    "equalize": lambda image, strength: F.equalize(image),
}

#: Every operation by name, in the order in which they are drawn.
OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast",
    "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip


def shift_in_pixels(motion: Motion, height: int, width: int) -> tuple[int, int]:
    """A motion's shift in whole pixels, x and y."""
    return round(motion.shift[0] * width), round(motion.shift[1] * height)


def apply(name: str, image: Tensor, strength: float) -> Tensor:
    """One operation: uint8 (..., 3, S, S) -> the same shape."""
    if name in CHANGES:
        return CHANGES[name](image, strength)
    motion = MOTIONS[name](strength)
    shift = shift_in_pixels(motion, *image.shape[-2:])
    return F.affine(image, angle=motion.angle, translate=list(shift), scale=1.0, shear=list(motion.shear), fill=FILL)
