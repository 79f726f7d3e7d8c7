"""How long it takes to read all epochs of one image from a large recording."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from sam_core.benchmark.rounds import median
from sam_core.benchmark.rows import Figure
from sam_core.config import RunConfig
from sam_core.recording import layout
from sam_core.recording.reader import open_run
from sam_core.recording.writer import RunWriter

GRID = (7, 7)


class NoRoomError(RuntimeError):
    """The disk cannot hold the made-up recording."""

    hint = "free some disk space, or set TMPDIR to a folder on a disk that has it"


def measure_timeline(*, epochs: int = 200, images: int = 6000, reads: int = 40, seed: int = 0) -> Figure:
    """Milliseconds for `timeline` of a random image: the median over reads that each open the run anew, from disk.

    A recording of this size is written with the engine's own writer: epoch 0 and `epochs` more, six maps of 7 x 7.
    Every read counts what a reader without any memory of the run has to do: open it, read the list of its samples,
    find the image, read its maps. Before each read the operating system is asked to forget the run's files; where it
    cannot be asked (`cold` is then false), the files are in memory.
    """
    kinds, points = layout.MAP_KINDS, epochs + 1
    size = images * points * len(kinds) * GRID[0] * GRID[1] * 2
    with tempfile.TemporaryDirectory(prefix="sam-benchmark-") as place:
        if shutil.disk_usage(place).free < 1.2 * size:
            raise NoRoomError(f"the made-up recording needs {1.2 * size / 1e9:.1f} GB of disk under {place}")
        folder, ids = _write_recording(Path(place), kinds, points, images)
        chosen = random.Random(seed).choices(ids, k=2 * reads)
        cold = all([_forget(path) for path in _files(folder)])
        fresh, again = [], []
        for first_id, next_id in zip(chosen[::2], chosen[1::2], strict=True):
            for path in _files(folder):
                _forget(path)
            started = time.perf_counter()
            run = open_run(folder)
            timeline = run.timeline(first_id)
            fresh.append(1000 * (time.perf_counter() - started))
            if len(timeline["epochs"]) != points:
                raise RuntimeError(f"the timeline has {len(timeline['epochs'])} epochs, {points} were recorded")
            for path in _files(folder):
                _forget(path)
            # The next image of a run that is open: the list of samples is known, the maps are on the disk.
            started = time.perf_counter()
            run.timeline(next_id)
            again.append(1000 * (time.perf_counter() - started))
    figure = median(fresh)
    details = {
        "reads": reads,
        "epochs": points,
        "images": images,
        "gigabytes": round(size / 1e9, 3),
        "cold": cold,
        "p95_ms": _percentile(fresh, 95),
        "run_already_open_ms": round(statistics.median(again), 2),
        "run_already_open_p95_ms": _percentile(again, 95),
    }
    return Figure(figure.value, figure.noise, details)


def _write_recording(place: Path, kinds: tuple[str, ...], points: int, images: int) -> tuple[Path, list[str]]:
    """A run folder as a run leaves it, with random maps."""
    writer = RunWriter.create(place, RunConfig(), epochs=points - 1)
    samples = [_sample(number) for number in range(images)]
    writer.start_attention(samples, kinds=kinds, grid=GRID, epochs=range(points), view=(0.0625, 0.0625, 0.875, 0.875))
    generator = torch.Generator().manual_seed(0)
    maps = {kind: torch.rand(images, *GRID, generator=generator) for kind in kinds}
    predicted = torch.randint(10, (images,), generator=generator)
    confidence = torch.rand(images, generator=generator)
    rows = np.arange(images)
    for point in tqdm(range(points), desc="writing a recording", leave=False, disable=None):
        # The values do not matter to a reader, that every point is written does.
        writer.attention.record(rows, point, maps, predicted, confidence)
        writer.attention.finish_point(point)
    folder = writer.folder
    writer.close()
    return folder, [sample["id"] for sample in samples]


def _sample(number: int) -> dict[str, Any]:
    """An entry of samples.json as long as that of a photograph with its box and fifteen parts."""
    name = f"test/{number % 200:03d}.Species_of_bird/Species_of_bird_{number:05d}.jpg"
    return {
        "id": name,
        "path": f"/data/photographs/{name}",
        "split": "test",
        "label": number % 200,
        "labelled": False,
        "box": [0.1234, 0.2345, 0.5432, 0.4321],
        "parts": [[f"part {index}", 0.25 + index / 100, 0.75 - index / 100] for index in range(15)],
        "mask": None,
    }


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _forget(path: Path) -> bool:
    """Ask the operating system to drop a file from its memory; whether it could be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # what is not yet on the disk cannot be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return True


def _percentile(values: list[float], percent: float) -> float:
    return round(float(np.percentile(values, percent)), 2)
