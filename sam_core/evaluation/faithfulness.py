"""Whether a map shows what the classifier used: take the strongest cells away, or give only those.

Deletion and insertion (Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
BMVC 2018). The probability of a class is followed while the image's cells are replaced by a baseline, strongest first
(deletion), and while they are put back into the baseline, strongest first (insertion). The area under each curve, over
the fraction of cells, is the measure. A map that shows what the classifier used has a *low* deletion and a *high*
insertion area.

Departures from the paper:

- Whole cells of the map's H x W grid are exchanged, not single pixels of the enlarged map: a 7 x 7 map has 49 values,
  and an order within a cell would be the interpolation's, not the map's.
- Both curves use one baseline, so that the deletion curve begins where the insertion curve ends, and the reverse. (The
  paper deletes to a constant and inserts into a blurred image.)
- The blur is as wide as half a cell. The paper's, an 11-pixel window, would leave visible what a 32-pixel cell shows.

A map that says nothing still has areas that are neither 0 nor 1, so the measure stands beside a control: the same
cells in random orders, `deletion_insertion_control`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sam_core.evaluation.agreement import has_mass, positive_part

Baseline = Literal["blur", "mean"]
ScoreFunction = Callable[[Tensor], Tensor]

#: How many times cells are exchanged; both curves together take two passes of the network for each.
STEPS = 10


@dataclass(frozen=True)
class FaithfulnessCurves:
    """The probability of each image's class while its cells are exchanged, strongest first."""

    fractions: Tensor
    """(T,) the fraction of cells exchanged so far, from 0 to 1."""
    deletion: Tensor
    """(T, B) probabilities: from the whole image to the baseline."""
    insertion: Tensor
    """(T, B) probabilities: from the baseline to the whole image."""


def deletion_insertion(
    score_function: ScoreFunction,
    images: Tensor,
    maps: Tensor,
    labels: Tensor,
    *,
    steps: int | None = STEPS,
    baseline: Baseline = "blur",
    seed: int = 0,
) -> dict[str, Tensor]:
    """The area under each image's deletion and insertion curve, by the trapezoid rule.

    Args:
        score_function: images (B, 3, S, S) -> probabilities (B, N); it should be in evaluation mode, so that each
            image stands alone.
        images: (B, 3, S, S), as the network takes them.
        maps: (B, H, W), raw; only the order of the cells counts.
        labels: (B,) int64: the class whose probability is followed.
        steps: in how many steps cells are exchanged; at most one cell a step, which None also means.
        baseline: what takes the place of a cell: the `blur`red image or its `mean` colour.
        seed: decides the order among equal cells, see `cell_ranks`.

    Returns:
        `deletion` (B,) and `insertion` (B,), from 0 to 1; nan for a map of zeros, which gives no order.
    """
    curves = deletion_insertion_curves(score_function, images, maps, labels, steps=steps, baseline=baseline, seed=seed)
    usable = has_mass(maps)
    areas = {
        "deletion": torch.trapezoid(curves.deletion, curves.fractions, dim=0),  # (T, B) -> (B,)
        "insertion": torch.trapezoid(curves.insertion, curves.fractions, dim=0),
    }
    return {name: torch.where(usable, area, float("nan")) for name, area in areas.items()}


def deletion_insertion_control(
    score_function: ScoreFunction,
    images: Tensor,
    grid: tuple[int, int],
    labels: Tensor,
    *,
    orders: int = 3,
    steps: int | None = STEPS,
    baseline: Baseline = "blur",
    seed: int = 0,
) -> dict[str, Tensor]:
    """What a map that knows nothing gets: the mean over random orders of the cells.

    A uniform map in `deletion_insertion` is one such order, that of its seed; this is the mean over the seeds `seed`,
    `seed + 1`, ... All images of a call share the orders.

    Args:
        score_function: images (B, 3, S, S) -> probabilities (B, N).
        images: (B, 3, S, S), as the network takes them.
        grid: H and W of the maps that the control stands beside.
        labels: (B,) int64.
        orders: over how many random orders to average.
        steps: as for the maps.
        baseline: as for the maps.
        seed: the first order's seed.

    Returns:
        `deletion` (B,) and `insertion` (B,), from 0 to 1.
    """
    uniform = torch.ones(len(images), *grid, device=images.device)
    results = [
        deletion_insertion(score_function, images, uniform, labels, steps=steps, baseline=baseline, seed=seed + order)
        for order in range(orders)
    ]
    return {name: torch.stack([result[name] for result in results]).mean(dim=0) for name in ("deletion", "insertion")}


@torch.no_grad()
def deletion_insertion_curves(
    score_function: ScoreFunction,
    images: Tensor,
    maps: Tensor,
    labels: Tensor,
    *,
    steps: int | None = STEPS,
    baseline: Baseline = "blur",
    seed: int = 0,
) -> FaithfulnessCurves:
    """The two curves themselves; arguments as in `deletion_insertion`."""
    height, width = maps.shape[1:]
    cells = height * width
    steps = cells if steps is None else min(steps, cells)
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, not {steps!r}")
    ranks = _enlarge(cell_ranks(maps, seed=seed), images.shape[2:])  # (B, H, W) -> (B, S, S)
    background = baseline_images(images, baseline, grid=(height, width))

    def probability(candidates: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B,): the probability of each image's label."""
        return score_function(candidates).gather(1, labels[:, None])[:, 0]

    whole, nothing = probability(images), probability(background)
    deletion, insertion = [whole], [nothing]
    exchanged = [(cells * step + steps // 2) // steps for step in range(steps + 1)]  # rounded to whole cells
    for count in exchanged[1:-1]:
        strongest = (ranks < count)[:, None]  # (B, S, S) -> (B, 1, S, S)
        deletion.append(probability(torch.where(strongest, background, images)))
        insertion.append(probability(torch.where(strongest, images, background)))
    deletion.append(nothing)
    insertion.append(whole)
    fractions = torch.tensor([count / cells for count in exchanged], device=images.device, dtype=whole.dtype)
    return FaithfulnessCurves(fractions, torch.stack(deletion), torch.stack(insertion))


def cell_ranks(maps: Tensor, *, seed: int = 0) -> Tensor:
    """The place of each cell in its map's order: 0 for the strongest.

    Equal cells follow in a random order that depends on the seed and the grid alone, not on the batch. In reading order
    a map's zeros would be deleted from the top left, which is no neutral choice: objects are in the middle.

    Args:
        maps: (B, H, W), raw; below zero counts as zero.
        seed: of the order among equal cells.

    Returns:
        (B, H, W) int64, each map a permutation of 0 .. H*W - 1.
    """
    values = positive_part(maps).flatten(1)  # (B, H, W) -> (B, H*W)
    generator = torch.Generator().manual_seed(seed)
    # Drawn on the host, so that it is the same on every device.
    shuffled = torch.randperm(values.shape[1], generator=generator).to(values.device)
    order = shuffled[values[:, shuffled].argsort(dim=1, descending=True, stable=True)]  # (B, H*W): place -> cell
    return order.argsort(dim=1).reshape(maps.shape)  # cell -> place; (B, H*W) -> (B, H, W)


def baseline_images(images: Tensor, baseline: Baseline, *, grid: tuple[int, int]) -> Tensor:
    """What an image looks like when all its cells are taken away.

    Args:
        images: (B, 3, S, S).
        baseline: `mean`, the image's mean colour; `blur`, a Gaussian blur with a standard deviation of half a cell.
        grid: H and W, which set the size of a cell.

    Returns:
        (B, 3, S, S).
    """
    if baseline == "mean":
        return images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    if baseline == "blur":
        rows = _blur_weights(images.shape[2], images.shape[2] / grid[0] / 2, images)
        columns = _blur_weights(images.shape[3], images.shape[3] / grid[1] / 2, images)
        # Under autocast a product of matrices would be rounded to two or three digits.
        with torch.autocast(images.device.type, enabled=False):
            return rows @ images @ columns.T  # (S, S) @ (B, 3, S, S) @ (S, S) -> (B, 3, S, S)
    raise ValueError(f"baseline must be one of blur, mean, not {baseline!r}")


def _blur_weights(size: int, deviation: float, like: Tensor) -> Tensor:
    """(size, size): row i holds the Gaussian weights around pixel i, cut off at the edge and adding up to 1."""
    position = torch.arange(size, device=like.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * ((position[:, None] - position[None, :]) / deviation) ** 2)
    return (weights / weights.sum(dim=1, keepdim=True)).to(like.dtype)


def _enlarge(cells: Tensor, size: torch.Size) -> Tensor:
    """(B, H, W) -> (B, S, S): each pixel takes the value of the cell that its upper left corner is in."""
    rows = torch.arange(size[0], device=cells.device) * cells.shape[1] // size[0]
    columns = torch.arange(size[1], device=cells.device) * cells.shape[2] // size[1]
    return cells[:, rows[:, None], columns[None, :]]
