"""Make the README's pictures.

make screenshots && python -m docs.pictures          the explorer's, cut from its screenshots
python -m docs.pictures RUN                          the maps and the field guide, of a finished run on it
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import sam_core
from sam_core.evaluation.agreement import as_distribution
from sam_core.overlay import overlay, side_by_side

HERE = Path(__file__).parent
#: Panels of the README's width; drawn at twice the size they are shown at.
SIDE = 224
SCREENSHOTS = HERE.parent / "build" / "screenshots"
#: Which screenshots are shown, and from which column and row on to which row. Left of a dataset, paths of the machine
#: that the picture was made on would be seen.
SHOWN = {
    "attention": ("attention-light.png", 0, 0, 690),
    "train": ("train-light.png", 0, 0, 940),
    "data": ("data-light.png", 324, 112, 940),
}


def attention_sheet(run: sam_core.Run, *, images: int = 5) -> Image.Image:
    """Some test images, their CAM and learned attention before and after training, beside the true object."""
    shown = [sample for sample in run.samples if sample["split"] == "test"]
    by_class = {sample["label"]: sample for sample in reversed(shown)}
    panels, temperature = [], run.config.temperature
    for sample in [by_class[label] for label in sorted(by_class)][:: max(1, len(by_class) // images)][:images]:
        view = _view(Image.open(sample["path"]).convert("RGB"), run.attention_meta["view"])
        mask = np.asarray(_view(Image.open(sample["mask"]).convert("L"), run.attention_meta["view"], nearest=True)) > 0
        timeline = run.timeline(sample["id"])
        first, last = timeline["epochs"][0], timeline["epochs"][-1]
        object_only = Image.fromarray(np.where(mask[..., None], np.asarray(view), 235).astype(np.uint8))
        panels += [
            (run.classes[sample["label"]], view),
            ("the object", object_only),
            (f"CAM, epoch {first}", _laid_over(view, timeline["cam"][0])),
            (f"CAM, epoch {last}", _laid_over(view, timeline["cam"][-1])),
            (f"learned attention, epoch {first}", _laid_over(view, timeline["learned"][0], temperature)),
            (f"learned attention, epoch {last}", _laid_over(view, timeline["learned"][-1], temperature)),
        ]
    caption = "Maps as the attention loss sees them: shares of the whole, all on one scale."
    return side_by_side(panels, columns=6, caption=caption)


def _laid_over(view: Image.Image, values: np.ndarray, temperature: float | None = None) -> Image.Image:
    """CAM as its target at scale `sum`; with a temperature, learned attention as softmax."""
    maps = torch.from_numpy(values)[None]
    scale = "sum" if temperature is None else "softmax"
    shares = as_distribution(maps, temperature=temperature, scale=scale)[0].numpy()
    return overlay(view, shares, opacity=0.75, scale="sum")


def _view(image: Image.Image, view: list[float], *, nearest: bool = False) -> Image.Image:
    left, top, width, height = (
        fraction * length for fraction, length in zip(view, (image.width, image.height) * 2, strict=True)
    )
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS
    return image.crop((left, top, left + width, top + height)).resize((SIDE, SIDE), method)


def explorer_pictures() -> None:
    """Cut the explorer's pictures from its screenshots."""
    for name, (file, left, top, bottom) in SHOWN.items():
        with Image.open(SCREENSHOTS / file) as whole:
            part = whole.convert("RGB").crop((left, top, whole.width, min(bottom, whole.height)))
        part.save(HERE / f"explorer-{name}.png", optimize=True)


def main() -> None:
    """Write the pictures beside this file."""
    if len(sys.argv) == 1:
        explorer_pictures()
        return
    from sam_core.datasets.fieldguide import contact_sheet
    from sam_core.datasets.run_data import open_run_dataset

    run = sam_core.open_run(sys.argv[1])
    attention_sheet(run).save(HERE / "attention.jpg", quality=88)
    dataset, _ = open_run_dataset(run.config)
    contact_sheet(dataset).save(HERE / "fieldguide.jpg", quality=88)


if __name__ == "__main__":
    main()
