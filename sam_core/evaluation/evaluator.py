"""One evaluation pass over a group of images: accuracy, and from the same features every map and its measures.

Training after each epoch, the command line and the explorer all use this one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sam_core.augment import centre_views, normalise, ten_crop_views
from sam_core.config import RunConfig
from sam_core.datasets.store import ImageStore
from sam_core.device import Machine
from sam_core.evaluation.accuracy import AccuracyMeter
from sam_core.evaluation.agreement import agreement
from sam_core.evaluation.localisation import localisation, uniform_pointing, uniform_share
from sam_core.evaluation.maps import recorded_maps
from sam_core.models.sam_net import SAMNet, SAMOutput

#: The pairs of maps whose agreement is measured at every recording point.
PAIRS = (("cam", "gradcam"), ("cam", "learned"), ("gradcam", "learned"))
#: The maps whose localisation is measured at every recording point, beside a uniform map.
LOCALISED = ("cam", "gradcam", "learned", "energy")

RecordBatch = Callable[[np.ndarray, dict[str, Tensor], Tensor, Tensor], None]


@dataclass(frozen=True)
class EvaluationGroup:
    """Images that are evaluated together, and what is known of them.

    Attributes:
        positions: (M,) places in the image store.
        rows: (M,) places in samples.json, -1 for an image that is not recorded.
        coverage: (M, H, W) share of each cell of the map that lies on the object, nan where that is unknown; or None.
    """

    positions: np.ndarray
    rows: np.ndarray
    coverage: Tensor | None = None


@dataclass
class GroupResult:
    """What one pass over a group found."""

    accuracy: dict[str, float]
    attention: dict[str, Any]
    scores: Tensor | None = None
    labels: Tensor | None = None


class NanMean:
    """Means over images of named measures; nan stands for `not defined for this image`.

    What a batch adds stays on the device until the means are asked for, so that a GPU is not waited for once per
    measure and batch.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], list[Tensor]] = {}

    def add(self, path: tuple[str, ...], values: Tensor) -> None:
        """Add one batch of a measure: (B,)."""
        known = ~values.isnan()
        self._sums.setdefault(path, []).append(torch.stack([values.nan_to_num().sum(), known.sum()]))

    def nested(self) -> dict[str, Any]:
        """The means as nested dictionaries; None where no image has the measure."""
        result: dict[str, Any] = {}
        for path, sums in self._sums.items():
            total, count = torch.stack(sums).cpu().double().sum(dim=0).tolist()  # (batches, 2) -> (2,)
            place = result
            for name in path[:-1]:
                place = place.setdefault(name, {})
            place[path[-1]] = round(total / count, 5) if count else None
        return result


@torch.no_grad()
def evaluate_group(
    model: SAMNet,
    store: ImageStore,
    group: EvaluationGroup,
    config: RunConfig,
    machine: Machine,
    *,
    normalisation: tuple[Sequence[float], Sequence[float]],
    kinds: tuple[str, ...],
    record: RecordBatch | None = None,
    keep_scores: bool = False,
    progress: Callable[[int], None] | None = None,
) -> GroupResult:
    """Evaluate one group in evaluation mode; the model's mode is given back as it was.

    Args:
        model: the network.
        store: the decoded images.
        group: which of them.
        config: crops, image size, batch size, temperature.
        machine: device and precision.
        normalisation: mean and standard deviation of the backbone's input.
        kinds: the maps to make; none are made for images that are not recorded.
        record: takes rows, maps, predicted classes and confidences of each batch.
        keep_scores: also return all scores and labels.
        progress: called with the number of images of each finished batch.
    """
    meter, measures = AccuracyMeter(machine.device), NanMean()
    kept_scores, kept_labels = [], []
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(group.positions), config.batch_size):
            chosen = slice(start, start + config.batch_size)
            positions = torch.from_numpy(group.positions[chosen])
            labels = store.labels[positions].to(machine.device)
            images = store.take(positions).to(machine.device)
            output, scores = _scores(model, images, config, machine, normalisation)
            meter.update(scores, labels)
            if keep_scores:
                kept_scores.append(scores.cpu())
                kept_labels.append(labels.cpu())
            rows = group.rows[chosen]
            if kinds and (rows >= 0).any():
                _measure_maps(model, output, labels, rows, group, chosen, config, kinds, measures, record)
            if progress:
                progress(len(positions))
    finally:
        model.train(was_training)
    return GroupResult(
        meter.result(),
        measures.nested(),
        torch.cat(kept_scores) if keep_scores else None,
        torch.cat(kept_labels) if keep_scores else None,
    )


def _scores(
    model: SAMNet,
    images: Tensor,
    config: RunConfig,
    machine: Machine,
    normalisation: tuple[Sequence[float], Sequence[float]],
) -> tuple[SAMOutput, Tensor]:
    """The output for the centre view, and the scores (B, N): of that view, or the mean over ten crops.

    The released code sums them; the mean ranks alike and keeps the loss on one view's scale.
    """
    with machine.autocast():
        if config.test_crops == 1:
            output = model(normalise(centre_views(images, config.image_size), *normalisation))
            return output, output.scores.float()
        crops = ten_crop_views(images, config.image_size)  # (10, B, 3, S, S), the centre first
        output = model(normalise(crops[0], *normalisation))
        total = output.scores.float()
        for crop in crops[1:]:
            total = total + model(normalise(crop, *normalisation)).scores.float()
        return output, total / len(crops)


def _measure_maps(
    model: SAMNet,
    output: SAMOutput,
    labels: Tensor,
    rows: np.ndarray,
    group: EvaluationGroup,
    chosen: slice,
    config: RunConfig,
    kinds: tuple[str, ...],
    measures: NanMean,
    record: RecordBatch | None,
) -> None:
    """Make the maps of the recorded images of a batch, hand them to `record`, and add up their measures."""
    confidence, predicted = F.softmax(output.scores.float(), dim=1).max(dim=1)
    wanted = rows >= 0
    if not wanted.all():
        keep = torch.from_numpy(np.flatnonzero(wanted)).to(labels.device)
        attention = None if output.attention is None else output.attention[keep]
        output = SAMOutput(output.scores[keep], output.features[keep], attention)
        labels, predicted, confidence, rows = labels[keep], predicted[keep], confidence[keep], rows[wanted]
    maps = recorded_maps(model, output, labels, predicted, kinds)
    if record:
        record(rows, maps, predicted, confidence)
    for first, second in PAIRS:
        if first in maps and second in maps:
            for name, values in agreement(maps[first], maps[second], temperature=config.temperature).items():
                measures.add(("agreement", f"{first}-{second}", name), values)
    if group.coverage is not None:
        coverage = group.coverage[chosen][torch.from_numpy(wanted)].to(labels.device)
        for kind in LOCALISED:
            if kind in maps:
                for name, values in localisation(maps[kind], coverage, temperature=config.temperature).items():
                    measures.add(("localisation", kind, name), values)
        measures.add(("localisation", "uniform", "inside"), uniform_share(coverage))
        measures.add(("localisation", "uniform", "pointing"), uniform_pointing(coverage))
