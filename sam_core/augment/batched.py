"""The views of a whole batch in a few operations, for a GPU: no loop over images, nothing that waits for the device.

Crop, resize and mirroring of one axis are one linear map of its pixels, so a view is `rows @ image @ columns^T` with a
small matrix per image and axis: the weights of an antialiased bilinear resize, as `torchvision`'s resize has them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sam_core.augment.operations import CHANGES, FILL, MOTIONS, shift_in_pixels
from sam_core.augment.views import View
from sam_core.device import send


def render_batch(images: Tensor, views: Sequence[View], size: int) -> Tensor:
    """Render one view of each image: uint8 (B, 3, R, R) -> uint8 (B, 3, size, size), channels last in memory."""
    if not views:  # a process may have no share of a batch
        return images.new_empty((0, 3, size, size))
    rendered = _crop_and_resize(images, views, size)
    for slot in range(max((len(view.operations) for view in views), default=0)):
        _change_in_place(rendered, [view.operations[slot] if slot < len(view.operations) else None for view in views])
    return rendered.contiguous(memory_format=torch.channels_last)


def _crop_and_resize(images: Tensor, views: Sequence[View], size: int) -> Tensor:
    side = images.shape[-1]
    numbers = [(view.top, view.height, False, view.left, view.width, view.mirrored) for view in views]
    top, height, upright, left, width, mirrored = _to_device(numbers, images.device).unbind(dim=1)  # 6 times (B,)
    rows = _resize_weights(top, height, upright, side, size)  # (B, size, R)
    columns = _resize_weights(left, width, mirrored, side, size)  # (B, size, R)
    # Autocast would round the products to two or three digits: pixels have 255 levels.
    with torch.autocast(images.device.type, enabled=False):
        # (B, 1, size, R) @ (B, 3, R, R) @ (B, 1, R, size) -> (B, 3, size, size)
        views_ = rows[:, None] @ images.float() @ columns[:, None].transpose(2, 3)
    return views_.round_().clamp_(0, 255).to(torch.uint8)


def _resize_weights(start: Tensor, length: Tensor, mirrored: Tensor, side: int, size: int) -> Tensor:
    """(B,) each -> (B, size, side): how much of each pixel goes into each pixel of the view, on one axis.

    Args:
        start: the crop's first pixel.
        length: how many pixels it has.
        mirrored: 1 where the axis is turned round.
        side: pixels of the image.
        size: pixels of the view.
    """
    start, length = start[:, None, None], length[:, None, None]  # (B, 1, 1)
    place = torch.arange(size, device=start.device)[None, :, None] + 0.5  # (1, size, 1)
    place = torch.where(mirrored[:, None, None] > 0, size - place, place)
    pixel = torch.arange(side, device=start.device)[None, None, :] + 0.5  # (1, 1, side)
    scale = length / size
    distance = (pixel - (start + place * scale)).abs() / scale.clamp(min=1)  # in widths of the filter's triangle
    inside = (pixel > start) & (pixel < start + length)
    weights = (1 - distance).clamp(min=0) * inside
    return weights / weights.sum(dim=2, keepdim=True)


def _change_in_place(images: Tensor, changes: Sequence[tuple[str, float] | None]) -> None:
    """Apply one operation to each image: those that share it together, every geometric one in a single sampling."""
    alike: dict[tuple[str, float], list[int]] = defaultdict(list)
    moved: list[int] = []
    for position, change in enumerate(changes):
        if change is None:
            continue
        if change[0] in MOTIONS:
            moved.append(position)
        else:
            alike[change].append(position)
    # Every list of positions in one transfer.
    places = _to_device([*moved, *(place for group in alike.values() for place in group)], images.device).long()
    groups = places.split([len(moved), *(len(group) for group in alike.values())])
    if moved:
        matrices = [_sampling_matrix(*changes[position], *images.shape[-2:]) for position in moved]
        images[groups[0]] = _move(images[groups[0]], _to_device(matrices, images.device))
    for (name, strength), group in zip(alike, groups[1:], strict=True):
        images[group] = CHANGES[name](images[group], strength)


def _sampling_matrix(name: str, strength: float, height: int, width: int) -> list[list[float]]:
    """Where each pixel of a moved image comes from, (2, 3), in the coordinates of `affine_grid` (-1..1).

    A motion turns by `angle`, then shears, about the image's centre, then shifts; this is its inverse, as
    `torchvision`'s `affine` defines it.
    """
    motion = MOTIONS[name](strength)
    turn = math.radians(motion.angle)
    shear_x, shear_y = (math.radians(value) for value in motion.shear)
    # The forward matrix of torchvision's affine without scale: rotation times shear.
    a = math.cos(turn - shear_y) / math.cos(shear_y)
    b = -math.cos(turn - shear_y) * math.tan(shear_x) / math.cos(shear_y) - math.sin(turn)
    c = math.sin(turn - shear_y) / math.cos(shear_y)
    d = -math.sin(turn - shear_y) * math.tan(shear_x) / math.cos(shear_y) + math.cos(turn)
    determinant = a * d - b * c
    inverse = ((d / determinant, -b / determinant), (-c / determinant, a / determinant))
    shift_x, shift_y = shift_in_pixels(motion, height, width)
    from_x = -(inverse[0][0] * shift_x + inverse[0][1] * shift_y) * 2 / width
    from_y = -(inverse[1][0] * shift_x + inverse[1][1] * shift_y) * 2 / height
    return [
        [inverse[0][0], inverse[0][1] * height / width, from_x],
        [inverse[1][0] * width / height, inverse[1][1], from_y],
    ]


def _move(images: Tensor, matrices: Tensor) -> Tensor:
    """Sample the nearest pixel; grey where a place lies outside the image. uint8 (M, 3, S, S), (M, 2, 3)."""
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)  # (M, S, S, 2)
    # Zero is outside, so that everything inside is moved up by one.
    moved = F.grid_sample(images.float() + 1, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return torch.where(moved > 0, moved - 1, FILL).to(torch.uint8)


def _to_device(numbers: Sequence[object], device: torch.device) -> Tensor:
    """Numbers as float32 on the device, without waiting for it."""
    return send(torch.tensor(numbers, dtype=torch.float32), device)
