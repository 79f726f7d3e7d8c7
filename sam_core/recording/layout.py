"""What a run leaves on disk: the names of its files, and how they are replaced without ever being half there.

config.json          the whole configuration, with its format version
environment.json     versions, device, threads, git revision
status.json          state, process, progress, error; replaced atomically
metrics.jsonl        one JSON object a line: steps and epochs
samples.json         every recorded sample
attention/           one memory-mapped array per map: (samples, recording points, H, W)
last.pt              what resuming needs
model.safetensors    the trained weights, and nothing else
classes.json         the classes in label order, and what using the model needs
kept/                weights of earlier epochs, with --keep-checkpoints
log.txt              what the run said
worker.txt           what the process printed, of a run that the explorer started
notes.json           the name and the notes that people gave it
evaluation.json      what `evaluate` found
views/               pictures and masks of the recorded samples, in a run that travelled without its photographs
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
STATUS = "status.json"
METRICS = "metrics.jsonl"
SAMPLES = "samples.json"
ATTENTION = "attention"
LAST = "last.pt"
MODEL = "model.safetensors"
CLASSES = "classes.json"
KEPT = "kept"
LOG = "log.txt"
WORKER_OUTPUT = "worker.txt"
NOTES = "notes.json"
EVALUATION = "evaluation.json"
VIEWS = "views"
LOCK = "lock"
#: In attention/: the ids of the recorded samples in the order of the arrays' first axis.
IDS = "ids.json"

#: The maps recorded for each image, in the order the explorer shows them. `cam`, `gradcam` and `learned` are for the
#: true label, the `_predicted` ones for the class predicted at that epoch, `energy` is the plain mean of the features.
MAP_KINDS = ("cam", "gradcam", "learned", "cam_predicted", "gradcam_predicted", "energy")

STATES = ("queued", "running", "stopping", "stopped", "finished", "failed")

#: A surrogate without its other half: JSON can name it, and no encoding can write it.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def map_file(folder: Path, kind: str) -> Path:
    """The array of one kind of map: float16 (samples, points, H, W)."""
    return folder / ATTENTION / f"{kind.replace('+', 'p')}.npy"


def view_file(folder: Path, row: int) -> Path:
    """The picture that a packed run carries of a sample, by its place in samples.json: the recorded view, JPEG."""
    return folder / VIEWS / f"{row:05d}.jpg"


def mask_file(folder: Path, row: int) -> Path:
    """The mask of that view: PNG, grey, not 0 on the object."""
    return folder / VIEWS / f"{row:05d}-mask.png"


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary sibling to write; on success it takes `path`'s place at once, on failure nothing changes.

    `durable` waits until the disk has it, so that it survives a power cut too, not only the end of the process.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if durable:
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any, *, indent: int | None = 2, durable: bool = True) -> None:
    """Replace `path` with `value` as JSON, atomically. What is not finite has no place in JSON and becomes null."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_text(dump_json(value, indent=indent) + "\n", encoding="utf-8")


def dump_json(value: Any, *, indent: int | None = None) -> str:
    """`value` as strict JSON: NaN and infinities become null, so that every reader in the world can parse it.

    Whatever `json.loads` has returned can be written: half a character is named as JSON names it.
    """
    text = json.dumps(_finite(value), ensure_ascii=False, indent=indent, allow_nan=False)
    return text if text.isascii() else _HALF_CHARACTER.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
