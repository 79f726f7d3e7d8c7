r"""The attention loss: how far the learned attention is from the pseudo-attention, as distributions over positions.

$\mathrm{KL}(t \,\|\, q) = \sum_{hw} t \log(t / q)$, with $q = \mathrm{softmax}(a / \tau)$ of the learned attention
$a$ and the target $t$ made of the pseudo-attention $m$.

Source: Shu et al., Self-Boosting Attention Mechanism, ECCV 2022. The released code sums over the batch; here it is the
mean, so that the weight of this loss means the same for every batch size.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: How the pseudo-attention becomes a target: `raw` is the released form, see `attention_target`.
TARGET_SCALES = ("raw", "sum", "max")


def attention_target(pseudo_attention: Tensor, *, temperature: float, target_scale: str) -> Tensor:
    r"""The distribution that the learned attention is asked to fit; it takes no gradient.

    - `raw`: $t = \mathrm{softmax}(m / \tau)$, as released; what tau means depends on the size of the map's values.
    - `sum`: $t = m / \sum m$: the map itself, without a temperature.
    - `max`: $t = \mathrm{softmax}((m / \max m) / \tau)$: the map's shape at a size that tau can be chosen for.

    A map that is zero everywhere has no shape: its target is uniform (and `attention_loss` leaves the image out).

    Args:
        pseudo_attention: m, (B, H, W), not negative.
        temperature: tau.
        target_scale: one of `TARGET_SCALES`.

    Returns:
        t, (B, H, W), float32, each image's sum is 1.
    """
    flat = pseudo_attention.detach().float().flatten(1)  # (B, H, W) -> (B, H*W)
    if target_scale == "raw":
        target = (flat / temperature).softmax(dim=1)
    elif target_scale == "max":
        largest = flat.amax(dim=1, keepdim=True)
        target = (flat / torch.where(largest == 0, torch.ones_like(largest), largest) / temperature).softmax(dim=1)
    elif target_scale == "sum":
        empty = _is_empty(flat)[:, None]
        # Divided by the maximum first: the sum of very small or very large values neither vanishes nor overflows.
        largest = flat.amax(dim=1, keepdim=True)
        shape = torch.where(empty, torch.ones_like(flat), flat / torch.where(empty, torch.ones_like(largest), largest))
        target = shape / shape.sum(dim=1, keepdim=True)
    else:
        raise ValueError(f"target_scale: there is no {target_scale!r}; use one of {', '.join(TARGET_SCALES)}")
    return target.view(pseudo_attention.shape)  # (B, H*W) -> (B, H, W)


def attention_distribution(learned_attention: Tensor, temperature: float) -> Tensor:
    r"""$q = \mathrm{softmax}(a / \tau)$ over the positions of each image: (B, H, W) -> (B, H, W), float32."""
    flat = learned_attention.float().flatten(1)  # (B, H, W) -> (B, H*W)
    return (flat / temperature).softmax(dim=1).view(learned_attention.shape)


def attention_loss(
    pseudo_attention: Tensor, learned_attention: Tensor, *, temperature: float, target_scale: str
) -> Tensor:
    r"""$\frac{1}{B} \sum_b \mathrm{KL}(t_b \,\|\, \mathrm{softmax}(a_b / \tau))$, KL summed over positions.

    The gradient reaches the network through `learned_attention` only. An image whose pseudo-attention is zero
    everywhere contributes nothing, and still counts in the mean: the other images' share must not depend on it.
    A map that is not finite is not hidden: the loss is then not finite either.

    Args:
        pseudo_attention: m, (B, H, W), not negative.
        learned_attention: a, (B, H, W).
        temperature: tau.
        target_scale: one of `TARGET_SCALES`.

    Returns:
        A scalar, float32, never negative beyond rounding.
    """
    target = attention_target(pseudo_attention, temperature=temperature, target_scale=target_scale).flatten(1)
    logarithm = (learned_attention.float().flatten(1) / temperature).log_softmax(dim=1)  # (B, H*W)
    # xlogy is exactly 0 where the target is 0; 0 * log(0) is not a number.
    divergence = (torch.xlogy(target, target) - target * logarithm).sum(dim=1)  # (B,)
    empty = _is_empty(pseudo_attention.detach().flatten(1))
    return divergence.masked_fill(empty, 0.0).mean()


def _is_empty(flat: Tensor) -> Tensor:
    """Which of the maps (B, H*W) are zero everywhere, (B,)."""
    return (flat == 0).all(dim=1)
