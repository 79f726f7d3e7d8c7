"""Object masks at the size of the stored images, a bit a pixel, read once as the images are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sam_core.datasets.base import Problem, Sample
from sam_core.datasets.reading import mask_reading
from sam_core.datasets.rows import TaskProgress, read_rows


class MaskStore:
    """The masks of some samples, mapped from the cache or, without one, in memory.

    Attributes:
        side: of every mask, in pixels.
        problems: the samples whose mask cannot be read, and why.
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
        self.side = side
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._masks: list[np.ndarray | None] = [None] * len(samples)
        for on in sorted({sample.mask_on for sample in samples if sample.mask_path}):
            rows = [row for row, sample in enumerate(samples) if sample.mask_path and sample.mask_on == on]
            read = read_rows(
                [samples[row].mask_path for row in rows], mask_reading(side, on),
                cache_root=cache_root, owner=owner, progress=progress,
            )  # fmt: skip
            self.notes += read.notes
            self.problems += read.problems_of([samples[row] for row in rows])
            for row, mask in zip(rows, read.rows, strict=True):
                self._masks[row] = mask

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, row: int) -> Tensor | None:
        """The mask of sample `row`: bool (side, side), set on the object; None where it has none that can be read."""
        packed = self._masks[row]
        if packed is None:
            return None
        bits = np.unpackbits(packed, count=self.side * self.side)
        return torch.from_numpy(bits.reshape(self.side, self.side)).bool()
