"""All recorded epochs of one image as one compact message: the page's slider then needs nothing more.

The message is a header in JSON (its length first, as 4 bytes, little endian) and after it arrays of float16, little
endian, at the places that the header names. Of each kind of map there are two: `raw`, and `distribution`, what the
attention loss compares, in multiples of a uniform share (so that 1 means `as much as anywhere`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from explorer.files import modified
from explorer.kept import Kept
from sam_core.evaluation.history import (
    loss_distributions,
    measures_over_epochs,
    sample_box,
    sample_coverage,
    sample_parts,
)
from sam_core.recording import layout
from sam_core.recording.layout import ATTENTION, MAP_KINDS
from sam_core.recording.reader import Run
from sam_core.recording.views import PictureError, view_mask

#: The mask is reduced to the grid of the maps; more pixels than this would change nothing.
MASK_SIDE = 224
#: Messages kept, and how large one may be to be kept: 64 MB in all at the most.
KEPT_MESSAGES = 128
LARGEST_KEPT = 500_000


def timeline_message(run: Run, sample_id: str, *, after: int = -1, allowed: Callable[[Path], bool]) -> bytes:
    """The message of one image of a run, of its recorded epochs after epoch `after`.

    Args:
        run: the run.
        sample_id: which of its recorded images.
        after: only the epochs after this one.
        allowed: whether a file may be read, for the mask.
    """
    row = run.row(sample_id)
    timeline = epochs_after(run.timeline(sample_id), after)
    mask = mask_of(run, row, allowed)
    about = describe_sample(run, row) | {"mask": mask is not None}
    about["measures"] = measures(timeline, sample_coverage(run, row, mask), about["parts"], run.config.temperature)
    return encode(about, timeline, loss_distributions(timeline, run.config))


class Messages:
    """Messages that were made lately: twenty pages that watch one run ask for the same images at the same moment."""

    def __init__(self) -> None:
        self._kept: Kept[tuple[Any, ...], bytes] = Kept(
            KEPT_MESSAGES, is_worth_keeping=lambda message: len(message) <= LARGEST_KEPT
        )

    def of(self, run: Run, sample_id: str, *, after: int, allowed: Callable[[Path], bool]) -> bytes:
        """As `timeline_message`; the same until the run has recorded another epoch."""
        # A run that was resumed or started over records epochs anew: when their file was written tells the two apart.
        key = (run.folder, len(run.recorded_epochs), modified(run.folder / ATTENTION / "epochs.npy"), sample_id, after)
        return self._kept.get(key, lambda: timeline_message(run, sample_id, after=after, allowed=allowed))


def describe_sample(run: Run, row: int) -> dict[str, Any]:
    """What is known of a recorded image, positions as fractions of the view."""
    sample = run.samples[row]
    return {
        "run": run.id,
        "id": sample["id"],
        "row": row,
        "label": sample.get("label"),
        "split": sample.get("split"),
        "labelled": bool(sample.get("labelled")),
        "box": sample_box(run, row),
        "parts": sample_parts(run, row),
        "pooling": run.config.pooling,
        "method": run.config.method,
        "pseudo": run.config.pseudo,
    }


def mask_of(run: Run, row: int, allowed: Callable[[Path], bool]) -> Image.Image | None:
    """The object's mask in the view, where there is one that can be read."""
    try:
        return view_mask(run, row, side=MASK_SIDE, allowed=allowed)
    except PictureError:
        return None


def measures(
    timeline: Mapping[str, Any],
    coverage: torch.Tensor | None,
    parts: Sequence[tuple[str, float, float]],
    temperature: float,
) -> dict[str, Any]:
    """Agreement and localisation at each epoch of a timeline, as lists."""
    if len(timeline["epochs"]) == 0:
        return {"agreement": {}, "localisation": None}
    return measures_over_epochs(timeline, coverage, temperature=temperature, parts=parts)


def epochs_after(timeline: Mapping[str, Any], after: int) -> dict[str, Any]:
    """The part of a timeline that lies after an epoch."""
    chosen = timeline["epochs"] > after
    return {name: None if values is None else values[chosen] for name, values in timeline.items()}


def encode(header: Mapping[str, Any], timeline: Mapping[str, Any], distributions: Mapping[str, Any]) -> bytes:
    """Header and arrays as one message."""
    arrays: list[np.ndarray] = []
    places: dict[str, dict[str, Any] | None] = {}
    position = 0
    kinds = [name for name in timeline if name not in ("epochs", "predicted", "confidence")]
    for kind in sorted(kinds, key=lambda name: MAP_KINDS.index(name) if name in MAP_KINDS else len(MAP_KINDS)):
        raw = timeline[kind]
        if raw is None:
            places[kind] = None
            continue
        cells = raw.shape[-2] * raw.shape[-1]
        places[kind] = {"grid": list(raw.shape[-2:]), "raw": position, "distribution": position + raw.size}
        arrays += [raw.astype("<f2"), (distributions[kind] * cells).astype("<f2")]
        position += 2 * raw.size
    about = {
        **header,
        "epochs": [int(epoch) for epoch in timeline["epochs"]],
        "predicted": [int(label) for label in timeline["predicted"]],
        "confidence": [round(float(value), 4) for value in timeline["confidence"]],
        "arrays": places,
    }
    text = layout.dump_json(about).encode()  # a damaged map has measures that are no numbers
    text += b" " * (-(len(text) + 4) % 4)  # the arrays begin where a page may read them as 16-bit words
    return struct.pack("<I", len(text)) + text + b"".join(array.tobytes() for array in arrays)
