"""Opening strangers' image files: every photograph upright, RGB, bounded in size, or an error that says why not."""

from __future__ import annotations

import contextlib
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
#: Beyond these an image is refused before a pixel of it is decoded: a few bytes can claim gigabytes.
MAX_SIDE = 30_000
MAX_PIXELS = 80_000_000
# Pillow warns of large images, and refuses larger ones; we refuse before either, and name the limit.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Cameras and editors write odd EXIF blocks; the picture is whole, and nobody can act on the warning.
warnings.filterwarnings("ignore", message="Corrupt EXIF data|Truncated File Read", category=UserWarning)

#: What makes an image upright, by the value of its EXIF orientation; 1 is upright already.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ON_ITS_SIDE = (5, 6, 7, 8)


class ImageError(ValueError):
    """A file that is no usable image; the message is one sentence without the path.

    Attributes:
        truncated: whether the file ends before the image does.
        lasting: whether the same bytes will be refused again; not so where memory or the disk failed.
    """

    def __init__(self, message: str, *, truncated: bool = False, lasting: bool = True) -> None:
        super().__init__(message)
        self.truncated = truncated
        self.lasting = lasting


def is_image_name(path: Path) -> bool:
    """Whether a file's name says that it is a photograph. Files that begin with a dot are not ours to read."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_image(path: Path, *, at_least: int | None = None) -> Image.Image:
    """Decode one image: EXIF orientation honoured, alpha laid over white, 16 bits reduced to 8, converted to RGB.

    Args:
        path: the file.
        at_least: if given, a JPEG may be decoded at reduced size, no side smaller than this: much faster.

    Raises:
        ImageError: if the file is missing, empty, not an image, truncated, or too large.
    """
    with open_file(path) as file:
        return decode_image(file, at_least=at_least)[0]


def read_mask(path: Path, on: tuple[int, int] = (1, 255)) -> Image.Image:
    """Decode an object's mask: mode L, 255 on the object, 0 beside it.

    Args:
        path: the file.
        on: the values of the file, first to last, that are on the object; by default whatever is not 0.

    Raises:
        ImageError: as `read_image`, and for a file in colour.
    """
    with open_file(path) as file:
        return decode_mask(file, on)


def open_file(path: Path) -> BinaryIO:
    """Open an image's file to read its bytes.

    Raises:
        ImageError: if it is missing, empty, or no plain file: a pipe would keep its reader waiting for ever.
    """
    with _image_errors():
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise ImageError("it is no plain file")
        if about.st_size == 0:
            raise ImageError("the file is empty (0 bytes)")
        return open(path, "rb")


def decode_image(file: BinaryIO, *, at_least: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """As `read_image`, from an open file; also the full width and height in pixels of the upright image.

    Raises:
        ImageError: if it is not an image, truncated, or too large.
    """
    with _image_errors(file):
        image = _open_checked(file)
        width, height = image.size
        if at_least is not None:
            image.draft("RGB", (at_least, at_least))
        image.load()
        if image.format in ("JPEG", "MPO") and _stops_in_zeros(file):
            raise ImageError("the image is damaged: the file is truncated, and filled up with zeros", truncated=True)
        # Asked for only now: Pillow turns a TIFF upright by itself when it loads it.
        orientation = _orientation(image)
        if orientation in ON_ITS_SIDE:
            width, height = height, width
        turn = UPRIGHT.get(orientation)
        return _to_rgb(image if turn is None else image.transpose(turn)), (width, height)


def decode_mask(file: BinaryIO, on: tuple[int, int] = (1, 255)) -> Image.Image:
    """As `read_mask`, from an open file."""
    with _image_errors(file):
        values = _one_channel(np.asarray(_open_checked(file)))
        first, last = on
        return Image.fromarray(np.where((values >= first) & (values <= last), 255, 0).astype(np.uint8))


def _one_channel(values: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, channels) -> (H, W): grey saved in colour, or with an alpha channel, is grey all the same."""
    if values.ndim == 2:
        return values
    colours = values[..., :3] if values.shape[2] > 2 else values[..., :1]  # without alpha
    if (colours != colours[..., :1]).any():
        raise ImageError("a mask must have one channel, or be grey in all")
    return colours[..., 0]


@contextlib.contextmanager
def _image_errors(file: BinaryIO | None = None) -> Iterator[None]:
    """Whatever reading a file raises becomes an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("the file does not exist") from None
    except PermissionError:
        raise ImageError("the file may not be read (permission denied)") from None
    except UnidentifiedImageError:
        raise ImageError("the file is not a JPEG, PNG, WebP, BMP or TIFF image") from None
    except MemoryError:
        raise ImageError("the image needs more memory than there is", lasting=False) from None
    except Exception as error:  # decoders raise many kinds for broken data; each means the same here
        if isinstance(error, OSError) and error.errno:
            raise ImageError(f"the file cannot be read: {error.strerror}", lasting=False) from None
        said = str(error).rstrip(".") or type(error).__name__
        truncated = "truncated" in said.lower() or (file is not None and _is_short_webp(file))
        raise ImageError(f"the image is damaged: {said}", truncated=truncated) from None


def _stops_in_zeros(file: BinaryIO) -> bool:
    """Whether a JPEG's pixels stop before their end mark: a download that was cut can have its full size already.

    The decoder takes zeros for grey.
    """
    zeros = bytes(16)
    file.seek(-min(len(zeros), file.seek(0, os.SEEK_END)), os.SEEK_END)
    if file.read() != zeros:
        return False
    file.seek(0)
    data = file.read()
    # Within pixels 0xff is never followed by 0xd9, the end of the image; 0xffda starts them.
    return data.find(b"\xff\xd9", data.rfind(b"\xff\xda")) < 0


def _is_short_webp(file: BinaryIO) -> bool:
    """Whether a file is shorter than its RIFF header says: Pillow says no more than that it cannot be decoded."""
    file.seek(0)
    header = file.read(12)
    is_webp = header[:4] == b"RIFF" and header[8:] == b"WEBP"
    return is_webp and file.seek(0, os.SEEK_END) < 8 + int.from_bytes(header[4:8], "little")


def _open_checked(file: BinaryIO) -> Image.Image:
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(f"the image has more than {MAX_PIXELS // 10**6} million pixels; make it smaller") from None
    width, height = image.size
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        limit = f"{MAX_SIDE:,} pixels a side and {MAX_PIXELS // 10**6} million in all"
        raise ImageError(f"the image is {width:,} x {height:,} pixels, the limit is {limit}; make it smaller")
    return image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where the file does not say or its EXIF block is damaged."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as decoders do, Pillow's EXIF reader raises many kinds; the pixels are whole all the same
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(np.asarray(image))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _to_8_bits(values: np.ndarray) -> Image.Image:
    """Greys of 16 bits or more to 8; a plain conversion would clip nearly everything to white."""
    values = np.nan_to_num(values)
    highest = values.max()
    if values.dtype.kind == "f" and highest <= 1:
        white = 1
    elif highest > 255:
        white = 65535
    else:
        white = 255
    return Image.fromarray((values * (255 / white)).round().clip(0, 255).astype(np.uint8))
