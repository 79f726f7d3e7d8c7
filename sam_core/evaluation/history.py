"""The measures of one image over all its recorded epochs, from its timeline: what an evaluation pass says of many
images at one epoch, said of one image at every epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sam_core.config import RunConfig
from sam_core.evaluation.agreement import agreement
from sam_core.evaluation.evaluator import LOCALISED, PAIRS
from sam_core.evaluation.localisation import (
    box_coverage,
    box_in_view,
    coverage,
    localisation,
    points_in_view,
    uniform_localisation,
)
from sam_core.losses import attention_distribution, attention_target
from sam_core.recording.reader import Run
from sam_core.recording.views import recorded_view

#: What `Run.timeline` holds beside the maps.
NOT_MAPS = ("epochs", "predicted", "confidence")
#: The decimal places of a measure, as in metrics.jsonl.
DECIMALS = 5
#: A box or a part that lies further away than this many photographs is none.
LARGEST_FRACTION = 1000
#: More marked parts than this are not those of one object.
MOST_PARTS = 200


def loss_distributions(timeline: Mapping[str, Any], config: RunConfig) -> dict[str, np.ndarray | None]:
    """Every map as the attention loss compares it: as shares of the whole that are never negative.

    The learned attention goes through the softmax at the run's temperature, a pseudo-attention becomes a target at the
    run's target scale, whether the loss of this run has used it or not. The feature energy is no part of the loss: it
    is divided by its sum. A map that is zero everywhere is uniform.

    Args:
        timeline: from `Run.timeline`: kinds of map, each (E, H, W) or None, and more.
        config: the run's configuration, for the temperature and the target scale.

    Returns:
        By kind (E, H, W) float32, each epoch adding up to 1, or None where the run has no such map.
    """
    return {
        kind: None if values is None else _loss_distribution(kind, torch.from_numpy(values), config).numpy()
        for kind, values in timeline.items()
        if kind not in NOT_MAPS
    }


def _loss_distribution(kind: str, maps: Tensor, config: RunConfig) -> Tensor:
    """(E, H, W) -> (E, H, W)."""
    if kind == "learned":
        return attention_distribution(maps, config.temperature)
    if kind == "energy":  # the mean of features that can be negative
        return attention_target(maps.clamp(min=0), temperature=config.temperature, target_scale="sum")
    return attention_target(maps, temperature=config.temperature, target_scale=config.target_scale)


def sample_coverage(run: Run, row: int, mask: Image.Image | None) -> Tensor | None:
    """The share of each cell of a sample's maps that is on the object.

    Args:
        run: the run.
        row: the sample's place in samples.json.
        mask: the object's mask in the view, not 0 on the object (`view_mask`); left out, the sample's box is taken.

    Returns:
        (H, W) from 0 to 1, or None where neither a mask nor a usable box is known.
    """
    grid = tuple(run.attention_meta["grid"])
    if mask is not None:
        on_object = torch.from_numpy(np.array(mask) > 0)  # (height, width)
        return coverage(on_object[None], grid)[0]
    box = sample_box(run, row)
    return None if box is None else box_coverage(torch.tensor([box]), grid)[0]


def sample_box(run: Run, row: int) -> tuple[float, float, float, float] | None:
    """The box of a sample's object in the view: left, top, width, height as fractions; None where none is known."""
    box = run.samples[row].get("box")
    return box_in_view(box, recorded_view(run)) if _is_box(box) else None


def sample_parts(run: Run, row: int) -> list[tuple[str, float, float]]:
    """The marked parts of a sample's object that lie in the view: name, and x and y as fractions of the view."""
    parts = run.samples[row].get("parts")
    known = [part for part in parts if _is_part(part)][:MOST_PARTS] if isinstance(parts, list) else []
    if not known:
        return []
    points = points_in_view(torch.tensor([part[1:] for part in known], dtype=torch.float64), recorded_view(run))
    placed = zip(known, points.tolist(), strict=True)  # (P, 2)
    return [(str(part[0]), x, y) for part, (x, y) in placed if 0 <= x <= 1 and 0 <= y <= 1]


def _is_box(box: Any) -> bool:
    """Whether this is left, top, width and height: a run of unknown origin may say anything."""
    return isinstance(box, Sequence) and len(box) == 4 and all(_is_position(value) for value in box)


def _is_part(part: Any) -> bool:
    """Whether this is a name, x and y."""
    return isinstance(part, list) and len(part) == 3 and all(_is_position(value) for value in part[1:])


def _is_position(value: Any) -> bool:
    # nan compares false, and so is refused.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_FRACTION


def measures_over_epochs(
    timeline: Mapping[str, Any],
    coverage: Tensor | None,
    *,
    temperature: float,
    parts: Sequence[tuple[str, float, float]] = (),
) -> dict[str, dict[str, Any] | None]:
    """Agreement and localisation of one image's maps at every recorded epoch.

    The measures are those of an evaluation pass, under the same names: their means over the images of a group are that
    group's `attention` in metrics.jsonl, but for the rounding of recorded maps to half precision.

    Args:
        timeline: from `Run.timeline`: kinds of map, each (E, H, W) or None.
        coverage: (H, W) share of each cell that is on the object, from `sample_coverage`.
        temperature: tau of the run's attention loss.
        parts: the object's parts in the view, from `sample_parts`.

    Returns:
        `agreement`: by pair (`cam-learned`) and measure (`kl`, `cosine`, `iou`) a list of E numbers.
        `localisation`: by kind and measure (`inside`, `inside_distribution`, `pointing`, and with parts `parts`) a
        list of E numbers, and for `uniform`, the control, one number each; None without `coverage`.
        None stands for a measure that a map does not have, such as the direction of a map of zeros; a pair or kind
        that the run does not record is left out.
    """
    # Every map of a pair is one of these.
    maps = {kind: torch.from_numpy(timeline[kind]) for kind in LOCALISED if timeline.get(kind) is not None}
    agreements = {
        f"{first}-{second}": _lists(agreement(maps[first], maps[second], temperature=temperature))
        for first, second in PAIRS
        if first in maps and second in maps
    }
    if coverage is None:
        return {"agreement": agreements, "localisation": None}
    points = torch.tensor([part[1:] for part in parts]) if parts else None  # (P, 2)
    located: dict[str, Any] = {
        # The object does not move: (H, W) -> (E, H, W) and (P, 2) -> (E, P, 2)
        kind: _lists(
            localisation(
                values, coverage.expand_as(values), temperature,
                parts=None if points is None else points.expand(len(values), -1, -1),
            )
        )
        for kind, values in maps.items()
    }  # fmt: skip
    control = _lists(uniform_localisation(coverage[None], parts=None if points is None else points[None]))
    located["uniform"] = {name: values[0] for name, values in control.items()}
    return {"agreement": agreements, "localisation": located}


def _lists(measures: Mapping[str, Tensor]) -> dict[str, list[float | None]]:
    """Each measure (E,) as numbers for JSON, nan as None."""
    return {
        name: [None if math.isnan(value) else round(value, DECIMALS) for value in values.tolist()]
        for name, values in measures.items()
    }
