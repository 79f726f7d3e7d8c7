"""Made-up run folders, written as a run writes its own: many small ones, and one with recorded maps."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from sam_core.benchmark.made_up import write_photographs
from sam_core.config import RunConfig
from sam_core.recording import layout
from sam_core.recording.notes import Notes, write_notes
from sam_core.recording.writer import RunWriter, new_run_id

CLASSES = 10
GRID = (7, 7)
VIEW = (0.0625, 0.0625, 0.875, 0.875)
STEPS_PER_EPOCH = 3
#: Runs are made up from here on, one an hour.
FIRST_DAY = datetime.datetime(2026, 1, 1, 8)
METHODS = ("finetune", "sam", "sam-bilinear")
#: How runs end, in turn: mostly well.
ENDS = ("finished",) * 8 + ("failed", "stopped")
PAIRS_OF_MAPS = ("cam-gradcam", "cam-learned", "gradcam-learned")
ERROR = {
    "type": "non-finite loss",
    "message": "the loss became infinite or undefined at step 20 of epoch 7",
    "hint": "lower --lr (now 0.01) or --attention-weight, then start again",
}


class Photographs:
    """A few made-up photographs with the masks of what is on them, and samples of them as a run describes its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_photographs(folder, classes=CLASSES, train=1, test=3)
        self.paths = sorted(self.folder.rglob("*.jpg"))
        self.mask = self.folder / "mask.png"
        mask = Image.new("L", Image.open(self.paths[0]).size)
        ImageDraw.Draw(mask).ellipse((120, 90, 380, 300), fill=255)
        mask.save(self.mask)

    def samples(self, count: int) -> list[dict[str, Any]]:
        """Entries of samples.json, more of them than there are files: each file is several samples."""
        return [self._sample(number) for number in range(count)]

    def _sample(self, number: int) -> dict[str, Any]:
        path = self.paths[number % len(self.paths)]
        split = path.parent.parent.name
        return {
            "id": f"{split}/{path.parent.name}/{number:05d}.jpg",
            "path": str(path),
            "split": split,
            "label": int(path.parent.name.rsplit("-", 1)[1]),
            "labelled": split == "train",
            "box": [0.25, 0.25, 0.5, 0.5],
            "parts": [[f"part {index}", 0.3 + index / 20, 0.7 - index / 20] for index in range(8)],
            "mask": str(self.mask),
        }


def write_runs(runs: Path, count: int, *, epochs: int = 12) -> None:
    """Write `count` run folders with curves and without maps: most of them finished, some failed or stopped."""
    for number in range(count):
        _write_run(runs, number, epochs=epochs)


def _write_run(runs: Path, number: int, *, epochs: int) -> None:
    end = ENDS[number % len(ENDS)]
    reached = epochs if end == "finished" else epochs // 2
    config = RunConfig(method=METHODS[number % len(METHODS)], seed=number, label_ratio=(5.0, 10.0, 30.0)[number % 3])
    writer = RunWriter.create(runs, config, epochs=epochs)
    _write_curves(writer, reached, epochs, seed=number)
    _write_status(writer, end, reached, epochs)
    writer.close()
    if number % 4 == 0:
        write_notes(writer.folder, Notes(f"Run {number}", "Attention leaves the branch after the fourth epoch."))
    _date(writer.folder, config, FIRST_DAY + datetime.timedelta(hours=number))


def write_recorded_run(runs: Path, photographs: Photographs, *, epochs: int, images: int) -> Path:
    """Write a finished run with the maps of every image at epoch 0 and `epochs` more, newer than all others."""
    config = RunConfig(dataset=str(photographs.folder))
    writer = RunWriter.create(runs, config, epochs=epochs)
    classes = [f"class-{label:03d}" for label in range(CLASSES)]
    about = {"classes": classes, "backbone": config.backbone, "mean": [0.5] * 3, "std": [0.5] * 3, "image_size": 224}
    writer.write_classes(about | {"steps": STEPS_PER_EPOCH * epochs, "steps_per_epoch": STEPS_PER_EPOCH})
    writer.start_attention(
        photographs.samples(images), kinds=layout.MAP_KINDS, grid=GRID, epochs=range(epochs + 1), view=VIEW
    )
    generator, rows = torch.Generator().manual_seed(0), np.arange(images)
    for point in range(epochs + 1):
        maps = {kind: torch.rand(images, *GRID, generator=generator) for kind in layout.MAP_KINDS}
        predicted = torch.randint(CLASSES, (images,), generator=generator)
        writer.attention.record(rows, point, maps, predicted, torch.rand(images, generator=generator))
        writer.attention.finish_point(point)
    _write_curves(writer, epochs, epochs, seed=0)
    _write_status(writer, "finished", epochs, epochs)
    writer.close()
    return _date(writer.folder, config, FIRST_DAY + datetime.timedelta(days=300))


def _write_status(writer: RunWriter, end: str, reached: int, epochs: int) -> None:
    writer.status(
        state=end,
        epoch=reached,
        step=STEPS_PER_EPOCH * reached,
        steps=STEPS_PER_EPOCH * epochs,
        eta_s=0 if end == "finished" else None,
        error=ERROR if end == "failed" else None,
    )


def _write_curves(writer: RunWriter, reached: int, epochs: int, *, seed: int) -> None:
    lines = []
    for entry in _curve(reached, epochs, random.Random(seed)):
        writer.append_metrics(entry)
        if entry["kind"] == "epoch":
            lines.append(f"epoch {entry['epoch']:>3} of {epochs}  test {entry['test']['top1']:.1f} %\n")
    (writer.folder / layout.LOG).write_text("".join(lines), encoding="utf-8")


def _curve(reached: int, epochs: int, generator: random.Random) -> Iterator[dict[str, Any]]:
    """Lines of metrics.jsonl, as many and as long as a run's own."""

    def losses(progress: float) -> dict[str, float]:
        classification, attention = 2.3 * (1 - progress) + generator.random() / 5, 1.5 + generator.random()
        values = {"loss": classification + 0.3 * attention, "classification": classification, "attention": attention}
        return {name: round(value, 6) for name, value in values.items()}

    def accuracy(progress: float) -> dict[str, float]:
        top1 = 10 + 60 * progress + 5 * generator.random()
        return {"top1": round(top1, 4), "top5": round(50 + top1 / 2, 4), "loss": round(2.3 - progress, 6)}

    def measures() -> dict[str, Any]:
        def drawn(*names: str) -> dict[str, float]:
            return {name: round(generator.random(), 5) for name in names}

        inside = {kind: drawn("inside", "inside_distribution", "pointing") for kind in layout.MAP_KINDS[:3]}
        agreement = {pair: drawn("kl", "cosine", "iou") for pair in PAIRS_OF_MAPS}
        return {"agreement": agreement, "localisation": inside | {"uniform": drawn("inside", "pointing")}}

    for epoch in range(reached + 1):
        progress = epoch / epochs
        for step in range(STEPS_PER_EPOCH * (epoch - 1), STEPS_PER_EPOCH * epoch) if epoch else ():
            yield {"kind": "step", "epoch": epoch, "step": step + 1, **losses(progress), "lr": 0.01 * (1 - progress)}
        tests = {group: accuracy(progress) for group in ("test", "swapped")}
        attention = {group: measures() for group in ("labelled", "test", "swapped")}
        train = losses(progress) | accuracy(progress)
        yield {"kind": "epoch", "epoch": epoch, "train": train, **tests, "attention": attention, "seconds": 13.2}


def _date(folder: Path, config: RunConfig, when: datetime.datetime) -> Path:
    """Give a finished folder the name that it would have had if it had been made then."""
    return folder.rename(folder.with_name(new_run_id(config, when)))
