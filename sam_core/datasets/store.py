"""Images decoded once, for every run, so that no epoch opens a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sam_core.datasets.base import Sample
from sam_core.datasets.reading import image_reading
from sam_core.datasets.rows import TaskProgress, read_rows


class ImageStore:
    """The decoded images of some samples, mapped from the cache or, without one, in memory.

    Attributes:
        side: of every image, in pixels.
        samples: those whose file can be read; positions are places in this list.
        labels: (N,) their labels.
        index: the position of each sample by its id.
        problems: the samples whose file cannot be read, and why.
        notes: sentences for the person whose run it is, about the cache.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        side: int,
        *,
        cache_root: Path | None = None,
        owner: str = "",
        progress: TaskProgress | None = None,
    ) -> None:
        """See `read_rows` for the cache, its owner and the progress."""
        read = read_rows(
            [sample.path for sample in samples], image_reading(side),
            cache_root=cache_root, owner=owner, progress=progress,
        )  # fmt: skip
        self.side = side
        self.notes = read.notes
        self.problems = read.problems_of(samples)
        self.samples = [sample for sample, image in zip(samples, read.rows, strict=True) if image is not None]
        self._images = [image for image in read.rows if image is not None]
        self.labels = torch.tensor([sample.label for sample in self.samples], dtype=torch.long)
        self.index = {sample.id: position for position, sample in enumerate(self.samples)}

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, positions: Tensor) -> Tensor:
        """The images at `positions`: uint8 (B, 3, side, side), channels last in memory."""
        images = np.empty((len(positions), self.side, self.side, 3), np.uint8)
        for place, position in enumerate(positions.tolist()):
            images[place] = self._images[position]
        return torch.from_numpy(images).permute(0, 3, 1, 2)
