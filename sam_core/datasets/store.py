"""Images decoded once and kept in memory, so that no epoch opens a file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sam_core.datasets.base import Problem, Sample
from sam_core.datasets.images import ImageError, read_image


def decode(path: Path, side: int) -> np.ndarray:
    """One image as uint8 (side, side, 3), its full frame squeezed to a square as the released protocol does.

    Nothing is cut off, so boxes and masks, kept as fractions of the frame, hold without further thought.
    """
    image = read_image(path, at_least=side)
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image)


class ImageStore:
    """The decoded images of some samples.

    `samples[i]` belongs to `images[i]`; samples whose file cannot be read are left out and listed in `problems`.
    """

    def __init__(
        self, samples: Sequence[Sample], side: int, progress: Callable[[int, int], None] | None = None
    ) -> None:
        self.side = side
        self.problems: list[Problem] = []
        self.samples: list[Sample] = []
        images = torch.empty((len(samples), 3, side, side), dtype=torch.uint8).to(memory_format=torch.channels_last)
        rows = images.permute(0, 2, 3, 1).numpy()  # (N, side, side, 3), the same memory
        # Pillow decodes outside the interpreter's lock, so threads are enough.
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            for done, (sample, result) in enumerate(_in_order(pool, samples, side), start=1):
                if isinstance(result, ImageError):
                    self.problems.append(Problem("unreadable image", sample.id, str(result)))
                else:
                    rows[len(self.samples)] = result
                    self.samples.append(sample)
                if progress:
                    progress(done, len(samples))
        self.images = images[: len(self.samples)]
        self.labels = torch.tensor([sample.label for sample in self.samples], dtype=torch.long)
        self.index = {sample.id: position for position, sample in enumerate(self.samples)}

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, positions: Tensor) -> Tensor:
        """The images at `positions`: uint8 (B, 3, side, side)."""
        return self.images[positions]


def _in_order(
    pool: ThreadPoolExecutor, samples: Sequence[Sample], side: int
) -> Iterator[tuple[Sample, np.ndarray | ImageError]]:
    """Decode ahead of the reader, but not without bound: 64 images wait at most."""

    def attempt(sample: Sample) -> np.ndarray | ImageError:
        try:
            return decode(sample.path, side)
        except ImageError as error:
            return error

    waiting = iter(samples)
    queue = deque((sample, pool.submit(attempt, sample)) for sample in islice(waiting, 64))
    while queue:
        sample, future = queue.popleft()
        yield sample, future.result()
        for following in islice(waiting, 1):
            queue.append((following, pool.submit(attempt, following)))
