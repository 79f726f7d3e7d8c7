"""Strangers' image files: upright RGB, or one sentence that says why not."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_core.datasets.images import ImageError, decode_image, is_image_name, open_file, read_image, read_mask


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


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


def png_of_16_bits(path: Path, kind: int, *values: int) -> Path:
    """A PNG of 8 x 8 pixels of these 16-bit values, written by hand: Pillow writes no colours of 16 bits."""
    header = struct.pack(">IIBBBBB", 8, 8, 16, kind, 0, 0, 0)
    row = b"\0" + struct.pack(f">{len(values)}H", *values) * 8
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row * 8)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def test_sixteen_bits_become_eight_whatever_the_file(tmp_path: Path):
    level = 150
    wide = np.full((8, 8), level * 257)
    files = {
        "little.tif": Image.fromarray(wide.astype("<u2")),
        "big.tif": Image.frombytes("I;16B", (8, 8), wide.astype(">u2").tobytes()),
        "long.tif": Image.fromarray(wide.astype(np.int32)),
        "share.tif": Image.fromarray((wide / 65535).astype(np.float32)),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
    png_of_16_bits(tmp_path / "grey.png", 0, level * 257)
    for name in (*files, "grey.png"):
        assert set(np.asarray(read_image(tmp_path / name)).ravel()) == {level}, name
    colours = read_image(png_of_16_bits(tmp_path / "colours.png", 2, 200 * 257, 30 * 257, 40 * 257))
    assert colours.getpixel((0, 0)) == (200, 30, 40)
    clear = read_image(png_of_16_bits(tmp_path / "clear.png", 6, 200 * 257, 30 * 257, 40 * 257, 0))
    assert clear.getpixel((0, 0)) == (255, 255, 255)


def test_every_grey_of_16_bits_is_rounded_to_the_nearest_of_8(tmp_path: Path):
    ramp = np.arange(0, 65536, dtype="<u2").reshape(256, 256)
    read = np.asarray(read_image(save(tmp_path / "ramp.png", Image.fromarray(ramp))))[..., 0]
    assert np.array_equal(read, np.round(ramp / 257).astype(np.uint8))


@pytest.mark.parametrize("at_least", [None, 16])
def test_inverted_cmyk_as_adobe_writes_it_keeps_its_colours(tmp_path: Path, at_least: int | None):
    red = Image.new("RGB", (64, 48), (200, 30, 40)).convert("CMYK")
    for path in (save(tmp_path / "a.jpg", red, quality=95), save(tmp_path / "a.tif", red)):
        assert Image.open(path).mode == "CMYK"
        assert np.abs(np.asarray(read_image(path, at_least=at_least)) - np.array([200.0, 30, 40])).max() <= 3
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_all_eight_orientations_end_upright(tmp_path: Path, suffix: str):
    upright = Image.new("RGB", (64, 32), "black")
    upright.paste("red", (0, 0, 32, 16))  # the upper left quarter
    turned_to = {  # what a camera held so stores
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    for orientation, turn in turned_to.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = upright if turn is None else upright.transpose(turn)
        path = save(tmp_path / f"{orientation}{suffix}", stored, exif=exif)
        with open_file(path) as file:
            read, size = decode_image(file, at_least=16)
        red = np.asarray(read.resize((64, 32)))[..., 0] > 128
        assert size == (64, 32)
        assert red[:14, :28].all(), orientation
        assert not red[18:].any(), orientation
        assert not red[:, 36:].any(), orientation


def test_a_damaged_exif_block_does_not_spoil_a_whole_picture(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", Image.new("RGB", (40, 20), "red"), exif=exif)
    whole = path.read_bytes()
    start = whole.index(b"Exif\0\0") + 6
    for place in range(start, start + 24):
        path.write_bytes(whole[:place] + b"\xee" + whole[place + 1 :])
        assert sorted(read_image(path).size) == [20, 40]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.jpg", {}),
        ("progressive.jpg", {"progressive": True}),
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.webp", {}),
    ],
)
def test_a_file_cut_anywhere_is_refused_and_never_half_grey(tmp_path: Path, name: str, options: dict):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    path = save(tmp_path / name, noise, **options)
    whole = path.read_bytes()
    for share in (0.3, 0.6, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        for at_least in (None, 8):
            with pytest.raises(ImageError, match="damaged") as caught:
                read_image(path, at_least=at_least)
            assert caught.value.truncated
            assert caught.value.lasting


def test_a_download_that_ends_in_zeros_is_refused(tmp_path: Path):
    path = save(tmp_path / "a.jpg", Image.effect_noise((300, 300), 90))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with pytest.raises(ImageError, match="filled up with zeros") as caught:
        read_image(path)
    assert caught.value.truncated
    path.write_bytes(whole + bytes(1000))  # some cameras fill up a file that is whole
    assert read_image(path).size == (300, 300)


def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path: Path):
    (tmp_path / "folder.jpg").mkdir()
    names = ["folder.jpg"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for somebody who writes
        names.append("pipe.jpg")
    for name in names:
        with pytest.raises(ImageError, match="no plain file"):
            read_image(tmp_path / name)


def test_a_failing_disk_is_not_held_against_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(tmp_path / "a.png", Image.new("RGB", (8, 8)))

    def failing(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Image, "open", failing)
    with pytest.raises(ImageError, match="Input/output error") as caught:
        read_image(path)
    assert not caught.value.lasting


def test_a_mask_is_where_its_values_are_in_range(tmp_path: Path):
    values = np.array([[0, 1, 2, 3, 255]], np.uint8)
    path = save(tmp_path / "mask.png", Image.fromarray(values))
    assert np.asarray(read_mask(path)).tolist() == [[0, 255, 255, 255, 255]]
    assert np.asarray(read_mask(path, on=(1, 1))).tolist() == [[0, 255, 0, 0, 0]]
    assert np.asarray(read_mask(path, on=(2, 3))).tolist() == [[0, 0, 255, 255, 0]]
    palette = save(tmp_path / "palette.png", Image.fromarray(values).convert("P"))
    assert np.asarray(read_mask(palette, on=(1, 1))).tolist() == [[0, 255, 0, 0, 0]]
    for mode in ("LA", "RGB", "RGBA"):
        grey = save(tmp_path / f"{mode}.png", Image.fromarray(values).convert(mode))
        assert np.asarray(read_mask(grey, on=(2, 3))).tolist() == [[0, 0, 255, 255, 0]]
    with pytest.raises(ImageError, match="one channel"):
        read_mask(save(tmp_path / "colour.png", Image.new("RGB", (4, 4), "red")))
