"""A small folder of made-up photographs, for measurements that need files, and its data as a run loads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sam_core.config import RunConfig
from sam_core.device import Machine

#: The size of a common photograph in a data set.
WIDTH, HEIGHT = 500, 375


def write_photographs(folder: Path, *, classes: int, train: int, test: int) -> Path:
    """Write `train` and `test` JPEG files per class, smooth coloured noise; returns the folder."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for label in range(classes):
            place = folder / split / f"class-{label:03d}"
            place.mkdir(parents=True)
            for number in range(count):
                coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
                image = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
                image.save(place / f"{number:04d}.jpg", quality=90)
    return folder


def config_for(folder: Path, machine: Machine, **choices: object) -> RunConfig:
    """The default run's configuration, over this folder with every label, and without pretrained weights.

    Images are cached beside the folder: what a benchmark makes up is of no use to anybody after it.
    """
    common = {
        "dataset": str(folder),
        "data_root": str(folder.parent / "data"),
        "label_ratio": 100.0,
        "weights": "none",
        "device": machine.device.type,
        "precision": "bfloat16" if machine.bfloat16 else "float32",
    }
    return RunConfig(**(common | choices))
