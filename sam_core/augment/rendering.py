"""The pixels of views: uint8 in, uint8 out, and normalised for the network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sam_core.augment import operations
from sam_core.augment.batched import render_batch
from sam_core.augment.views import View


def train_views(images: Tensor, views: Sequence[View], size: int) -> Tensor:
    """Render one view of each image: uint8 (B, 3, R, R) -> uint8 (B, 3, size, size), channels last in memory.

    On a CPU one after the other; on a GPU, where it is starting work that takes the time, all in a few operations. The
    two agree to a level or two of 255 (and to a few pixels where a turned or sheared image is sampled).
    """
    if images.device.type != "cpu":
        return render_batch(images, views, size)
    rendered = torch.empty((len(views), 3, size, size), dtype=torch.uint8, memory_format=torch.channels_last)
    for position, view in enumerate(views):
        # A batch of one: of a single image torch makes one whose channels lie apart, at a third more of the time.
        rendered[position : position + 1] = _render(images[position : position + 1], view, size)
    return rendered


def _render(image: Tensor, view: View, size: int) -> Tensor:
    image = image[..., view.top : view.top + view.height, view.left : view.left + view.width]
    if image.shape[-2:] != (size, size):
        image = F.resize(image, [size, size], interpolation=InterpolationMode.BILINEAR, antialias=True)
    if view.mirrored:
        image = F.horizontal_flip(image)
    for name, strength in view.operations:
        image = operations.apply(name, image, strength)
    return image


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
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), views.device)
    return views.float().mul_(scale).add_(shift)


@lru_cache(maxsize=8)
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """(3, 1, 1) each, kept on the device: to make them there anew would wait for it in every step."""
    scale = torch.tensor([1 / (255 * value) for value in std], device=device).view(-1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device).view(-1, 1, 1)
    return scale, shift
