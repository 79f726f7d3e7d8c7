"""Training and test views of stored images.

What a training view looks like is drawn first (`draw_view`: numbers only, from the seed, the pass over the data and
the image), then rendered. So a view depends on nothing but these three: not on its neighbours in the batch, not on
how often the program was interrupted, not on the number of processes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

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


def train_views(images: Tensor, views: Sequence[View], size: int) -> Tensor:
    """Render one view of each image: uint8 (B, 3, R, R) -> uint8 (B, 3, size, size), channels last in memory."""
    rendered = torch.empty((len(views), 3, size, size), dtype=torch.uint8, device=images.device)
    rendered = rendered.to(memory_format=torch.channels_last)
    for position, view in enumerate(views):
        rendered[position] = _render(images[position], view, size)
    return rendered


def _render(image: Tensor, view: View, size: int) -> Tensor:
    image = image[:, view.top : view.top + view.height, view.left : view.left + view.width]
    if image.shape[1:] != (size, size):
        image = F.resize(image, [size, size], interpolation=InterpolationMode.BILINEAR, antialias=True)
    if view.mirrored:
        image = F.horizontal_flip(image)
    for name, strength in view.operations:
        image = OPERATIONS[name](image, strength)
    return image


def _affine(image: Tensor, *, angle: float = 0.0, shift: tuple[int, int] = (0, 0), shear: tuple = (0.0, 0.0)) -> Tensor:
    return F.affine(image, angle=angle, translate=list(shift), scale=1.0, shear=list(shear), fill=128)


def _degrees(strength: float) -> float:
    return math.degrees(math.atan(0.3 * strength))


#: RandAugment's operations at a strength in -1..1, with the ranges of torchvision's `RandAugment`; what has no sign
#: ignores it. Geometric ones leave grey where the image ends, in place of black.
OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda image, strength: image,
    "shear_x": lambda image, strength: _affine(image, shear=(_degrees(strength), 0.0)),
    "shear_y": lambda image, strength: _affine(image, shear=(0.0, _degrees(strength))),
    "translate_x": lambda image, strength: _affine(image, shift=(round(strength * image.shape[-1] * 150 / 331), 0)),
    "translate_y": lambda image, strength: _affine(image, shift=(0, round(strength * image.shape[-2] * 150 / 331))),
    "rotate": lambda image, strength: _affine(image, angle=30 * strength),
    "brightness": lambda image, strength: F.adjust_brightness(image, 1 + 0.9 * strength),
    "color": lambda image, strength: F.adjust_saturation(image, 1 + 0.9 * strength),
    "contrast": lambda image, strength: F.adjust_contrast(image, 1 + 0.9 * strength),
    "sharpness": lambda image, strength: F.adjust_sharpness(image, 1 + 0.9 * strength),
    "posterize": lambda image, strength: F.posterize(image, 8 - round(abs(strength) * 4)),
    "solarize": lambda image, strength: F.solarize(image, 255 * (1 - abs(strength))),
    "autocontrast": lambda image, strength: F.autocontrast(image),
    "equalize": lambda image, strength: F.equalize(image),
}


def centre_views(images: Tensor, size: int) -> Tensor:
    """The centre of each image: uint8 (B, 3, R, R) -> (B, 3, size, size)."""
    margin = (images.shape[-1] - size) // 2
    return images[..., margin : margin + size, margin : margin + size]


def ten_crop_views(images: Tensor, size: int) -> Tensor:
    """Four corners and the centre, each also mirrored: uint8 (B, 3, R, R) -> (10, B, 3, size, size), centre first."""
    far = images.shape[-1] - size
    middle = far // 2
    places = [(middle, middle), (0, 0), (0, far), (far, 0), (far, far)]
    crops = [images[..., top : top + size, left : left + size] for top, left in places]
    return torch.stack(crops + [crop.flip(-1) for crop in crops])


def normalise(views: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 0..255 -> float32 as the backbone's weights were trained with: `(view / 255 - mean) / std`, per channel."""
    # One multiply and one add over the batch, in place on the float copy.
    scale = torch.tensor([1 / (255 * value) for value in std], device=views.device).view(-1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=views.device).view(-1, 1, 1)
    return views.float().mul_(scale).add_(shift)


def view_box(side: int, size: int) -> tuple[float, float, float, float]:
    """Where the centre view lies in the full image: left, top, width, height as fractions."""
    margin = (side - size) // 2
    return margin / side, margin / side, size / side, size / side
