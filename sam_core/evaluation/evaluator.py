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
from sam_core.datasets.base import Problem
from sam_core.datasets.on_device import DeviceImages
from sam_core.device import Arriving, Machine, send
from sam_core.evaluation.accuracy import AccuracyMeter
from sam_core.evaluation.agreement import agreement
from sam_core.evaluation.localisation import localisation, uniform_localisation
from sam_core.evaluation.maps import recorded_maps
from sam_core.models.sam_net import SAMNet, SAMOutput
from sam_core.team import Team

#: The pairs of maps whose agreement is measured at every recording point.
PAIRS = (("cam", "gradcam"), ("cam", "learned"), ("gradcam", "learned"))
#: The maps whose localisation is measured at every recording point, beside a uniform map.
LOCALISED = ("cam", "gradcam", "learned", "energy")
#: Without gradients so many images fit where a training batch does, and keep a GPU busy.
EVALUATED_AT_ONCE = 64

RecordBatch = Callable[[np.ndarray, dict[str, Tensor], Tensor, Tensor], None]


@dataclass(frozen=True)
class EvaluationGroup:
    """Images that are evaluated together, and what is known of them.

    Attributes:
        positions: (M,) places in the image store.
        rows: (M,) places in samples.json, -1 for an image that is not recorded.
        coverage: (M, H, W) share of each cell of the map that lies on the object, nan where that is unknown; or None.
        parts: (M, P, 2) x and y of the object's parts as fractions of the view, nan where one is not marked; or None.
        problems: the masks that cannot be read, and why; where there is a box, that counts in their place.
    """

    positions: np.ndarray
    rows: np.ndarray
    coverage: Tensor | None = None
    parts: Tensor | None = None
    problems: tuple[Problem, ...] = ()


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

    def nested(self, team: Team | None = None) -> dict[str, Any]:
        """The means as nested dictionaries, over the images of a whole team; None where no image has the measure."""
        own = [
            (path, *torch.stack(sums).cpu().double().sum(dim=0).tolist())  # (batches, 2) -> (2,)
            for path, sums in self._sums.items()
        ]
        totals: dict[tuple[str, ...], tuple[float, float]] = {}
        for path, total, count in (row for rows in (team or Team()).exchange(own) for row in rows):
            before = totals.get(tuple(path), (0.0, 0.0))
            totals[tuple(path)] = before[0] + total, before[1] + count
        result: dict[str, Any] = {}
        for path, (total, count) in totals.items():
            place = result
            for name in path[:-1]:
                place = place.setdefault(name, {})
            place[path[-1]] = round(total / count, 5) if count else None
        return result


class _Gathered:
    """Takes what each process of a team records of its share, and hands all of it to the first one's `record`."""

    def __init__(self, record: RecordBatch, kinds: tuple[str, ...], team: Team) -> None:
        self._record = record
        self._kinds = kinds
        self._team = team
        self._kept: list[tuple[Tensor, Tensor]] = []

    def __call__(self, rows: np.ndarray, maps: dict[str, Tensor], predicted: Tensor, confidence: Tensor) -> None:
        """Record at once, or keep until `finish`."""
        if self._team.is_first:
            self._record(rows, maps, predicted, confidence)
            return
        # A row's number and a class are exact in float32 up to 2**24.
        plain = torch.stack([torch.from_numpy(rows).float(), predicted.cpu().float(), confidence.cpu().float()], dim=1)
        self._kept.append((plain, torch.stack([maps[kind].float() for kind in self._kinds], dim=1).cpu()))

    def finish(self) -> None:
        """Record the shares of the other processes."""
        plain, maps = (
            self._team.gather(torch.cat(parts)) for parts in zip(*self._kept or [(torch.zeros(0),) * 2], strict=True)
        )
        for rows, values in zip(plain, maps, strict=True):  # (n, 3), (n, kinds, H, W)
            if len(rows):
                by_kind = dict(zip(self._kinds, values.unbind(dim=1), strict=True))
                self._record(rows[:, 0].long().numpy(), by_kind, rows[:, 1].long(), rows[:, 2])


class _Late:
    """Hands each batch to `record` when the next one is under way: writing to the disk keeps no GPU waiting."""

    def __init__(self, record: RecordBatch) -> None:
        self._record = record
        self._waiting: tuple[np.ndarray, tuple[str, ...], Arriving] | None = None

    def __call__(self, rows: np.ndarray, maps: dict[str, Tensor], predicted: Tensor, confidence: Tensor) -> None:
        """Send a batch on its way to the CPU, and record the one before."""
        arriving = Arriving([predicted, confidence, *maps.values()])
        self.finish()
        self._waiting = rows, tuple(maps), arriving

    def finish(self) -> None:
        """Record the batch that is still on its way."""
        if self._waiting is not None:
            rows, kinds, arriving = self._waiting
            self._waiting = None
            predicted, confidence, *maps = arriving.wait()
            self._record(rows, dict(zip(kinds, maps, strict=True)), predicted, confidence)


@torch.no_grad()
def evaluate_group(
    model: SAMNet,
    images: DeviceImages,
    group: EvaluationGroup,
    config: RunConfig,
    machine: Machine,
    *,
    normalisation: tuple[Sequence[float], Sequence[float]],
    kinds: tuple[str, ...],
    record: RecordBatch | None = None,
    keep_scores: bool = False,
    progress: Callable[[int], None] | None = None,
    team: Team | None = None,
) -> GroupResult:
    """Evaluate one group in evaluation mode; the model's mode is given back as it was.

    Args:
        model: the network.
        images: the decoded images, on the machine's device.
        group: which of them.
        config: crops, image size, batch size, temperature.
        machine: device and precision.
        normalisation: mean and standard deviation of the backbone's input.
        kinds: the maps to make; none are made for images that are not recorded.
        record: takes rows, maps, predicted classes and confidences of each batch.
        keep_scores: also return all scores and labels; of a team, those of this process's share.
        progress: called with the number of images of each finished batch, or of all that a team has done meanwhile.
        team: the processes that share the images, each one once. All of them call this, and all get the result;
            `record` is called in the first alone, with the images of all.
    """
    team = team or Team()
    mine, shares = team.part(range(len(group.positions))), team.parts(len(group.positions))
    batch = _images_at_once(config.batch_size, machine, team)
    gathered = _Gathered(record, kinds, team) if record and team.size > 1 else None
    late = _Late(gathered or record) if record else None
    meter, measures = AccuracyMeter(machine.device), NanMean()
    kept_scores, kept_labels = [], []
    was_training = model.training
    model.eval()
    try:
        for start in range(0, max(shares), batch):
            places = mine[start : start + batch]
            if places:  # there may be fewer images than processes
                chosen = slice(places.start, places.stop)
                positions = torch.from_numpy(group.positions[chosen])
                stored, labels = images.take(positions)
                output, scores = _scores(model, stored, config, machine, normalisation)
                meter.update(scores, labels)
                if keep_scores:
                    kept_scores.append(scores)
                    kept_labels.append(labels)
                rows = group.rows[chosen]
                if kinds and (rows >= 0).any():
                    _measure_maps(model, output, labels, rows, group, chosen, config, kinds, measures, late)
            if progress:
                progress(sum(min(batch, max(0, share - start)) for share in shares))
    finally:
        model.train(was_training)
    if late:
        late.finish()
    if gathered:
        gathered.finish()
    meter.sums = team.sum(meter.sums)
    return GroupResult(
        meter.result(),
        measures.nested(team),
        torch.cat(kept_scores).cpu() if keep_scores else None,
        torch.cat(kept_labels).cpu() if keep_scores else None,
    )


def _images_at_once(batch_size: int, machine: Machine, team: Team) -> int:
    """How many images a process evaluates at once, where a step of all of them trains `batch_size`."""
    share = -(-batch_size // team.size)
    at_once = max(EVALUATED_AT_ONCE, share)
    return at_once if machine.device.type != "cpu" else min(batch_size, at_once)


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
        keep = send(torch.from_numpy(np.flatnonzero(wanted)), labels.device)
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
        kept = np.flatnonzero(wanted)
        coverage = send(group.coverage[chosen][kept], labels.device)
        parts = None if group.parts is None else send(group.parts[chosen][kept], labels.device)
        for kind in LOCALISED:
            if kind in maps:
                for name, values in localisation(maps[kind], coverage, config.temperature, parts=parts).items():
                    measures.add(("localisation", kind, name), values)
        for name, values in uniform_localisation(coverage, parts=parts).items():
            measures.add(("localisation", "uniform", name), values)
