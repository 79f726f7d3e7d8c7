"""Opening strangers' image files: every photograph upright, RGB, bounded in size, or an error that says why not."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
#: Beyond these an image is refused before a pixel of it is decoded: a few bytes can claim gigabytes.
MAX_SIDE = 30_000
MAX_PIXELS = 80_000_000
# Pillow warns of large images, and refuses larger ones; we refuse before either, and name the limit.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageError(ValueError):
    """A file that is no usable image; the message is one sentence without the path."""


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
    try:
        if path.stat().st_size == 0:
            raise ImageError("the file is empty (0 bytes)")
        image = _open_checked(path)
        if at_least is not None:
            image.draft("RGB", (at_least, at_least))
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("the file does not exist") from None
    except UnidentifiedImageError:
        raise ImageError("the file is not a JPEG, PNG, WebP, BMP or TIFF image") from None
    except MemoryError:
        raise ImageError("the image needs more memory than there is") from None
    except Exception as error:  # decoders raise many kinds for broken data; each means the same here
        raise ImageError(f"the image is damaged: {str(error).rstrip('.') or type(error).__name__}") from None


def _open_checked(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(f"the image has more than {MAX_PIXELS // 10**6} million pixels; make it smaller") from None
    width, height = image.size
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        limit = f"{MAX_SIDE:,} pixels a side and {MAX_PIXELS // 10**6} million in all"
        raise ImageError(f"the image is {width:,} x {height:,} pixels, the limit is {limit}; make it smaller")
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # 16-bit greys: scale to 8 bits; a plain conversion would clip nearly everything to white.
        scale = 255 / 65535 if image.getextrema()[1] > 255 else 1
        image = image.point(lambda value: value * scale).convert("L")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
