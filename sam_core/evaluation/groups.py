"""What is recorded of a run's images, and what is known about where the object is in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sam_core.augment import view_box
from sam_core.datasets.base import Sample
from sam_core.datasets.run_data import RunData
from sam_core.evaluation.evaluator import EvaluationGroup
from sam_core.evaluation.localisation import box_coverage, coverage

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
        known = object_coverage(samples, side=data.store.side, image_size=image_size, grid=grid)
        groups[name] = EvaluationGroup(np.array(positions), np.array(rows), known)
    return groups


def object_coverage(samples: Sequence[Sample], *, side: int, image_size: int, grid: tuple[int, int]) -> Tensor | None:
    """Share of each cell of the centre view's map that lies on the object: (M, H, W), from the mask, else the box.

    nan where neither is known; None if it is known of no sample.
    """
    if not any(sample.mask_path or sample.box for sample in samples):
        return None
    margin = (side - image_size) // 2
    left, top, width, height = view_box(side, image_size)
    result = torch.full((len(samples), *grid), float("nan"))
    for row, sample in enumerate(samples):
        if sample.mask_path is not None:
            with Image.open(sample.mask_path) as file:
                mask = file.resize((side, side), Image.Resampling.NEAREST) if file.size != (side, side) else file
                inside = torch.from_numpy(np.asarray(mask) > 0)
            view = inside[margin : margin + image_size, margin : margin + image_size]
            result[row] = coverage(view[None], grid)[0]
        elif sample.box is not None:
            x, y, w, h = sample.box
            box = torch.tensor([[(x - left) / width, (y - top) / height, w / width, h / height]])
            result[row] = box_coverage(box, grid)[0]
    return result
