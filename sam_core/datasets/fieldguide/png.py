"""Writing PNG files quickly: hundreds of them are what drawing a guide mostly waits for."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

_COLOUR_TYPES = {"L": 0, "RGB": 2}
_ABOVE = 2


def write_png(path: Path, image: Image.Image) -> None:
    """Write an 8-bit image of mode L or RGB.

    Pillow tries five filters on every row and keeps the best. Always taking the difference to the row above needs
    two thirds of the time, and the files of drawn pictures grow by no more than a tenth.
    """
    pixels = np.asarray(image).reshape(image.height, -1)
    rows = np.empty((image.height, pixels.shape[1] + 1), dtype=np.uint8)
    rows[:, 0] = _ABOVE
    rows[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, _COLOUR_TYPES[image.mode], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
