"""How far two maps of one image say the same: KL divergence, cosine, overlap of their strongest cells.

A raw map and the distribution that the loss sees are two things, so every measure says which one it takes:

| measure | takes | range | blind to a map's scale |
| --- | --- | --- | --- |
| `kl` of `agreement` | two distributions made by one rule, by default `m / sum(m)` | 0 (same) to 8.5 | yes |
| `cosine` | the raw maps | 0 to 1 (same direction) | yes |
| `iou` | the order of the raw maps' cells | 0 to 1 (same cells) | yes |

Maps are (B, H, W). What lies below zero counts as zero: a map says where evidence *for* a class is, and all of ours
end in a ReLU except the feature energy of a backbone whose last activation can be negative. Each image stands alone.
A measure is nan where a map is zero everywhere: such a map points nowhere and agrees with nothing.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

DistributionScale = Literal["sum", "softmax", "max"]

#: The share of a uniform map that `agreement` mixes into both distributions. A map that ends in a ReLU has cells of
#: exactly zero, and one such cell under the other's mass would make their divergence infinite.
UNIFORM_SHARE = 0.01

#: The share of all cells that counts as a map's strongest part.
TOP_SHARE = 0.2


def positive_part(map: Tensor) -> Tensor:
    """The map with everything below zero set to zero, in at least single precision (recorded maps are float16)."""
    return map.to(torch.promote_types(map.dtype, torch.float32)).clamp(min=0)


def has_mass(map: Tensor) -> Tensor:
    """(B, H, W) -> (B,) bool: whether any cell is above zero."""
    return (map > 0).flatten(1).any(dim=1)


def as_distribution(map: Tensor, *, temperature: float | None = None, scale: DistributionScale = "sum") -> Tensor:
    """Turn each map into shares that are positive and add up to 1 over its cells.

    - `sum`: `m / sum(m)`, the map's own shares. The scale on which `agreement` compares any two maps, and the target
      of the attention loss at target scale `sum`. nan for a map of zeros. Takes no temperature.
    - `softmax`: `softmax(m / temperature)`, which feels how large a map's values are. What the attention loss always
      sees of the learned attention, and of its target at target scale `raw`. Uniform for a map of zeros.
    - `max`: `softmax((m / max(m)) / temperature)`: a softmax on one scale for all maps, and the target of the loss at
      target scale `max`. Uniform for a map of zeros.

    Args:
        map: (B, H, W), raw.
        temperature: tau of the softmax; needed by `softmax` and `max`, ignored by `sum`.
        scale: the rule, one of the three above.

    Returns:
        (B, H, W), at least float32.
    """
    values = positive_part(map).flatten(1)  # (B, H, W) -> (B, H*W)
    if scale == "sum":
        shares = values / values.sum(dim=1, keepdim=True)
    elif scale in ("softmax", "max"):
        if temperature is None or temperature <= 0:
            raise ValueError(f"temperature must be above 0 for scale {scale!r}, not {temperature!r}")
        if scale == "max":
            peak = values.amax(dim=1, keepdim=True)
            values = values / torch.where(peak > 0, peak, torch.ones_like(peak))
        shares = (values / temperature).softmax(dim=1)
    else:
        raise ValueError(f"scale must be one of sum, softmax, max, not {scale!r}")
    return shares.reshape(map.shape)  # (B, H*W) -> (B, H, W)


def kl_divergence(target: Tensor, learned: Tensor) -> Tensor:
    """`KL(p || q) = sum_i p_i * log(p_i / q_i)` of two distributions, as the attention loss has it.

    It takes distributions, never raw maps: those of `as_distribution`, both made by the rules that the question needs.
    A cell without mass in `target` adds nothing; mass of `target` where `learned` has none makes it infinite.

    Args:
        target: (B, H, W) p, adding up to 1 per image.
        learned: (B, H, W) q, adding up to 1 per image.

    Returns:
        (B,) nats, 0 for equal distributions; nan where either holds nan.
    """
    # xlogy, because 0 * log 0 is 0 here and not nan.
    terms = torch.xlogy(target, target) - torch.xlogy(target, learned)
    # Rounding can leave equal distributions a hair below zero.
    return terms.flatten(1).sum(dim=1).clamp(min=0)  # (B, H, W) -> (B,)


def mix_with_uniform(distribution: Tensor, share: float = UNIFORM_SHARE) -> Tensor:
    """Replace `share` of each distribution (B, H, W) by a uniform one, so that no cell is left without mass."""
    cells = distribution.shape[1] * distribution.shape[2]
    return (1 - share) * distribution + share / cells


def cosine_similarity(p: Tensor, q: Tensor) -> Tensor:
    """The cosine of the angle between two raw maps, each read as one long vector.

    Args:
        p: (B, H, W), raw.
        q: (B, H, W), raw.

    Returns:
        (B,) from 0 (no cell in common) to 1 (the same up to scale); nan where a map is zero everywhere.
    """
    first, second = _unit_vectors(p), _unit_vectors(q)
    return (first * second).sum(dim=1).clamp(max=1)  # (B, H*W) -> (B,)


def _unit_vectors(map: Tensor) -> Tensor:
    """(B, H, W) -> (B, H*W) of length 1, or nan."""
    values = positive_part(map).flatten(1)
    # The peak first: squares of a Grad-CAM's small values can vanish in single precision.
    values = values / values.amax(dim=1, keepdim=True)
    return values / values.norm(dim=1, keepdim=True)


def top_cell_count(cells: int, share: float = TOP_SHARE) -> int:
    """How many of `cells` cells are the top `share` of them, rounded up: 10 of 49 at 20 %."""
    # The product is rounded first, because 0.07 * 100 is a little more than 7 in floating point.
    return min(cells, math.ceil(round(share * cells, 9)))


def top_cells(map: Tensor, share: float = TOP_SHARE) -> Tensor:
    """Mark the strongest cells of each map: exactly `top_cell_count` of them.

    Equal cells are taken in reading order. A map with fewer cells above zero than that is filled up with its first
    zeros.

    Args:
        map: (B, H, W), raw.
        share: the share of cells to mark, above 0 and at most 1.

    Returns:
        (B, H, W) bool.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, not {share!r}")
    values = positive_part(map).flatten(1)  # (B, H, W) -> (B, H*W)
    order = values.argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(values, dtype=torch.bool)
    chosen.scatter_(1, order[:, : top_cell_count(values.shape[1], share)], True)
    return chosen.reshape(map.shape)  # (B, H*W) -> (B, H, W)


def has_order(map: Tensor) -> Tensor:
    """(B, H, W) -> (B,) bool: whether the map tells some cell from another and every cell is a finite number."""
    values = positive_part(map).flatten(1)
    return (values.amax(dim=1) > values.amin(dim=1)) & values.isfinite().all(dim=1)


def top_share_iou(p: Tensor, q: Tensor, share: float = TOP_SHARE) -> Tensor:
    """Intersection over union of the two maps' strongest cells.

    It takes the raw maps and feels only the order of their cells. Two unrelated maps are expected to have about 0.11
    at a share of 20 %.

    Args:
        p: (B, H, W), raw.
        q: (B, H, W), raw.
        share: the share of cells that counts; `ceil(share * H * W)` cells exactly, equal ones in reading order.

    Returns:
        (B,) from 0 to 1; nan where a map is constant, because its order then is the reading order and nothing else.
    """
    first, second = top_cells(p, share), top_cells(q, share)
    both = (first & second).flatten(1).sum(dim=1)
    either = (first | second).flatten(1).sum(dim=1)
    return torch.where(has_order(p) & has_order(q), both / either, float("nan"))


def agreement(
    p: Tensor, q: Tensor, *, temperature: float | None = None, scale: DistributionScale = "sum"
) -> dict[str, Tensor]:
    """All three measures of two maps: what a run records for (cam, gradcam), (cam, learned) and (gradcam, learned).

    `kl` is `KL(p || q)` of two distributions made by the *same* rule, each with `UNIFORM_SHARE` of a uniform map mixed
    in. It is therefore not the value of the attention loss, which may treat its target and the learned attention
    differently; for that one call `kl_divergence` on the two distributions of the loss. At the default scale, `sum`,
    maps that differ in scale only (CAM and Grad-CAM under `gap`) agree fully; a softmax of the raw maps would mostly
    measure how large their values are.

    Args:
        p: (B, H, W), raw; the target in `kl`.
        q: (B, H, W), raw; the learned one in `kl`.
        temperature: tau for the scales `softmax` and `max` of `kl`; ignored by `sum` and by the other two measures.
        scale: how both maps become distributions for `kl`, see `as_distribution`.

    Returns:
        `kl` (B,) in nats, `cosine` (B,) and `iou` (B,); nan where a map is zero everywhere.
    """
    target = mix_with_uniform(as_distribution(p, temperature=temperature, scale=scale))
    learned = mix_with_uniform(as_distribution(q, temperature=temperature, scale=scale))
    divergence = torch.where(has_mass(p) & has_mass(q), kl_divergence(target, learned), float("nan"))
    return {"kl": divergence, "cosine": cosine_similarity(p, q), "iou": top_share_iou(p, q)}
