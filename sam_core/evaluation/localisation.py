"""Whether a map points at the object: mass inside it, the pointing game, the marked parts; with controls.

Every measure has a control beside it, what a uniform map would get on the same image: an object that fills the view is
easily hit. `coverage`, (B, H, W) from 0 to 1, is the share of each cell of the map's grid that is on the object. It
comes from a mask or a box that is already in the coordinates of the view the network saw. An image without either has
a coverage of nan (a box of nan gives that), and all its measures are nan.

Maps are (B, H, W), raw unless a function says otherwise; below zero counts as zero. Each image stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sam_core.evaluation.agreement import (
    TOP_SHARE,
    DistributionScale,
    as_distribution,
    has_mass,
    has_order,
    positive_part,
    top_cell_count,
    top_cells,
)

#: A cell counts as a hit in the pointing game when at least this share of it is on the object.
HIT_COVERAGE = 0.5


def coverage(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """The share of each cell that is on the object, from a mask of the view.

    Exact at any size: a pixel that straddles two cells is split by area between them. (Adaptive average pooling counts
    such a pixel fully in both.)

    Args:
        mask: (M, h, w) bool, or float from 0 to 1 for soft masks.
        grid: H and W of the map.

    Returns:
        (M, H, W) from 0 to 1, float32 (float64 for a float64 mask).
    """
    height, width = mask.shape[1:]
    values = mask.to(torch.promote_types(mask.dtype, torch.float32))
    rows = _pixel_overlaps(grid[0], height, values)  # (H, h)
    columns = _pixel_overlaps(grid[1], width, values)  # (W, w)
    # Evaluation may run under autocast, in which a product of matrices would be rounded to two or three digits.
    with torch.autocast(values.device.type, enabled=False):
        sums = rows @ values @ columns.T  # (H, h) @ (M, h, w) @ (w, W) -> (M, H, W)
    # Every term above is a whole number when the mask is 0 or 1, so this division is the only rounding.
    return sums / (height * width)


def _pixel_overlaps(cells: int, pixels: int, like: Tensor) -> Tensor:
    """(cells, pixels): the overlap of each cell with each pixel on one axis, in units of 1 / (cells * pixels)."""
    cell_starts = torch.arange(cells, device=like.device)[:, None] * pixels
    pixel_starts = torch.arange(pixels, device=like.device)[None, :] * cells
    ends = torch.minimum(cell_starts + pixels, pixel_starts + cells)
    starts = torch.maximum(cell_starts, pixel_starts)
    return (ends - starts).clamp(min=0).to(like.dtype)


def box_coverage(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """The share of each cell that is inside a box: the overlap on the two axes, multiplied.

    Args:
        boxes: (M, 4) left, top, width, height as fractions of the view, not of the photograph. What lies outside the
            view is cut off. nan for an image without a box.
        grid: H and W of the map.

    Returns:
        (M, H, W) from 0 to 1; nan for a box of nan.
    """
    left, top, width, height = boxes.unbind(dim=1)  # (M, 4) -> 4 times (M,)
    rows = _interval_overlaps(top, height, grid[0])  # (M, H)
    columns = _interval_overlaps(left, width, grid[1])  # (M, W)
    return rows[:, :, None] * columns[:, None, :]  # (M, H, 1), (M, 1, W) -> (M, H, W)


def box_in_view(box: Sequence[float], view: Sequence[float]) -> tuple[float, float, float, float]:
    """A box in the coordinates of the view that the network saw, where `box_coverage` wants it.

    Args:
        box: left, top, width, height as fractions of the photograph.
        view: the same of the view.

    Returns:
        left, top, width, height as fractions of the view; beyond 0..1 where the box reaches out of it.
    """
    left, top, width, height = view
    x, y, w, h = box
    return (x - left) / width, (y - top) / height, w / width, h / height


def _interval_overlaps(starts: Tensor, lengths: Tensor, cells: int) -> Tensor:
    """(M,), (M,) -> (M, cells): the share of each cell on one axis that lies in [start, start + length]."""
    edges = torch.arange(cells, device=starts.device)
    # In units of cells, so that the result needs no division and a box on the grid's lines comes out exact.
    begin = torch.maximum(starts[:, None] * cells, edges)
    end = torch.minimum((starts + lengths)[:, None] * cells, edges + 1)
    return (end - begin).clamp(min=0)


def share_inside(map: Tensor, coverage: Tensor) -> Tensor:
    """The share of the map's mass that is on the object: `sum(m * coverage) / sum(m)`.

    It takes the raw map, and a raw map is one side of the story: see `share_inside_distribution`. Its control is
    `uniform_share`.

    Args:
        map: (B, H, W), raw.
        coverage: (B, H, W).

    Returns:
        (B,) from 0 to 1, whatever the map's scale; nan for a map of zeros.
    """
    shares = as_distribution(map, scale="sum")
    return (shares * coverage).flatten(1).sum(dim=1)  # (B, H, W) -> (B,)


def share_inside_distribution(
    map: Tensor, coverage: Tensor, temperature: float, *, scale: DistributionScale = "softmax"
) -> Tensor:
    """The share on the object of the distribution that the attention loss sees.

    At the default scale that is `softmax(m / temperature)`, which feels how large the map's values are: a small map,
    such as a Grad-CAM, comes out close to `uniform_share` wherever it points. Scale `max` puts all maps on one scale
    before the softmax; `sum` is `share_inside`.

    Args:
        map: (B, H, W), raw.
        coverage: (B, H, W).
        temperature: tau of the softmax, as in the loss.
        scale: how the map becomes a distribution, see `as_distribution`.

    Returns:
        (B,) from 0 to 1; nan for a map of zeros.
    """
    shares = as_distribution(map, temperature=temperature, scale=scale)
    inside = (shares * coverage).flatten(1).sum(dim=1)  # (B, H, W) -> (B,)
    return torch.where(has_mass(map), inside, float("nan"))


def uniform_share(coverage: Tensor) -> Tensor:
    """(B, H, W) -> (B,): the share inside that a uniform map gets, raw or as a distribution: the object's area."""
    return coverage.flatten(1).mean(dim=1)


def pointing_hit(map: Tensor, coverage: Tensor) -> Tensor:
    """Whether the map's strongest cell is on the object (the pointing game, Zhang et al., ECCV 2016).

    A cell is on the object when at least half of it is (`HIT_COVERAGE`). The paper asks whether the strongest *pixel*
    of the enlarged map is within 15 pixels of the object; a cell of a 7 x 7 map has 32 pixels, so we ask it of the
    cell and allow no margin. An object smaller than half a cell may have no cell to hit: then the control is 0 too.

    Where several cells share the peak, the result is the share of them that hit, so that a uniform map gets exactly
    its control, `uniform_pointing`. Raw map or softmax of it make no difference: the order is the same.

    Args:
        map: (B, H, W), raw.
        coverage: (B, H, W).

    Returns:
        (B,) 0 or 1, between them only for a shared peak; nan for a map of zeros.
    """
    values = positive_part(map).flatten(1)  # (B, H, W) -> (B, H*W)
    at_peak = values == values.amax(dim=1, keepdim=True)
    hits = (at_peak & _hit_cells(coverage)).sum(dim=1) / at_peak.sum(dim=1)
    return torch.where(has_mass(map) & ~_is_unknown(coverage), hits, float("nan"))


def uniform_pointing(coverage: Tensor) -> Tensor:
    """(B, H, W) -> (B,): the chance that a cell picked at random is on the object, as `pointing_hit` counts it."""
    share = _hit_cells(coverage).float().mean(dim=1)
    return torch.where(_is_unknown(coverage), float("nan"), share)


def _hit_cells(coverage: Tensor) -> Tensor:
    """(B, H, W) -> (B, H*W) bool: which cells count as being on the object."""
    # The margin takes in a box whose edge halves a cell and was rounded on its way here.
    return coverage.flatten(1) >= HIT_COVERAGE - 1e-6


def _is_unknown(coverage: Tensor) -> Tensor:
    """(B, H, W) -> (B,) bool: whether nothing is known about where the object is."""
    return coverage.isnan().flatten(1).any(dim=1)


def part_hits(map: Tensor, part_points: Tensor, *, share: float = TOP_SHARE) -> Tensor:
    """The share of an object's visible parts that lie in the map's strongest cells.

    It takes the raw map and feels only the order of its cells. Its control is `uniform_part_hits`.

    Args:
        map: (B, H, W), raw.
        part_points: (B, P, 2) x and y of each part as fractions of the view. A part that is nan (not marked, or
            padding where images have different numbers of parts) or outside the view is not visible and not counted.
        share: the share of cells that counts as strongest, see `top_cells`.

    Returns:
        (B,) from 0 to 1; nan where no part is visible or the map is constant.
    """
    height, width = map.shape[1:]
    visible = _visible(part_points)
    x, y = part_points.nan_to_num(0).clamp(0, 1).unbind(dim=2)  # (B, P, 2) -> (B, P), (B, P)
    # A point on the right or bottom edge belongs to the last cell.
    column = (x * width).long().clamp(max=width - 1)
    row = (y * height).long().clamp(max=height - 1)
    hit = top_cells(map, share).flatten(1).gather(1, row * width + column)  # (B, H*W), (B, P) -> (B, P)
    hits = (hit & visible).sum(dim=1) / visible.sum(dim=1)  # 0 / 0 is nan: no part is visible
    return torch.where(has_order(map), hits, float("nan"))


def _visible(part_points: Tensor) -> Tensor:
    """(B, P, 2) -> (B, P) bool: which parts are marked and inside the view; nan compares false."""
    return ((part_points >= 0) & (part_points <= 1)).all(dim=2)


def uniform_part_hits(grid: tuple[int, int], *, share: float = TOP_SHARE) -> float:
    """The `part_hits` to expect of a map that orders the H x W cells of `grid` at random."""
    cells = grid[0] * grid[1]
    return top_cell_count(cells, share) / cells


def points_in_view(points: Tensor, view: Sequence[float]) -> Tensor:
    """Points in the coordinates of the view that the network saw, where `part_hits` wants them.

    Args:
        points: (..., 2) x and y as fractions of the photograph.
        view: left, top, width, height of the view, as fractions of the photograph.

    Returns:
        (..., 2) as fractions of the view; beyond 0..1 for a point outside it.
    """
    left, top, width, height = view
    return (points - points.new_tensor([left, top])) / points.new_tensor([width, height])


def localisation(
    map: Tensor,
    coverage: Tensor,
    temperature: float,
    *,
    parts: Tensor | None = None,
    scale: DistributionScale = "softmax",
) -> dict[str, Tensor]:
    """The measures of every image; `uniform_localisation` is what to hold them against.

    Args:
        map: (B, H, W), raw.
        coverage: (B, H, W), from `coverage` or `box_coverage`.
        temperature: tau of the attention loss, for `inside_distribution`.
        parts: (B, P, 2) as `part_hits` takes them, where parts are marked.
        scale: how the map becomes a distribution for `inside_distribution`, see `share_inside_distribution`.

    Returns:
        `inside` (B,) of the raw map, `inside_distribution` (B,), `pointing` (B,), and with `parts` also `parts` (B,);
        nan for a map of zeros, and where the truth is not known.
    """
    measures = {
        "inside": share_inside(map, coverage),
        "inside_distribution": share_inside_distribution(map, coverage, temperature, scale=scale),
        "pointing": pointing_hit(map, coverage),
    }
    return measures if parts is None else {**measures, "parts": part_hits(map, parts)}


def uniform_localisation(coverage: Tensor, *, parts: Tensor | None = None) -> dict[str, Tensor]:
    """The control: what a uniform map gets on the same images.

    Args:
        coverage: (B, H, W), as for `localisation`.
        parts: (B, P, 2), as for `localisation`.

    Returns:
        `inside` (B,), of the raw map and as a distribution alike, `pointing` (B,), and with `parts` also `parts` (B,);
        nan where the truth is not known.
    """
    measures = {"inside": uniform_share(coverage), "pointing": uniform_pointing(coverage)}
    if parts is None:
        return measures
    expected = torch.full_like(measures["inside"], uniform_part_hits((coverage.shape[1], coverage.shape[2])))
    return {**measures, "parts": torch.where(_visible(parts).any(dim=1), expected, float("nan"))}
