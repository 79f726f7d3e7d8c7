"""What the real input pipeline costs: the training loop as it is, beside the same loop fed with one ready batch."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from sam_core.benchmark.made_up import config_for, write_photographs
from sam_core.benchmark.rounds import interleave, milliseconds, ratio
from sam_core.benchmark.rows import Figure
from sam_core.config import RunConfig
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
    backbone: str | None = None,
    batch_size: int | None = None,
    image_size: int = 224,
    steps_per_turn: int | None = None,
    trainer_type: type[FedTrainer] = FedTrainer,
) -> Figure:
    """Throughput of training steps with the real pipeline / with data already on the device: 1 is free.

    The real pipeline draws and renders random views (crop and flip, the default) of the stored images, normalises
    them and moves them to the device. On a CPU the network and batch are the default run's; on a GPU those of the
    step ratios, where the pipeline has most to do in the least time.
    """
    on_cpu = machine.device.type == "cpu"
    backbone = backbone or (RunConfig().backbone if on_cpu else "resnet50")
    batch_size = batch_size or (RunConfig().batch_size if on_cpu else 64)
    steps_per_turn = steps_per_turn or (1 if on_cpu else 10)
    with tempfile.TemporaryDirectory(prefix="sam-benchmark-") as folder:
        # Enough images for four batches, so that a pass has more than one and all are full.
        per_class = -(-4 * batch_size // CLASSES)
        write_photographs(Path(folder) / "photographs", classes=CLASSES, train=per_class, test=1)
        config = config_for(
            Path(folder) / "photographs",
            machine,
            backbone=backbone,
            batch_size=batch_size,
            image_size=image_size,
            lr=1e-5,
        )
        messages = Messages(quiet=True)
        trainer = trainer_type(config, messages)
    trainer.model.train()
    torch.manual_seed(0)
    ready = trainer.prepare(0)
    steps = itertools.count()

    def with_pipeline() -> None:
        trainer.ready = None
        trainer.measured_step(next(steps))

    def with_ready_batch() -> None:
        trainer.ready = ready
        trainer.measured_step(next(steps))

    seconds = interleave(
        {"pipeline": with_pipeline, "ready": with_ready_batch},
        pairs,
        device=machine.device,
        repeat=dict.fromkeys(("pipeline", "ready"), steps_per_turn),
        warm_up=2,
        title="pipeline",
    )
    preparing = interleave(
        {"prepare": lambda: trainer.prepare(next(steps) % trainer.plan.steps)}, 5, device=machine.device
    )
    figure = ratio(seconds["ready"], seconds["pipeline"])
    details = {
        "pairs": pairs,
        "backbone": backbone,
        "batch_size": batch_size,
        "step_ms": milliseconds(seconds["pipeline"], steps_per_turn),
        "step_with_ready_batch_ms": milliseconds(seconds["ready"], steps_per_turn),
        "batch_alone_ms": milliseconds(preparing["prepare"]),
    }
    return Figure(figure.value, figure.noise, details)
