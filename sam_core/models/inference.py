"""One photograph as the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sam_core.augment import centre_views, normalise
from sam_core.datasets.images import read_image
from sam_core.datasets.run_data import stored_side


def stored_image(image: Image.Image | str | Path, *, size: int) -> Tensor:
    """A photograph as the image store keeps it: uint8 (1, 3, R, R), its whole frame squeezed to a square."""
    picture = (
        ImageOps.exif_transpose(image).convert("RGB") if isinstance(image, Image.Image) else read_image(Path(image))
    )
    side = stored_side(size)
    picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]


def prepare_image(image: Image.Image | str | Path, *, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """A photograph as the network sees it in evaluation: the centre view, normalised, float32 (1, 3, size, size)."""
    return normalise(centre_views(stored_image(image, size=size), size), mean, std)
