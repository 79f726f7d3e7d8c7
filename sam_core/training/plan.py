"""Which images each step sees, and when the run evaluates: known before the first step.

Everything here is a function of the configuration and the number of images, so a resumed run repeats exactly what the
interrupted one would have done.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

from sam_core.config import RunConfig


@dataclass(frozen=True)
class Plan:
    """The course of a run.

    An epoch is one pass over the labelled images; with `--iterations` it is `--eval-every` iterations, so that a
    run of 30,000 iterations over a few hundred images is not saved and evaluated after each handful of steps.
    """

    images: int
    batches_per_pass: int
    steps_per_epoch: int
    steps: int
    seed: int
    recorded_every: int

    @classmethod
    def of(cls, config: RunConfig, images: int) -> Plan:
        """The plan of a configuration for this many labelled images."""
        batches = -(-images // config.batch_size)
        if config.iterations:
            per_epoch = min(int(config.eval_every or 1), config.iterations)
            return cls(images, batches, per_epoch, config.iterations, config.seed, recorded_every=1)
        steps = batches * int(config.epochs or 1)
        return cls(images, batches, batches, steps, config.seed, recorded_every=int(config.eval_every or 1))

    @property
    def epochs(self) -> int:
        """How many epochs the run has; the last may be shorter."""
        return -(-self.steps // self.steps_per_epoch)

    def steps_until(self, epoch: int) -> int:
        """Steps done when `epoch` has finished."""
        return min(epoch * self.steps_per_epoch, self.steps)

    @property
    def recording_points(self) -> tuple[int, ...]:
        """The epochs after which maps are recorded: 0, before any training, and always the last."""
        return tuple(sorted({*range(0, self.epochs, self.recorded_every), self.epochs}))

    def batch(self, step: int) -> tuple[int, list[int]]:
        """The pass that step number `step` (from 0) belongs to, and its images as positions among the labelled ones.

        The batches of a pass are as even as can be: 40 images at 16 make 13, 13 and 14, not 16, 16 and 8.
        """
        number, position = divmod(step, self.batches_per_pass)
        order = _order(self.images, self.seed, number)
        return number, list(order[self._first(position) : self._first(position + 1)])

    def images_in(self, step: int) -> int:
        """How many images step number `step` sees."""
        position = step % self.batches_per_pass
        return self._first(position + 1) - self._first(position)

    def _first(self, position: int) -> int:
        """Where in a pass the batch at `position` begins."""
        return position * self.images // self.batches_per_pass


@lru_cache(maxsize=4)
def _order(images: int, seed: int, number: int) -> tuple[int, ...]:
    order = list(range(images))
    random.Random(f"order/{seed}/{number}").shuffle(order)
    return tuple(order)
