"""Strangers' image files: upright RGB, or one sentence that says why not."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_core.datasets.images import ImageError, is_image_name, read_image


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "1", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, suffix: str):
    level = 255 if mode == "1" else 200  # a grey would be dithered to black and white
    image = Image.new("L", (8, 6), level).convert(mode) if mode != "I;16" else Image.new("I;16", (8, 6), level * 257)
    if mode == "I;16" and suffix == ".webp":
        return  # Pillow writes such a file, but with its values cut off
    path = tmp_path / f"a{suffix}"
    try:
        image.save(path)
    except OSError:
        return  # the format cannot hold this mode, so nobody has such a file
    read = read_image(path)
    assert (read.mode, read.size) == ("RGB", (8, 6))
    assert abs(int(np.asarray(read).mean()) - level) <= 12


def test_exif_orientation_is_honoured(tmp_path: Path):
    image = Image.new("RGB", (40, 20))
    image.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    read = read_image(save(tmp_path / "turned.jpg", image, exif=exif))
    assert read.size == (20, 40)
    assert read.getpixel((10, 5))[0] > 200
    assert read.getpixel((10, 35))[0] < 50


def test_transparency_is_laid_over_white(tmp_path: Path):
    read = read_image(save(tmp_path / "a.png", Image.new("RGBA", (4, 4), (0, 0, 0, 0))))
    assert read.getpixel((0, 0)) == (255, 255, 255)


def test_a_reduced_decode_is_never_smaller_than_asked(tmp_path: Path):
    path = save(tmp_path / "a.jpg", Image.new("RGB", (1000, 600)))
    assert min(read_image(path, at_least=256).size) >= 256
    assert read_image(path, at_least=256).width < 1000


def test_wrong_files_are_refused_in_one_sentence(tmp_path: Path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is no photograph")
    whole = save(tmp_path / "whole.jpg", Image.effect_noise((300, 300), 90)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    cases = {"empty.jpg": "empty", "text.jpg": "not a JPEG", "cut.jpg": "damaged", "none.jpg": "does not exist"}
    for name, word in cases.items():
        with pytest.raises(ImageError, match=word) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_an_image_that_claims_to_be_enormous_is_refused_before_decoding(tmp_path: Path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for name, width, height in (("wide", 60_000, 10), ("huge", 20_000, 20_000)):
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        path = tmp_path / f"{name}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b""))
        with pytest.raises(ImageError, match="make it smaller"):
            read_image(path)


def test_names_in_any_case_are_images_and_hidden_files_are_not():
    assert is_image_name(Path("A.JPEG"))
    assert is_image_name(Path("a.WebP"))
    assert not is_image_name(Path(".a.jpg"))
    assert not is_image_name(Path("a.txt"))
