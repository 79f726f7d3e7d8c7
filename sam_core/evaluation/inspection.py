"""Any photograph under any map and any class, through the weights of a run."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sam_core.augment import centre_views, normalise, view_box
from sam_core.config import ConfigError
from sam_core.datasets.base import DatasetError
from sam_core.datasets.images import ImageError, read_image
from sam_core.models.attention_head import learned_attention
from sam_core.models.backbones import data_config
from sam_core.models.inference import stored_image
from sam_core.overlay import overlay, side_by_side
from sam_core.pseudo_attention import PSEUDO_ATTENTION, inspect_attention
from sam_core.recording.reader import Run
from sam_core.recording.views import cut_view, view_size

#: The side of a picture in a sheet.
PANEL_SIDE = 336

TITLES = {"learned": "learned attention", "energy": "feature energy"}


@dataclass(frozen=True)
class AttendedImage:
    """One photograph as the network saw it, what it said, and its maps: (H, W), or None where a map cannot exist."""

    view: Image.Image
    top: list[tuple[str, float]]
    shown_class: str
    maps: dict[str, np.ndarray | None]
    channels: np.ndarray | None = None
    """Each of the attention head's K maps, (K, H, W); None for a network without one."""

    @property
    def empty(self) -> list[str]:
        """The maps that are zero everywhere: no position speaks for the class shown."""
        return [name for name, values in self.maps.items() if values is not None and not (values > 0).any()]

    def as_json(self) -> dict[str, Any]:
        """What a program wants to know, without the maps."""
        missing = [name for name, values in self.maps.items() if values is None]
        return {"top": self.top, "shown_class": self.shown_class, "empty": self.empty, "missing": missing}

    def save_maps(self, path: Path) -> None:
        """Write the raw maps as a NumPy archive, one array (H, W) per map."""
        np.savez_compressed(path, **{name: values for name, values in self.maps.items() if values is not None})


def read_photographs(paths: Sequence[Path]) -> list[Image.Image]:
    """Read every photograph, or refuse with the name of the first that cannot be read."""
    photographs = []
    for path in paths:
        try:
            photographs.append(read_image(path))
        except ImageError as error:
            raise DatasetError(f"image: {path}: {error}", "give a JPEG, PNG, WebP, BMP or TIFF photograph") from error
    return photographs


class Inspector:
    """A run's network, ready to look at photographs. Not for several threads at once."""

    def __init__(self, run: Run, *, epoch: int | None = None) -> None:
        self.run = run
        self.model = run.model(epoch)

    def label_of(self, class_name: str) -> int:
        """The label of a class by its name."""
        classes = self.run.classes
        if class_name not in classes:
            close = difflib.get_close_matches(class_name, classes, n=1, cutoff=0.3)
            hint = f"did you mean {close[0]!r}?" if close else f"the run knows {', '.join(classes[:10])}"
            raise ConfigError("class", f"the run has no class {class_name!r}; {hint}")
        return classes.index(class_name)

    def attend(self, photograph: Image.Image, maps: Sequence[str], *, label: int | None = None) -> AttendedImage:
        """Classify a photograph and make its maps for `label`, or for the predicted class.

        Args:
            photograph: any size.
            maps: names of pseudo-attention methods, `learned`, `energy`.
            label: whose evidence is shown.
        """
        size, classes = self.run.config.image_size, self.run.classes
        stored = stored_image(photograph, size=size)
        view = centre_views(stored, size)
        images = normalise(view, *data_config(self.run.config.backbone))
        with torch.no_grad():
            output = self.model(images)
        probabilities = output.scores[0].softmax(dim=0)
        shown = int(probabilities.argmax()) if label is None else label
        best = probabilities.topk(min(5, len(classes)))
        made: dict[str, np.ndarray | None] = {}
        for name in maps:
            if name == "learned":
                values = None if output.attention is None else learned_attention(output.attention)
            elif name == "energy":
                values = output.features.mean(dim=1)
            else:
                values = inspect_attention(name, self.model, images, torch.tensor([shown]))
            made[name] = None if values is None else values[0].float().numpy()
        seen = view_box(stored.shape[-1], size)
        return AttendedImage(
            cut_view(photograph, seen, view_size(photograph.size, seen, side=PANEL_SIDE)),
            [(classes[index], value) for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)],
            classes[shown],
            made,
            None if output.attention is None else output.attention[0].float().numpy(),
        )


def draw_sheet(attended: AttendedImage, *, smooth: bool, opacity: float, colour_map: str) -> Image.Image:
    """The photograph and its maps beside each other, with what the network said."""
    name, confidence = attended.top[0]
    panels = [("photograph", attended.view)]
    for kind, values in attended.maps.items():
        label = TITLES.get(kind) or PSEUDO_ATTENTION[kind].label
        if values is None:
            panels.append((f"{label}: this network has none", attended.view.convert("L")))
            continue
        title = f"{label}: empty" if kind in attended.empty else label
        drawn = overlay(attended.view, values, colour_map=colour_map, opacity=opacity, smooth=smooth)
        panels.append((title, drawn))
    shown = "" if attended.shown_class == name else f" Maps for {attended.shown_class}."
    scale = "smoothed between its cells" if smooth else "shown in its cells"
    caption = f"Predicted: {name} ({confidence:.0%}).{shown} Each map is scaled to its own maximum and {scale}."
    return side_by_side(panels, caption=caption)
