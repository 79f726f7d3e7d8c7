"""What the files of a run folder may hold. A run can come from anyone, and disks fail: nothing is believed unchecked.

Each function returns what it was given as the program needs it, or raises `ValueError` with the reason, which follows
the file's name in a sentence. Nothing is unpickled.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sam_core.config import PSEUDO_ATTENTIONS, ConfigError, RunConfig
from sam_core.recording import layout

#: A recorded map has at most so many cells a side: the largest image, 1,024 pixels, at the finest stride, 4.
MAX_GRID = 256
KNOWN_KINDS = tuple(dict.fromkeys((*layout.MAP_KINDS, *PSEUDO_ATTENTIONS)))
META = f"{layout.ATTENTION}/meta.json"
IDS = f"{layout.ATTENTION}/{layout.IDS}"
#: The number type and shape of an array.
ArrayForm = tuple[np.dtype, tuple[int, ...]]

#: An array's header is shorter than this.
_HEAD_BYTES = 1 << 12
#: A reason quotes no more than this of what is wrong.
_QUOTED = 200


# --- JSON -----------------------------------------------------------------------------------------------------------


def parse_json(data: bytes) -> Any:
    """The value of a JSON file, or of one line of metrics.jsonl."""
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {brief(error)}") from error


def as_object(value: Any) -> dict[str, Any]:
    """`value`, if it is a JSON object."""
    if not isinstance(value, dict):
        raise ValueError("it must be an object")
    return value


def as_config(value: Any) -> RunConfig:
    """The configuration that config.json holds."""
    try:
        return RunConfig.from_json(as_object(value))
    except ConfigError as error:
        raise ValueError(brief(error)) from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # numbers beyond what a float holds
        raise ValueError(f"it holds what cannot be: {brief(error)}") from error


def as_status(value: Any) -> dict[str, Any]:
    """status.json. Who wrote it may not have written all of it."""
    status = as_object(value)
    for name in ("epoch", "epochs", "step", "steps"):
        if not is_count(status.get(name, 0)):
            raise ValueError(f"{name} must be a count")
    if not isinstance(status.get("error"), dict | None):
        raise ValueError("error must be an object or null")
    return status


def as_samples(value: Any) -> list[dict[str, Any]]:
    """samples.json: a list of objects that each have an id."""
    if not isinstance(value, list):
        raise ValueError("it must be a list")
    for row, sample in enumerate(value):
        if not isinstance(sample, dict) or not isinstance(sample.get("id"), str):
            raise ValueError(f"entry {row} must be an object with an id")
        if not (sample.get("label") is None or is_count(sample["label"])):
            raise ValueError(f"the label of entry {row} must be a count or null")
        if not isinstance(sample.get("split"), str | None):
            raise ValueError(f"the split of entry {row} must be a name or null")
        if not isinstance(sample.get("mask"), str | None):
            raise ValueError(f"the mask of entry {row} must be a name or null")
        if not _is_range(sample.get("mask_on", [1, 255])):
            raise ValueError(f"mask_on of entry {row} must be the first and last value on the object")
    return value


def as_ids(value: Any) -> list[str]:
    """attention/ids.json: the ids of the recorded samples."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("it must be a list of ids")
    return value


def as_classes(value: Any) -> list[str]:
    """The names that classes.json has, in label order."""
    classes = as_object(value).get("classes")
    if not isinstance(classes, list) or not all(isinstance(item, str) for item in classes):
        raise ValueError("it must name the classes")
    return classes


def as_input_form(value: Any) -> dict[str, Any]:
    """classes.json as using the network needs it: also `mean` and `std` of its input, `steps`, `steps_per_epoch`."""
    as_classes(value)
    for name in ("mean", "std"):
        if not isinstance(value.get(name), list) or len(value[name]) != 3 or not all(map(_is_finite, value[name])):
            raise ValueError(f"{name} must be three numbers")
    for name in ("steps", "steps_per_epoch"):
        if not is_count(value.get(name)):
            raise ValueError(f"{name} must be a count")
    return value


def as_recording(value: Any) -> dict[str, Any]:
    """attention/meta.json: the kinds of map, their grid, the planned epochs, and where the view lies."""
    meta = as_object(value)
    kinds, grid, epochs, view = (meta.get(key) for key in ("kinds", "grid", "epochs", "view"))
    if not isinstance(kinds, list) or any(kind not in KNOWN_KINDS for kind in kinds):
        raise ValueError(f"kinds must be among {', '.join(KNOWN_KINDS)}")
    if not isinstance(grid, list) or len(grid) != 2 or not all(is_count(n) and 1 <= n <= MAX_GRID for n in grid):
        raise ValueError(f"grid must be two counts from 1 to {MAX_GRID}")
    if not isinstance(epochs, list) or not all(is_count(epoch) for epoch in epochs) or sorted(set(epochs)) != epochs:
        raise ValueError("epochs must be rising counts")
    if not isinstance(view, list) or len(view) != 4 or not all(_is_share(part) for part in view):
        raise ValueError("view must be four fractions")
    return meta


def is_count(value: Any) -> bool:
    """Whether this is a whole number from 0 that fits into 31 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_finite(value: Any) -> bool:
    # nan compares false; a whole number can be longer than any float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(is_count(end) and end < 256 for end in value)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


# --- Arrays ---------------------------------------------------------------------------------------------------------


def expected_arrays(meta: Mapping[str, Any], samples: int) -> dict[str, ArrayForm]:
    """The arrays of a recording by their names in attention/, without the suffix.

    Args:
        meta: from `as_recording`.
        samples: how many are recorded.
    """
    points = len(meta["epochs"])
    maps = {layout.map_file(Path(), kind).stem: (samples, points, *meta["grid"]) for kind in meta["kinds"]}
    return {
        "predicted": (np.dtype(np.int32), (samples, points)),
        "confidence": (np.dtype(np.float32), (samples, points)),
        "epochs": epochs_form(meta),
        **{stem: (np.dtype(np.float16), shape) for stem, shape in maps.items()},
    }


def epochs_form(meta: Mapping[str, Any]) -> ArrayForm:
    """The form of epochs.npy, in a recording as `as_recording` gives it."""
    return np.dtype(np.int32), (len(meta["epochs"]),)


def check_array(file: BinaryIO, size: int, form: ArrayForm) -> int:
    """As `check_array_form`; the file must also be as long as its header says.

    Args:
        file: open for reading, at its beginning.
        size: the file's length in bytes.
        form: what the array must be.
    """
    begin = check_array_form(file, form)
    dtype, shape = form
    if size != begin + math.prod(shape) * dtype.itemsize:
        raise ValueError("its length is not what its header says")
    return begin


def check_array_form(file: BinaryIO, form: ArrayForm) -> int:
    """Read an array's header and nothing else; it must be the one expected.

    Args:
        file: open for reading, at its beginning.
        form: what the array must be.

    Returns:
        Where its numbers begin, in bytes.
    """
    head = io.BytesIO(file.read(_HEAD_BYTES))
    dtype, shape = form
    try:
        version = np.lib.format.read_magic(head)
        found_shape, fortran_order, found_dtype = np.lib.format.read_array_header_1_0(head)
    except Exception as error:  # the header is a Python literal; a broken one raises many kinds
        raise ValueError("it is no array") from error
    if version != (1, 0) or fortran_order or found_dtype != dtype:
        raise ValueError(f"it must be a plain array of {dtype}")
    if found_shape != shape:
        raise ValueError(f"its shape is {found_shape}, the recording's {shape}")
    return head.tell()


def whole_points(recorded: np.ndarray, planned: Sequence[int]) -> np.ndarray:
    """Which recording points are whole: their places, rising.

    Args:
        recorded: (points,) epochs.npy: at each point its epoch, or -1.
        planned: the epochs of meta.json.
    """
    done = np.flatnonzero(recorded >= 0)
    if not np.array_equal(recorded[done], np.asarray(planned, dtype=recorded.dtype)[done]):
        raise ValueError("it names epochs that were not planned")
    return done


def brief(error: object) -> str:
    """What an error says, on one line, not too long, in characters that can be seen: a stranger may choose them."""
    text = " ".join(str(error).split())[:_QUOTED]
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
