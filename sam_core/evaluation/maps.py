"""The maps that are recorded for every image: where CAM points, where Grad-CAM points, what the network has learned."""

from __future__ import annotations

from torch import Tensor

from sam_core.config import RunConfig
from sam_core.models.attention_head import learned_attention
from sam_core.models.sam_net import SAMNet, SAMOutput
from sam_core.pseudo_attention import pseudo_attention
from sam_core.recording.layout import MAP_KINDS


def kinds_of(config: RunConfig) -> tuple[str, ...]:
    """The maps that a run can record: without an attention head there is no `learned`, under compact pooling no CAM.

    A run trained on another pseudo-attention than CAM or Grad-CAM records that one too, under its own name.
    """
    kinds = [kind for kind in MAP_KINDS if config.has_attention or kind != "learned"]
    if config.pooling == "compact":
        kinds = [kind for kind in kinds if not kind.startswith("cam")]
    if config.pseudo and config.pseudo not in kinds:
        kinds.append(config.pseudo)
    return tuple(kinds)


def recorded_maps(
    model: SAMNet, output: SAMOutput, labels: Tensor, predicted: Tensor, kinds: tuple[str, ...]
) -> dict[str, Tensor]:
    """Every map of `kinds` for one batch: name -> (B, H, W), raw, float32, from the features of the pass just made."""
    maps = {}
    for kind in kinds:
        if kind == "learned":
            maps[kind] = learned_attention(output.attention).detach().float()
        elif kind == "energy":
            maps[kind] = output.features.detach().float().mean(dim=1)  # (B, C, H, W) -> (B, H, W)
        else:
            name, classes = (kind.removesuffix("_predicted"), predicted) if "_predicted" in kind else (kind, labels)
            maps[kind] = pseudo_attention(name, output.features, output.attention, model.head, classes)
    return maps
