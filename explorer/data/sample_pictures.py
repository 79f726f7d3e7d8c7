"""The pictures of a dataset's samples: small for lists, large to look at, and the mask that goes with the large one."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from explorer.places import Places
from sam_core.datasets.base import Sample
from sam_core.datasets.images import ImageError, read_image, read_mask
from sam_core.datasets.sizes import image_sizes
from sam_core.recording.views import PictureError

#: The side of a thumbnail and the long side of a large picture, in pixels.
THUMB_SIDE, LARGE_SIDE = 160, 960
#: Thumbnails that are kept, of some 6 kB each: a class looks at the same ones, each in a browser of its own.
KEPT_THUMBS = 2000


def readable(places: Places, path: Path) -> tuple[Path, str]:
    """A file, links followed, and a name for its present state (an ETag).

    Raises:
        PictureError: if it is not there, or not within the folders that the server may read.
    """
    # A device or a pipe could keep the reader waiting for ever.
    if not places.may_read(path) or not path.is_file():
        raise PictureError(
            f"{path.name}: there is no such file within the folders that this server may read",
            "put it back, or start the explorer with --data-root FOLDER",
        )
    try:
        real = path.resolve()
        about = real.stat()
    except OSError as error:
        raise PictureError(f"{path.name} cannot be read: {error.strerror}") from error
    return real, f'"{about.st_mtime_ns:x}-{about.st_size:x}"'


@lru_cache(maxsize=KEPT_THUMBS)
def thumbnail(path: Path, tag: str) -> bytes:
    """The middle of a photograph as a small square JPEG; kept as long as the file's `tag` stays.

    Raises:
        PictureError: if the photograph is damaged.
    """
    with _picture_errors(path):
        image = read_image(path, at_least=THUMB_SIDE)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = (left, top, left + side, top + side)
    small = image.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BICUBIC, box=square, reducing_gap=2.0)
    return _encoded(small, "JPEG", quality=80)


def large_picture(path: Path) -> bytes:
    """A whole photograph as JPEG, no side longer than `LARGE_SIDE`.

    Raises:
        PictureError: if the photograph is damaged.
    """
    with _picture_errors(path):
        image = read_image(path, at_least=LARGE_SIDE)
    image.thumbnail((LARGE_SIDE, LARGE_SIDE), Image.Resampling.LANCZOS)
    return _encoded(image, "JPEG", quality=90)


def mask_picture(path: Path, on: tuple[int, int]) -> bytes:
    """An object's mask as PNG, white on the object, no side longer than `LARGE_SIDE`.

    Raises:
        PictureError: if the file is no mask.
    """
    with _picture_errors(path):
        mask = read_mask(path, on=on)
    mask.thumbnail((LARGE_SIDE, LARGE_SIDE), Image.Resampling.NEAREST)
    return _encoded(mask, "PNG")


def facts(places: Places, sample: Sample) -> dict[str, Any]:
    """What is known of one sample: `width`, `height` (upright, in pixels), `bytes`, `box`, `parts`, `mask`.

    What cannot be found out is None: a photograph may be missing or damaged.
    """
    try:
        path, _ = readable(places, sample.path)
        size, file_size = image_sizes([path])[0], path.stat().st_size
    except (PictureError, OSError):
        size = file_size = None
    return {
        "id": sample.id,
        "width": size[0] if size else None,
        "height": size[1] if size else None,
        "bytes": file_size,
        "box": sample.box,
        "parts": [[part.name, part.x, part.y] for part in sample.parts],
        "mask": sample.mask_path is not None,
    }


@contextlib.contextmanager
def _picture_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise PictureError(f"{path.name}: {error}") from error


def _encoded(picture: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **settings)
    return buffer.getvalue()
