"""The optimiser, and how learning rates and the attention loss's weight change over a run."""

from __future__ import annotations

import bisect
import math

import torch

from sam_core.config import RunConfig
from sam_core.models.sam_net import SAMNet


def build_optimiser(model: SAMNet, config: RunConfig) -> torch.optim.SGD:
    """SGD with Nesterov momentum; classifier and attention head have learning rates of their own.

    All weights are updated in one pass over memory: on a CPU a third of the time of one operation after the other, on a
    GPU a few kernels in the place of hundreds.
    """
    groups = model.parameter_groups(lr=config.lr, head_lr=config.head_lr, attention_lr=config.attention_lr)
    for group in groups:
        group["initial_lr"] = group["lr"]
    return torch.optim.SGD(
        groups, momentum=config.momentum, weight_decay=config.weight_decay, nesterov=config.momentum > 0, fused=True
    )


def learning_rate_factor(step: int, steps: int, config: RunConfig) -> float:
    """What every learning rate is multiplied by in step number `step` (from 0) of `steps`."""
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / steps))
    if config.schedule == "multistep":
        return 0.1 ** bisect.bisect_right([round(share * steps) for share in config.milestones], step)
    return 1.0


def set_learning_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its first one."""
    for group in optimiser.param_groups:
        group["lr"] = factor * group["initial_lr"]


def attention_weight_at(step: int, steps: int, config: RunConfig) -> float:
    """Lambda in step number `step`: it rises linearly over the first `config.warmup` of the run."""
    rising = config.warmup * steps
    return config.attention_weight * (min(1.0, (step + 1) / rising) if rising >= 1 else 1.0)
