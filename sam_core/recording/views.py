"""The picture behind a recorded map: the part of the photograph that the network saw, and the object's mask in it.

What samples.json says may come from strangers: every value is checked here, and whatever is wrong with it, or with the
file that it names, is a `PictureError`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sam_core.datasets.images import ImageError, read_image, read_mask
from sam_core.recording import layout
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunError

#: Whether a file may be read: called with an absolute path, links followed.
Allowed = Callable[[Path], bool]

#: A picture that is the view, not the photograph it was cut from.
WHOLE_FRAME = (0.0, 0.0, 1.0, 1.0)
#: A view is refused when one of its sides is a smaller share of the photograph: no run records such a one.
SMALLEST_VIEW = 0.01


class PictureError(RuntimeError):
    """A picture that cannot be shown: one sentence without the folder's name; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


# --- Cutting a view out of a photograph ---------------------------------------------------------------------------


def view_size(frame: tuple[int, int], view: Sequence[float], *, side: int) -> tuple[int, int]:
    """Width and height in pixels of a view in its photograph's own proportions, the long side `side`.

    Args:
        frame: width and height of the photograph.
        view: left, top, width, height as fractions of the photograph.
        side: the long side in pixels.
    """
    width, height = frame[0] * view[2], frame[1] * view[3]
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def cut_view(
    image: Image.Image,
    view: Sequence[float],
    size: tuple[int, int],
    *,
    method: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """Cut a view out of an image, exact to parts of a pixel, and bring it to `size`.

    Args:
        image: the whole frame.
        view: left, top, width, height as fractions of the frame.
        size: width and height of the result in pixels.
        method: how pixels are interpolated.
    """
    left, top, width, height = view
    box = (left * image.width, top * image.height, (left + width) * image.width, (top + height) * image.height)
    # Fractions that add up to 1 can do so with a rounding error, and a box outside the image is refused.
    inside = (max(0.0, box[0]), max(0.0, box[1]), min(image.width, box[2]), min(image.height, box[3]))
    return image.resize(size, method, box=inside)


# --- The pictures of a run ----------------------------------------------------------------------------------------


def view_picture(run: Run, row: int, *, side: int, allowed: Allowed | None = None) -> Image.Image:
    """What the network saw of a recorded sample, in the photograph's own proportions.

    A picture that the run carries itself is preferred; otherwise the photograph is read that samples.json names.

    Args:
        run: the run.
        row: the sample's place in samples.json.
        side: the long side of the result in pixels.
        allowed: whether a photograph may be read; left out, every one may.

    Returns:
        An RGB image.

    Raises:
        PictureError: if there is no such sample, or its picture is missing, damaged or not allowed.
    """
    photograph, view = _photograph(run, row, side, allowed)
    return cut_view(photograph, view, view_size(photograph.size, view, side=side))


def view_mask(run: Run, row: int, *, side: int, allowed: Allowed | None = None) -> Image.Image | None:
    """The object's mask in the view of a recorded sample: mode L, 255 on the object, 0 beside it.

    Args:
        run: the run.
        row: the sample's place in samples.json.
        side: the long side of the result in pixels.
        allowed: whether a file may be read; left out, every one may.

    Returns:
        An image of the size of `view_picture` at the same side, or None where the sample has no mask.

    Raises:
        PictureError: as `view_picture`, for the mask as well as for the picture that it belongs to.
    """
    sample = _sample(run, row)
    path, view, on = layout.mask_file(run.folder, row), WHOLE_FRAME, (1, 255)
    if not _is_own_file(run, path):
        if not sample.get("mask"):
            return None
        path, view = _named_file(sample, "mask", allowed), recorded_view(run)
        on = tuple(sample.get("mask_on", on))
    try:
        mask = read_mask(path, on=on)
    except ImageError as error:
        raise PictureError(f"{_shown(path.name)}: {error}") from error
    # Its own proportions can be a pixel off those of the picture, which it has to cover exactly.
    photograph, picture_view = _photograph(run, row, side, allowed)
    size = view_size(photograph.size, picture_view, side=side)
    return cut_view(mask, view, size, method=Image.Resampling.NEAREST)


def recorded_view(run: Run) -> tuple[float, float, float, float]:
    """Where the maps of a run lie in the photograph: left, top, width, height as fractions.

    Raises:
        PictureError: if the run does not say, or says what cannot be.
    """
    try:
        meta = run.attention_meta
    except RunError as error:
        raise PictureError(str(error), error.hint) from error
    view = meta.get("view") if isinstance(meta, dict) else None
    if isinstance(view, list) and len(view) == 4 and all(isinstance(value, int | float) for value in view):
        left, top, width, height = view
        spans = ((left, width), (top, height))
        if all(start >= 0 and length >= SMALLEST_VIEW and start + length <= 1 + 1e-6 for start, length in spans):
            return left, top, width, height
    raise PictureError(f"{layout.ATTENTION}/meta.json of run {run.id} does not say which part of a picture was seen")


def _photograph(
    run: Run, row: int, side: int, allowed: Allowed | None
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """A sample's picture, at least as large as asked for, and where the recorded view lies in it."""
    sample = _sample(run, row)
    path, view = layout.view_file(run.folder, row), WHOLE_FRAME
    if not _is_own_file(run, path):
        path, view = _named_file(sample, "path", allowed), recorded_view(run)
    try:
        # A JPEG is decoded no larger than needed: four times as fast for a camera's photographs.
        return read_image(path, at_least=math.ceil(side / min(view[2:]))), view
    except ImageError as error:
        raise PictureError(f"{_shown(path.name)}: {error}") from error


def _sample(run: Run, row: int) -> Mapping[str, Any]:
    """One entry of samples.json."""
    try:
        samples = run.samples
    except RunError as error:
        raise PictureError(str(error), error.hint) from error
    try:
        place = operator.index(row)
    except TypeError:
        place = -1
    if isinstance(samples, list) and 0 <= place < len(samples) and isinstance(samples[place], dict):
        return samples[place]
    raise PictureError(f"run {run.id} has recorded no image in row {_shown(row)}")


def _is_own_file(run: Run, path: Path) -> bool:
    """Whether the run folder has this file, and no link in it leads elsewhere."""
    try:
        return path.is_file() and path.resolve().is_relative_to(run.folder.resolve())
    except (OSError, RuntimeError):
        return False


def _named_file(sample: Mapping[str, Any], key: str, allowed: Allowed | None) -> Path:
    """The file that a sample names, links followed, if it may be read."""
    text, about = sample.get(key), _shown(sample.get("id"))
    if not isinstance(text, str) or not text:
        raise PictureError(f"{layout.SAMPLES} does not say where the picture of {about} is")
    path = Path(text)
    name = _shown(path.name)
    if not path.is_absolute():
        # A relative path would be looked for wherever this process happens to have been started.
        raise PictureError(
            f"the picture of {about} did not travel with the run", "pack the run again where its photographs are"
        )
    try:
        real = path.resolve()
        is_allowed = allowed is None or allowed(real)
        # A device or a pipe could keep the reader waiting for ever.
        is_file = is_allowed and real.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # no permission; a zero byte; links in a circle
        reason = getattr(error, "strerror", None) or "no file can have this name"
        raise PictureError(f"{name} cannot be read: {reason}") from error
    if not is_allowed:
        raise PictureError(
            f"the photograph {name} lies outside the folders this server may read",
            "start the explorer with --data-root FOLDER",
        )
    if not is_file:
        raise PictureError(f"{name}: the file does not exist", "put it back where it was during training")
    return real


def _shown(value: object) -> str:
    """A stranger's value within a sentence: not too long, and text that can be encoded."""
    return str(value)[:200].encode(errors="replace").decode()
