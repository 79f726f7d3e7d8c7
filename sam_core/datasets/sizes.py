"""The sizes of many photographs from the heads of their files: no pixel is decoded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from PIL import ExifTags, Image

from sam_core.datasets.base import Progress
from sam_core.datasets.images import FORMATS
from sam_core.datasets.upright import Frame

#: Parsing holds the interpreter's lock, so threads only keep a slow disk busy; a few images at a time are enough.
_THREADS = 4
_CHUNK = 64


def image_sizes(paths: Sequence[Path], progress: Progress | None = None) -> list[tuple[int, int] | None]:
    """Width and height of each photograph as it is shown, in pixels; None where there is no readable image.

    Args:
        paths: the files.
        progress: told how many are done.
    """
    return [frame.upright_size if frame else None for frame in image_frames(paths, progress)]


def image_frames(paths: Sequence[Path], progress: Progress | None = None) -> list[Frame | None]:
    """The size and EXIF orientation of each photograph; None where there is no readable image.

    That a head can be read does not say that the pixels can.
    """
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    frames: list[list[Frame | None]] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for done in pool.map(lambda chunk: [_frame(path) for path in chunk], chunks):
            frames.append(done)
            if progress:
                progress(min(len(frames) * _CHUNK, len(paths)), len(paths))
    return list(chain.from_iterable(frames))


def _frame(path: Path) -> Frame | None:
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        return None
    try:
        with Image.open(path, formats=FORMATS) as image:
            orientation = _orientation(image)
            width, height = image.size
    except Exception:  # decoders raise many kinds for broken files; the image is named where it is decoded
        return None
    frame = Frame(width, height, orientation)
    # Pillow gives the size of a TIFF as it is shown, of all others as it is stored.
    return Frame(*frame.upright_size, orientation) if image.format == "TIFF" else frame


def _orientation(image: Image.Image) -> int:
    """EXIF's 1 to 8; 1 where the file says nothing, or nonsense."""
    try:
        # A PNG's own getexif would decode the pixels, in case that EXIF data come after them.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block: the photograph is shown as it is stored
        return 1
    return value if value in range(1, 9) else 1
