"""The network: a backbone, the attention head beside it, and the classifier's head on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .attention_head import AttentionHead
from .backbones import build_backbone, feature_channels, load_pretrained
from .head import ClassifierHead
from .pooling import POOLINGS

#: Names of the optimiser's parameter groups, in order.
PARAMETER_GROUPS = ("backbone", "classifier", "attention")


class SAMOutput(NamedTuple):
    """What one forward pass gives: everything that the losses, the pseudo-attention and the recording need."""

    scores: Tensor
    """(B, N), before softmax."""
    features: Tensor
    """phi, (B, C, H, W), float32."""
    attention: Tensor | None
    """A, (B, K, H, W), float32; `None` without an attention head."""


class SAMNet(nn.Module):
    """A network that classifies and, with an attention head, learns where to look.

    Args:
        backbone: a network with `forward_features`: images (B, 3, S, S) -> features (B, C, H, W).
        classes: N, how many classes there are.
        pooling: a name in `POOLINGS`.
        attention_maps: K; `None` or 0 for a network without an attention head (method `finetune`).

    Attributes:
        weights_origin: in words, where the backbone's weights came from.
    """

    weights_origin = "not said"

    def __init__(self, backbone: nn.Module, classes: int, *, pooling: str, attention_maps: int | None) -> None:
        super().__init__()
        channels = feature_channels(backbone)
        maps = attention_maps or 0
        self.backbone = backbone
        self.attention_head = AttentionHead(channels, maps) if maps else None
        self.head = ClassifierHead(pooling, channels=channels, maps=maps, classes=classes)

    def forward(self, images: Tensor) -> SAMOutput:
        """(B, 3, S, S) -> scores (B, N), features (B, C, H, W), attention (B, K, H, W)."""
        features = self.backbone.forward_features(images)
        # Both heads work in float32 under autocast too. They are a thousandth of the arithmetic, and the eight bits of
        # bfloat16 would show: a step of 0.03 in an attention of 5 moves its softmax at temperature 0.4 by 8 %.
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            attention = None if self.attention_head is None else self.attention_head(features)
            scores = self.head(features, attention)
        return SAMOutput(scores, features, attention)

    def compile_backbone(self, mode: str) -> None:
        """Have the backbone compiled when it is first used, in a mode of `torch.compile`; its weights keep their names.

        The heads stay as they are: a thousandth of the work, and what they compute is looked at from outside.
        """
        self.backbone.forward_features = torch.compile(self.backbone.forward_features, mode=mode)

    def parameter_groups(self, lr: float, head_lr: float, attention_lr: float) -> list[dict[str, Any]]:
        """The optimiser's groups `backbone`, `classifier` and, where there is a head, `attention`, with their rates."""
        parts = zip(
            PARAMETER_GROUPS,
            (self.backbone, self.head, self.attention_head),
            (lr, head_lr, attention_lr),
            strict=True,
        )
        return [
            {"params": [weight for weight in part.parameters() if weight.requires_grad], "lr": rate, "name": name}
            for name, part, rate in parts
            if part is not None
        ]


def build_model(
    *,
    backbone: str,
    classes: int,
    method: str,
    pooling: str,
    attention_maps: int,
    weights: str = "none",
    pretrained_dir: Path | None = None,
) -> SAMNet:
    """The network of a run.

    `finetune` has no attention head, unless its pooling needs one.

    Args:
        backbone: a timm name.
        classes: N.
        method: `finetune`, `sam` or `sam-bilinear`.
        pooling: a name in `POOLINGS`.
        attention_maps: K.
        weights: `imagenet`, `none` or the path of a weights file, see `load_pretrained`.
        pretrained_dir: where weights files are kept, by default `checkpoints/pretrained`.
    """
    network = build_backbone(backbone)
    origin = load_pretrained(network, backbone, pretrained_dir, weights)
    has_head = method != "finetune" or (pooling in POOLINGS and POOLINGS[pooling].needs_attention)
    model = SAMNet(network, classes, pooling=pooling, attention_maps=attention_maps if has_head else None)
    model.weights_origin = origin
    return model
