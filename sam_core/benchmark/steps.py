"""What a step of each method costs beside a plain fine-tuning step: `sam`, with Grad-CAM, and `sam-bilinear`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sam_core.benchmark.rounds import corrected, interleave, milliseconds, per_second, ratio
from sam_core.benchmark.rows import Figure
from sam_core.config import RunConfig
from sam_core.device import Machine
from sam_core.models.sam_net import build_model
from sam_core.training.optimiser import build_optimiser
from sam_core.training.step import training_losses

#: The method and pseudo-attention behind each row; `plain` is what every one is divided by.
VARIANTS: dict[str, dict[str, str]] = {
    "plain": {"method": "finetune"},
    "sam_step_ratio": {"method": "sam", "pseudo": "cam"},
    "gradcam_step_ratio": {"method": "sam", "pseudo": "gradcam"},
    "bilinear_step_ratio": {"method": "sam-bilinear", "pseudo": "gradcam"},
    "control_step_ratio": {"method": "finetune"},
}
#: Steps change the weights by next to nothing, so that the last round does the same arithmetic as the first. What a
#: step costs does not depend on the learning rate.
LEARNING_RATE = 1e-5
#: Classes of CUB-200-2011: the classifier's share of the work, largest under bilinear pooling, is then a real one.
CLASSES = 200


@dataclass(frozen=True)
class Workload:
    """The network and batch that steps are measured with."""

    backbone: str
    batch_size: int
    image_size: int = 224
    classes: int = CLASSES
    steps_per_turn: int = 1
    """Steps between two looks at the clock. A GPU works off a queue; one step alone would show how long it takes to
    fill, not what training costs."""

    @classmethod
    def of(cls, machine: Machine) -> Workload:
        """The design's: `resnet18` and 16 images on a CPU, `resnet50` and 64 on a GPU."""
        if machine.device.type == "cpu":
            return cls("resnet18", 16)
        return cls("resnet50", 64, steps_per_turn=5)


class TrainingStep:
    """A network and its optimiser, and one step of training on a batch that is already on the device.

    The step is the training loop's: forward pass, losses, backward pass, optimiser, and nothing read back.
    """

    def __init__(
        self, config: RunConfig, machine: Machine, images: Tensor, labels: Tensor, *, classes: int = CLASSES
    ) -> None:
        self.config = config
        self.machine = machine
        self.images = images
        self.labels = labels
        torch.manual_seed(config.seed)
        model = build_model(
            backbone=config.backbone,
            classes=classes,
            method=config.method,
            pooling=str(config.pooling),
            attention_maps=int(config.attention_maps or 0),
        )
        self.model = model.to(machine.device, memory_format=torch.channels_last).train()
        self.optimiser = build_optimiser(self.model, config)

    def __call__(self) -> dict[str, Tensor]:
        """One step; the losses stay on the device."""
        with self.machine.autocast():
            losses = training_losses(self.model, self.images, self.labels, self.config, self.config.attention_weight)
        self.optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        self.optimiser.step()
        return {name: value.detach() for name, value in losses.items()}


def made_up_batch(machine: Machine, workload: Workload) -> tuple[Tensor, Tensor]:
    """A normalised batch on the device, in the memory layout of the training loop's."""
    generator = torch.Generator().manual_seed(0)
    shape = (workload.batch_size, 3, workload.image_size, workload.image_size)
    images = torch.randn(shape, generator=generator).to(machine.device, memory_format=torch.channels_last)
    labels = torch.randint(workload.classes, shape[:1], generator=generator)
    return images, labels.to(machine.device)


def measure_steps(
    wanted: Sequence[str],
    machine: Machine,
    *,
    pairs: int,
    workload: Workload | None = None,
    make_step: Callable[..., TrainingStep] = TrainingStep,
) -> dict[str, Figure]:
    """The step ratios in `wanted`, and always the control: all kinds of step in every round, in changing order.

    Every kind has a network of its own with the same backbone and seed, and all see the same batch. A round gives
    each kind's quotient to the plain step of the same round; the row is the median of the quotients divided by the
    control's, a second plain network's.
    """
    workload = workload or Workload.of(machine)
    images, labels = made_up_batch(machine, workload)
    names = [name for name in VARIANTS if name in ("plain", "control_step_ratio", *wanted)]
    steps = {}
    for name in names:
        config = RunConfig(
            **VARIANTS[name],
            backbone=workload.backbone,
            weights="none",
            image_size=workload.image_size,
            batch_size=workload.batch_size,
            lr=LEARNING_RATE,
        )
        steps[name] = make_step(config, machine, images, labels, classes=workload.classes)
    seconds = interleave(
        steps,
        pairs,
        device=machine.device,
        repeat=dict.fromkeys(names, workload.steps_per_turn),
        warm_up=2,
        title="steps",
    )
    control = ratio(seconds["control_step_ratio"], seconds["plain"])
    figures = {}
    for name in names[1:]:
        figure = control if name == "control_step_ratio" else corrected(ratio(seconds[name], seconds["plain"]), control)
        details = {
            **figure.details,
            "pairs": pairs,
            "backbone": workload.backbone,
            "batch_size": workload.batch_size,
            "plain_ms": milliseconds(seconds["plain"], workload.steps_per_turn),
            "this_ms": milliseconds(seconds[name], workload.steps_per_turn),
            "images_per_s": per_second(seconds[name], workload.batch_size * workload.steps_per_turn),
        }
        figures[name] = Figure(figure.value, figure.noise, details)
    return figures
