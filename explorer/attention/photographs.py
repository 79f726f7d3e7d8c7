"""Any photograph through a run's network: its prediction and its maps, as the message that the page's player reads."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from explorer.attention.networks import Networks
from explorer.attention.timelines import encode, measures
from sam_core.config import ConfigError
from sam_core.datasets.images import ImageError, read_image
from sam_core.evaluation.history import loss_distributions
from sam_core.evaluation.inspection import AttendedImage
from sam_core.pseudo_attention import PSEUDO_ATTENTION
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunError

#: Maps that the weights can make of any photograph.
ON_DEMAND = ("learned", "energy", *PSEUDO_ATTENTION)
#: FullGrad's map is as large as the image; so many cells a side are enough to see it.
LARGEST_GRID = 56
#: Epochs whose weights are asked for at once.
MAX_EPOCHS = 200


class PhotographError(ValueError):
    """A photograph that cannot be used; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "give a JPEG, PNG, WebP, BMP or TIFF photograph") -> None:
        super().__init__(message)
        self.hint = hint


def read_photograph(path: Path, *, name: str = "the photograph") -> Image.Image:
    """Open a stranger's file, bounded in size.

    Raises:
        PhotographError: with the reason, if it is no usable image.
    """
    try:
        return read_image(path)
    except ImageError as error:
        raise PhotographError(f"{name}: {error}") from error


def weights_of(run: Run) -> dict[str, Any]:
    """Which weights of a run there are: `finished`, the `kept` epochs, and if there are none the `reason`."""
    has_last = (run.folder / "model.safetensors").is_file()
    reason = ""
    if not has_last and not run.kept_epochs:
        state = str(run.status.get("state"))
        reason = (
            "This run carries no weights, so photographs cannot be looked at: only what was recorded is here."
            if state == "finished"
            else "The run has no weights yet: they are written when it finishes, or earlier with "
            "“Keep checkpoints” under Advanced."
        )
    return {
        "run": run.id,
        "classes": run.classes if run.has_samples else [],
        "finished": has_last,
        "kept": run.kept_epochs[-MAX_EPOCHS:],
        "reason": reason,
    }


def chosen_epochs(run: Run, choice: str) -> list[int | None]:
    """`last`, `kept` (all of them) or the number of one kept epoch, as epochs whose weights are loaded; None: the last.

    Raises:
        ConfigError: naming `epochs`, for anything else.
    """
    kept = run.kept_epochs[-MAX_EPOCHS:]
    if choice == "last":
        return [None]
    if choice == "kept" and kept:
        return list(kept)
    if choice.isdecimal() and int(choice) in kept:
        return [int(choice)]
    there = ", ".join(map(str, kept)) or "none"
    raise ConfigError("epochs", f"must be last, kept, or one of the kept epochs ({there}), not {choice[:20]!r}")


def chosen_maps(names: str) -> list[str]:
    """Names of maps, separated by commas.

    Raises:
        ConfigError: naming `maps`, for one that does not exist.
    """
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in chosen:
        if name not in ON_DEMAND:
            raise ConfigError("maps", f"{name[:40]!r} is no map; use any of {', '.join(ON_DEMAND)}")
    return chosen


def chosen_label(run: Run, text: str) -> int | None:
    """A class by its number or name; empty for the predicted one.

    Raises:
        ConfigError: naming `class`, if the run does not know it.
    """
    if not text:
        return None
    if text.isdecimal() and int(text) < len(run.classes):
        return int(text)
    if text in run.classes:
        return run.classes.index(text)
    raise ConfigError("class", f"the run knows no class {text[:60]!r}; use a name or number from its list of classes")


def attend_message(
    networks: Networks,
    run: Run,
    photograph: Image.Image,
    *,
    maps: Sequence[str],
    label: int | None,
    epochs: Sequence[int | None],
    channels: bool = False,
) -> bytes:
    """A photograph's maps after each of some epochs, as a timeline message with its picture in it.

    Args:
        networks: where networks come from.
        run: whose network looks.
        photograph: any size.
        maps: names from `ON_DEMAND`.
        label: whose evidence is shown; None for the class predicted by each epoch's weights.
        epochs: from `chosen_epochs`.
        channels: also show each of the attention head's K maps, as `A1`, `A2`, ...
    """
    attended: list[AttendedImage] = []
    for epoch in epochs:
        with networks.inspector(run, epoch) as inspector:
            attended.append(inspector.attend(photograph, maps, label=label))
    timeline: dict[str, Any] = {kind: _stacked([image.maps[kind] for image in attended]) for kind in maps}
    if channels and attended[0].channels is not None:
        for number in range(len(attended[0].channels)):
            timeline[f"A{number + 1}"] = _stacked(
                [image.channels[number] for image in attended if image.channels is not None]
            )
    if not timeline:
        raise RunError("maps: this network has no attention head, so there is none to show", "choose another map")
    classes = run.classes
    timeline["epochs"] = np.array([_number(run, epoch) for epoch in epochs])
    timeline["predicted"] = np.array([classes.index(image.top[0][0]) for image in attended])
    timeline["confidence"] = np.array([image.top[0][1] for image in attended])
    header = {
        "run": run.id,
        "id": None,
        "row": None,
        "label": label,
        "box": None,
        "parts": [],
        "mask": False,
        "method": run.config.method,
        "pooling": run.config.pooling,
        "pseudo": run.config.pseudo,
        "top": [image.top for image in attended],
        "shown_class": [image.shown_class for image in attended],
        "picture": _data_url(attended[0].view),
        "measures": measures(timeline, None, [], run.config.temperature),
    }
    return encode(header, timeline, loss_distributions(timeline, run.config))


def _number(run: Run, epoch: int | None) -> int:
    return int(run.status.get("epoch") or 0) if epoch is None else epoch


def _stacked(maps: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """(E, H, W), or None where a map cannot exist."""
    if any(values is None for values in maps):
        return None
    stacked = torch.from_numpy(np.stack([values for values in maps if values is not None]).astype(np.float32))
    if max(stacked.shape[-2:]) > LARGEST_GRID:
        stacked = F.adaptive_avg_pool2d(stacked, LARGEST_GRID)  # (E, S, S) -> (E, 56, 56)
    return stacked.numpy()


def _data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
