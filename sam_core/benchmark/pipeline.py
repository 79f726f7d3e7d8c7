"""What the real input pipeline costs: the training loop as it is, beside the same loop fed with one ready batch."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from sam_core.benchmark.made_up import config_for, write_photographs
from sam_core.benchmark.rounds import interleave, milliseconds, per_second, ratio
from sam_core.benchmark.rows import Figure
from sam_core.config import METHODS, RunConfig
from sam_core.device import Machine
from sam_core.training.loop import Trainer
from sam_core.training.messages import Messages

CLASSES = 10


class FedTrainer(Trainer):
    """The training loop's own step, whose batch can be replaced by one that is already on the device, normalised."""

    ready: tuple[Tensor, Tensor] | None = None

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.ready or super()._batch(step)

    def measured_step(self, step: int) -> dict[str, Tensor]:
        """One step of training from where `ready` says."""
        return self._step(step % self.plan.steps)

    def prepare(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step from the real pipeline."""
        return super()._batch(step)


def measure_pipeline(
    machine: Machine,
    *,
    pairs: int,
    methods: Sequence[str] | None = None,
    backbone: str | None = None,
    batch_size: int | None = None,
    image_size: int = 224,
    steps_per_turn: int | None = None,
    trainer_type: type[FedTrainer] = FedTrainer,
) -> Figure:
    """Throughput of training steps with the real pipeline / with data already on the device: 1 is free.

    The real pipeline draws and renders random views (crop and flip, the default) of the stored images and normalises
    them, on the device where that is a GPU. On a CPU the network, batch and method are the default run's; on a GPU
    those of the step ratios, where the pipeline has most to do in the least time, with every method: the figure is
    that of the method which loses most, and the details have each one's images per second.
    """
    on_cpu = machine.device.type == "cpu"
    methods = methods or ((RunConfig().method,) if on_cpu else tuple(METHODS))
    backbone = backbone or (RunConfig().backbone if on_cpu else "resnet50")
    batch_size = batch_size or (RunConfig().batch_size if on_cpu else 64)
    steps_per_turn = steps_per_turn or (1 if on_cpu else 10)
    # Windows keeps files that are mapped into memory, as the cached images are.
    with tempfile.TemporaryDirectory(prefix="sam-benchmark-", ignore_cleanup_errors=True) as folder:
        # Enough images for four batches, so that a pass has more than one and all are full.
        per_class = -(-4 * batch_size // CLASSES)
        photographs = write_photographs(Path(folder) / "photographs", classes=CLASSES, train=per_class, test=1)
        choices = {"backbone": backbone, "batch_size": batch_size, "image_size": image_size, "lr": 1e-5}
        trainers = {
            method: trainer_type(config_for(photographs, machine, method=method, **choices), Messages(quiet=True))
            for method in methods
        }
    work = {}
    for method, trainer in trainers.items():
        trainer.model.train()
        work[method] = _steps_of(trainer, None)
        work[f"{method}, ready"] = _steps_of(trainer, trainer.prepare(0))
    seconds = interleave(
        work, pairs, device=machine.device, repeat=dict.fromkeys(work, steps_per_turn), warm_up=2, title="pipeline"
    )
    figures = {method: ratio(seconds[f"{method}, ready"], seconds[method]) for method in methods}
    worst = min(methods, key=lambda method: figures[method].value)
    preparing = interleave({"prepare": _batches_of(trainers[worst])}, 5, device=machine.device)
    images = batch_size * steps_per_turn
    details = {
        "pairs": pairs,
        "backbone": backbone,
        "batch_size": batch_size,
        "method": worst,
        "step_ms": milliseconds(seconds[worst], steps_per_turn),
        "step_with_ready_batch_ms": milliseconds(seconds[f"{worst}, ready"], steps_per_turn),
        "batch_alone_ms": milliseconds(preparing["prepare"]),
        "methods": {
            method: {
                "ratio": round(figures[method].value, 4),
                "images_per_s": per_second(seconds[method], images),
                "images_per_s_with_ready_batch": per_second(seconds[f"{method}, ready"], images),
            }
            for method in methods
        },
    }
    return Figure(figures[worst].value, figures[worst].noise, details)


def _steps_of(trainer: FedTrainer, ready: tuple[Tensor, Tensor] | None) -> Callable[[], None]:
    """Training steps, each on the batch that is ready or, if there is none, on one from the real pipeline."""
    steps = itertools.count()

    def step() -> None:
        trainer.ready = ready
        trainer.measured_step(next(steps))

    return step


def _batches_of(trainer: FedTrainer) -> Callable[[], object]:
    steps = itertools.count()
    return lambda: trainer.prepare(next(steps) % trainer.plan.steps)
