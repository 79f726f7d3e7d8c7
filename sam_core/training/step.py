"""One training step's losses, for every method."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sam_core.config import RunConfig
from sam_core.losses import attention_loss
from sam_core.models.attention_head import learned_attention
from sam_core.models.sam_net import SAMNet
from sam_core.pseudo_attention import pseudo_attention


def training_losses(
    model: SAMNet, images: Tensor, labels: Tensor, config: RunConfig, attention_weight: float
) -> dict[str, Tensor]:
    """`CE(s, y) + lambda * KL(softmax(m / tau) || softmax(a / tau))`, the objective of Shu et al., ECCV 2022.

    One pass through the network. The pseudo-attention `m` is made from its features and detached; the attention loss
    reaches the backbone through the learned attention `a` alone.

    Args:
        model: the network, in training mode.
        images: (B, 3, S, S), normalised.
        labels: (B,).
        config: method, pseudo-attention, temperature, target scale, label smoothing.
        attention_weight: lambda of this step.

    Returns:
        `loss`, `classification` and, where the method has it, `attention` (before lambda): scalars on the device.
    """
    output = model(images)
    classification = F.cross_entropy(output.scores.float(), labels, label_smoothing=config.label_smoothing)
    if config.pseudo is None:
        return {"loss": classification, "classification": classification}
    target = pseudo_attention(config.pseudo, output.features, output.attention, model.head, labels)
    with torch.autocast(images.device.type, enabled=False):
        attention = attention_loss(
            target,
            learned_attention(output.attention).float(),
            temperature=config.temperature,
            target_scale=config.target_scale,
        )
    loss = classification + attention_weight * attention
    return {"loss": loss, "classification": classification, "attention": attention}
