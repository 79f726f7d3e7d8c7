"""The recorded images of a run in columns: what a gallery filters and sorts by, without opening a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from explorer.kept import Kept
from sam_core.evaluation.agreement import agreement, cosine_similarity
from sam_core.recording import layout
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunError

#: Maps of so many images are read at once.
CHUNK = 512
#: Answers that are kept: a gallery of thousands of images takes a second to sort by its maps.
KEPT_ANSWERS = 8


def columns(run: Run) -> dict[str, Any]:
    """Every recorded image, one list per fact, in the order of samples.json.

    Returns:
        `classes`, `ids`, `label`, `split`, `labelled`, and of the last recorded epoch `predicted` and `confidence`;
        `epoch` is that epoch, -1 while nothing is recorded. A run that has only begun has no images yet.
    """
    samples, classes = (run.samples, run.classes) if run.has_samples else ([], [])
    epochs = _recorded_epochs(run)
    predicted = confidence = None
    if len(epochs):
        last = run.recorded_points[-1]
        predicted, confidence = run.recorded_at("predicted", last), run.recorded_at("confidence", last)
    return {
        "run": run.id,
        "classes": classes,
        "epoch": int(epochs[-1]) if len(epochs) else -1,
        "ids": [sample["id"] for sample in samples],
        "label": [sample.get("label") for sample in samples],
        "split": [sample.get("split") for sample in samples],
        "labelled": [int(bool(sample.get("labelled"))) for sample in samples],
        "predicted": predicted.tolist() if predicted is not None else None,
        "confidence": [round(float(value), 3) for value in confidence] if confidence is not None else None,
    }


class Rankings:
    """Measures by which a gallery is sorted, made from the maps of every image: asked for, then kept."""

    def __init__(self) -> None:
        self._kept: Kept[tuple[str, int], dict[str, list[float | None]]] = Kept(KEPT_ANSWERS)

    def of(self, run: Run) -> dict[str, Any]:
        """`disagreement` and `change` of every image at the last recorded epoch, as `measure_images` has them."""
        epochs = _recorded_epochs(run)
        if len(epochs) == 0:
            return {"epoch": -1, "disagreement": None, "change": None}
        key = (str(run.folder), int(epochs[-1]))
        return {"epoch": key[1], **self._kept.get(key, lambda: measure_images(run))}


def measure_images(run: Run) -> dict[str, list[float | None]]:
    """Two figures for each recorded image.

    Returns:
        `disagreement`: KL(first || second) in nats at the last recorded epoch, of the pseudo-attention that the run
        fits (or CAM) and the learned attention; without a learned attention, of CAM and the feature energy.
        `change`: 1 - cosine between the first and the last epoch's map: the learned attention, or CAM.
        None where a map is empty or missing.
    """
    kinds = run.attention_meta["kinds"]
    if not {"cam", "gradcam"} & set(kinds):
        raise RunError(f"run {run.id} has recorded no map that could be compared", "sort by another measure")
    shown = "learned" if "learned" in kinds else "cam" if "cam" in kinds else "gradcam"
    target = next(kind for kind in (run.config.pseudo, "cam", "gradcam") if kind in kinds)
    other = "learned" if "learned" in kinds else "energy"
    first, last = run.recorded_points[[0, -1]]

    disagreement: list[float | None] = []
    change: list[float | None] = []
    for start in range(0, len(run.samples), CHUNK):
        chosen = slice(start, start + CHUNK)
        now = {kind: _tensor(run.recorded_at(kind, last, chosen)) for kind in {shown, target, other}}
        before = _tensor(run.recorded_at(shown, first, chosen))
        disagreement += _numbers(agreement(now[target], now[other])["kl"])
        change += _numbers(1 - cosine_similarity(before, now[shown]))
    return {"disagreement": disagreement, "change": change}


def _recorded_epochs(run: Run) -> np.ndarray:
    """The recorded epochs; none where the run has not come so far."""
    return run.recorded_epochs if (run.folder / layout.ATTENTION).is_dir() else np.array([], dtype=np.int32)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))


def _numbers(values: torch.Tensor) -> list[float | None]:
    return [round(value, 4) if value == value else None for value in values.tolist()]


def strip(run: Run, images: int) -> dict[str, Any]:
    """A few images to watch while a run goes on: test images of classes spread over all of them, always the same."""
    samples = run.samples
    test = [row for row, sample in enumerate(samples) if sample.get("split") == "test"] or list(range(len(samples)))
    first_of_class: dict[Any, int] = {}
    for row in test:
        first_of_class.setdefault(samples[row].get("label"), row)
    rows = sorted(first_of_class.values())
    chosen = sorted({rows[at * len(rows) // images] for at in range(images)}) if rows else []
    described = [{"id": samples[row]["id"], "row": row, "label": samples[row].get("label")} for row in chosen]
    return {"classes": run.classes, "images": described}
