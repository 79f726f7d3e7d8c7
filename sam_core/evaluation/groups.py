"""What is recorded of a run's images, and what is known about where the object is in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam_core.augment import view_box
from sam_core.datasets.base import Sample
from sam_core.datasets.run_data import RunData
from sam_core.evaluation.evaluator import EvaluationGroup
from sam_core.evaluation.localisation import box_coverage, box_in_view, coverage, points_in_view

#: Every image of these groups is recorded unless `--record` says otherwise.
RECORDED_GROUPS = ("labelled", "test", "swapped")


def choose_recorded(data: RunData, limit: int | None) -> list[tuple[str, int]]:
    """The recorded images as (group, position in the store), in the order of samples.json.

    With a limit, images are taken in turn from every class of every group, so that each is represented.
    """
    everything = [(group, position) for group in RECORDED_GROUPS for position in data.groups.get(group, ())]
    if limit is None or limit >= len(everything):
        return everything
    strata: dict[tuple[str, int], list[tuple[str, int]]] = defaultdict(list)
    for group, position in everything:
        strata[group, data.store.samples[position].label].append((group, position))
    # By rank within the stratum: the first of each, then the second of each, and so on.
    ranked = sorted((rank, place) for stratum in strata.values() for rank, place in enumerate(stratum))
    chosen = {place for _, place in ranked[:limit]}
    return [place for place in everything if place in chosen]


def describe_samples(data: RunData, recorded: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """samples.json: one object per recorded image."""
    described = []
    for group, position in recorded:
        sample = data.store.samples[position]
        described.append(
            {
                "id": sample.id,
                "path": str(sample.path),
                "split": sample.split,
                "label": sample.label,
                "labelled": group == "labelled",
                "box": list(sample.box) if sample.box else None,
                "parts": [[part.name, part.x, part.y] for part in sample.parts],
                "mask": str(sample.mask_path) if sample.mask_path else None,
                "mask_on": list(sample.mask_on),
            }
        )
    return described


def build_groups(
    data: RunData, recorded: Sequence[tuple[str, int]], *, image_size: int, grid: tuple[int, int]
) -> dict[str, EvaluationGroup]:
    """The groups to evaluate. Labelled images that are not recorded need no evaluation and are left out."""
    row_of = {position: row for row, (_, position) in enumerate(recorded)}
    groups = {}
    for name, members in data.groups.items():
        positions = [position for position in members if name != "labelled" or position in row_of]
        if not positions:
            continue
        rows = [row_of.get(position, -1) for position in positions]
        samples = [data.store.samples[position] for position in positions]
        masks = data.masks(positions)
        known = object_coverage(samples, masks, side=data.store.side, image_size=image_size, grid=grid)
        parts = object_parts(samples, side=data.store.side, image_size=image_size)
        if known is None and parts is not None:
            known = torch.full((len(samples), *grid), float("nan"))
        groups[name] = EvaluationGroup(np.array(positions), np.array(rows), known, parts, tuple(masks.problems))
    return groups


def object_coverage(
    samples: Sequence[Sample], masks: Sequence[Tensor | None], *, side: int, image_size: int, grid: tuple[int, int]
) -> Tensor | None:
    """Share of each cell of the centre view's map that lies on the object: (M, H, W), from the mask, else the box.

    Args:
        samples: M samples.
        masks: the mask of each where it is known: bool (side, side), of the whole image.
        side: side of the stored images in pixels.
        image_size: side of the view in pixels.
        grid: H and W of the maps.

    Returns:
        (M, H, W), nan where neither is known; None if it is known of no sample.
    """
    margin = (side - image_size) // 2
    seen = view_box(side, image_size)
    result = torch.full((len(samples), *grid), float("nan"))
    for row, sample in enumerate(samples):
        mask = masks[row]
        if mask is not None:
            view = mask[margin : margin + image_size, margin : margin + image_size]
            result[row] = coverage(view[None], grid)[0]
        elif sample.box is not None:
            box = torch.tensor([box_in_view(sample.box, seen)])  # (1, 4)
            result[row] = box_coverage(box, grid)[0]
    return None if result.isnan().all() else result


def object_parts(samples: Sequence[Sample], *, side: int, image_size: int) -> Tensor | None:
    """The marked parts in the centre view: (M, P, 2) x and y as fractions of it, P the most that a sample has.

    nan where a sample has fewer; None if no sample has any.
    """
    most = max((len(sample.parts) for sample in samples), default=0)
    if most == 0:
        return None
    result = torch.full((len(samples), most, 2), float("nan"))
    for row, sample in enumerate(samples):
        if sample.parts:
            result[row, : len(sample.parts)] = torch.tensor([[part.x, part.y] for part in sample.parts])
    return points_in_view(result, view_box(side, image_size))
