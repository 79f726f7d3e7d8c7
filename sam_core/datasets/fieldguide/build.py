"""Planning and drawing the whole guide: which bird stands where, and the folder of images, masks and index.

The drawing is shared out to plain child processes, `python -m sam_core.datasets.fieldguide.build`. They start from
any program (no forked threads, no guarded main module) and import no more than NumPy and Pillow.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from sam_core.datasets.base import DatasetError
from sam_core.datasets.fieldguide.birds import draw_bird
from sam_core.datasets.fieldguide.drawing import Dice
from sam_core.datasets.fieldguide.plates import compose, draw_light
from sam_core.datasets.fieldguide.png import write_png
from sam_core.datasets.fieldguide.species import HABITATS, MASK_PARTS, SPECIES, Species

#: Part of every image's seed and of the folder's name: a change in the drawing needs a new number.
VERSION = 1
TRAIN_IMAGES, TEST_IMAGES = 40, 20
#: A part with fewer visible pixels than this is not listed among an image's parts.
VISIBLE_PIXELS = 8
#: An abandoned half-made guide is removed when it is older than this.
STALE_SECONDS = 3600
MAX_PROCESSES = 16

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plate:
    """One image to draw: which bird, and where."""

    split: str
    label: int
    index: int
    habitat: str

    @property
    def name(self) -> str:
        """The image's path in the guide, and its sample's id."""
        return f"{self.split}/{SPECIES[self.label].slug}/{self.index + 1:04d}.png"


def plan(seed: int, habitat_bias: float) -> list[tuple[Plate, ...]]:
    """Every plate of the guide, grouped by the bird that it shows: a test bird is on two plates, its own and a swapped.

    The chance that decides for or against the home habitat is the same at every bias, so guides of two biases differ
    in as few images as they can.
    """
    birds: list[tuple[Plate, ...]] = []
    for label, species in enumerate(SPECIES):
        for index in range(TRAIN_IMAGES):
            dice = Dice(VERSION, seed, "where", "train", species.slug, index)
            at_home, anywhere = dice() < habitat_bias, dice.pick(HABITATS)
            birds.append((Plate("train", label, index, species.home if at_home else anywhere),))
        for index in range(TEST_IMAGES):
            # Every five test images of a species visit each habitat once
            block, place = divmod(index, len(HABITATS))
            habitat = Dice(VERSION, seed, "where", "test", species.slug, block).shuffled(HABITATS)[place]
            others = [name for name in HABITATS if name not in (habitat, species.home)]
            swapped = Dice(VERSION, seed, "where", "swapped", species.slug, index).pick(others)
            birds.append((Plate("test", label, index, habitat), Plate("swapped", label, index, swapped)))
    return birds


def draw_plates(plates: tuple[Plate, ...], seed: int) -> Iterator[tuple[Plate, Image.Image, Image.Image]]:
    """Draw the plates of one bird: each with its image and its mask."""
    first = plates[0]
    species: Species = SPECIES[first.label]
    dice = Dice(VERSION, seed, "bird", first.split, species.slug, first.index)
    light = draw_light(dice)
    bird = draw_bird(species, dice)
    for plate in plates:
        scenery = Dice(VERSION, seed, "scenery", plate.split, species.slug, plate.index, plate.habitat)
        image, mask = compose(bird, plate.habitat, light, scenery)
        yield plate, image, mask


def measure(mask: Image.Image) -> tuple[list[float], list[list]]:
    """The object's box and its visible parts, `[name, x, y]`, as fractions of the image.

    A part's point is the pixel of the part nearest to its centre of gravity, so it lies on the part even where that
    is a crescent.
    """
    values = np.asarray(mask)
    side = values.shape[0]
    # The image's pixels row by row; whole numbers throughout, so that ties fall alike everywhere
    rows, columns = np.divmod(np.flatnonzero(values), side)
    kinds = values[rows, columns]
    left, top = int(columns.min()), int(rows[0])
    box = [left / side, top / side, (int(columns.max()) + 1 - left) / side, (int(rows[-1]) + 1 - top) / side]
    order = np.argsort(kinds, kind="stable")
    rows, columns = rows[order], columns[order]
    parts, start = [], 0
    for value, count in enumerate(np.bincount(kinds, minlength=len(MASK_PARTS) + 1).tolist()):
        x, y = columns[start : start + count], rows[start : start + count]
        start += count
        if count < VISIBLE_PIXELS:
            continue
        nearest = int(np.argmin((x * count - x.sum()) ** 2 + (y * count - y.sum()) ** 2))
        parts.append([MASK_PARTS[value], (int(x[nearest]) + 0.5) / side, (int(y[nearest]) + 0.5) / side])
    return box, parts


def write_plates(folder: Path, plates: tuple[Plate, ...], seed: int) -> Iterator[dict]:
    """Draw one bird's plates into the folder; yields what the index says about each."""
    for plate, image, mask in draw_plates(plates, seed):
        write_png(folder / plate.name, image)
        write_png(folder / "masks" / plate.name, mask)
        box, parts = measure(mask)
        yield {
            "id": plate.name,
            "label": plate.label,
            "split": plate.split,
            "habitat": plate.habitat,
            "box": box,
            "parts": parts,
        }


def guide_folder(data_root: Path, seed: int, habitat_bias: float) -> Path:
    """Where the guide of this version, seed and bias is kept."""
    key = hashlib.sha256(f"{VERSION}/{seed}/{habitat_bias!r}".encode()).hexdigest()[:8]
    return data_root / f"fieldguide-{key}"


def read_index(folder: Path) -> dict | None:
    """What `index.json` says, or None where there is no whole guide."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return index if isinstance(index, dict) and index.get("version") == VERSION else None


def build_guide(folder: Path, *, seed: int, habitat_bias: float, progress: Progress | None = None) -> None:
    """Draw the whole guide into a folder beside `folder`, then put it in place under its name in one step.

    Any number of processes may do so at once: the first to finish wins, and the others use what it made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise DatasetError(
            f"the field guide cannot be drawn into {folder.parent}: {error.strerror or error}",
            "Name another folder with --data-root.",
        ) from error
    _sweep(folder)
    try:
        # A temporary folder is the maker's alone; the guide may be shared
        draft.chmod(0o755)
        birds = plan(seed, habitat_bias)
        for split in ("train", "test", "swapped"):
            for species in SPECIES:
                (draft / split / species.slug).mkdir(parents=True)
                (draft / "masks" / split / species.slug).mkdir(parents=True)
        records = _draw_in_children(draft, birds, seed, habitat_bias, progress)
        order = {plate.name: place for place, plate in enumerate(plate for plates in birds for plate in plates)}
        records.sort(key=lambda record: order[record["id"]])
        index = {
            "version": VERSION,
            "seed": seed,
            "habitat_bias": habitat_bias,
            "classes": [species.name for species in SPECIES],
            "mask_parts": {str(value): name for value, name in MASK_PARTS.items()},
            "samples": records,
        }
        (draft / "index.json").write_text(json.dumps(index), encoding="utf-8")
        _put_in_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _put_in_place(draft: Path, folder: Path) -> None:
    for _ in range(3):
        try:
            draft.rename(folder)
        except OSError:
            if read_index(folder) is not None:
                return
            # A folder of that name without a whole index is nobody's guide: set it aside, to go with the draft
            if folder.exists():
                aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
                folder.rename(aside / "broken")
                shutil.rmtree(aside, ignore_errors=True)
        else:
            return
    raise DatasetError(f"the field guide could not be put into {folder}", "Check that the folder can be written to.")


def _sweep(folder: Path) -> None:
    """Remove what builds left behind that were killed long ago."""
    for draft in folder.parent.glob(f".{folder.name}-*"):
        try:
            if time.time() - draft.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(draft, ignore_errors=True)
        except FileNotFoundError:
            pass


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _draw_in_children(
    draft: Path, birds: list[tuple[Plate, ...]], seed: int, habitat_bias: float, progress: Progress | None
) -> list[dict]:
    total = sum(len(plates) for plates in birds)
    count = max(1, min(_processors(), MAX_PROCESSES))
    environment = dict(os.environ)
    home = str(Path(__file__).resolve().parents[3])
    environment["PYTHONPATH"] = os.pathsep.join(p for p in (home, environment.get("PYTHONPATH", "")) if p)
    # One drawing process per core: threads of NumPy's linear algebra would only be in each other's way
    environment["OPENBLAS_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", "sam_core.datasets.fieldguide.build", str(draft.resolve())]
    command += ["--seed", str(seed), "--habitat-bias", repr(habitat_bias), "--of", str(count)]

    records: list[dict] = []

    def listen(stream: IO[str]) -> None:
        for line in stream:
            records.append(json.loads(line))

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        children = [
            subprocess.Popen(
                [*command, "--share", str(share)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                # Python looks for modules where it stands, before anywhere else
                cwd=home,
                env=environment,
                text=True,
                encoding="utf-8",
            )
            for share in range(count)
        ]
        listeners = [threading.Thread(target=listen, args=(child.stdout,), daemon=True) for child in children]
        try:
            for listener in listeners:
                listener.start()
            reported = -1
            while True:
                working = [listener for listener in listeners if listener.is_alive()]
                # Reported from this thread alone: a progress bar need not be safe for several
                if progress is not None and len(records) != reported:
                    reported = len(records)
                    progress(reported, total)
                if not working:
                    break
                working[0].join(timeout=0.05)
            codes = [child.wait() for child in children]
        finally:
            for child in children:
                if child.poll() is None:
                    child.kill()
                    child.wait()
            for child, listener in zip(children, listeners, strict=True):
                # Closing a pipe under its reader would raise there
                if listener.ident is not None:
                    listener.join()
                child.stdout.close()
        if any(codes) or len(records) != total:
            complaints.seek(0)
            lines = [line.strip() for line in complaints.read().splitlines() if line.strip()]
            raise DatasetError(
                f"the field guide could not be drawn: {lines[-1] if lines else f'exit codes {codes}'}",
                f"Check that there is space left in {draft.parent} and that it can be written to.",
            )
    return records


def main() -> None:
    """Draw one share of a guide; prints one JSON object per image."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--habitat-bias", type=float, required=True)
    parser.add_argument("--share", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    arguments = parser.parse_args()
    # There is nothing to collect that is not freed at once, and looking for it takes time
    gc.disable()
    for plates in plan(arguments.seed, arguments.habitat_bias)[arguments.share :: arguments.of]:
        for record in write_plates(arguments.folder, plates, arguments.seed):
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
