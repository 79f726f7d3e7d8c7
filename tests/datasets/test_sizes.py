"""The sizes of photographs from their heads, and what is marked on them turned upright with them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from sam_core.datasets.images import read_image
from sam_core.datasets.sizes import image_frames, image_sizes
from sam_core.datasets.upright import Frame
from tests.datasets.miniatures import READABLE, draw_object, frame_of, write_picture


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_size_is_that_of_the_image_as_it_is_read(tmp_path: Path, suffix: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (40, 24)).save(path, exif=exif)
    (size,) = image_sizes([path])
    assert size == read_image(path).size
    assert image_frames([path]) == [Frame(40, 24, orientation)]


@pytest.mark.parametrize("kind", READABLE)
def test_every_kind_of_image_has_a_size(tmp_path: Path, kind: str):
    path = write_picture(tmp_path / "a.jpg", draw_object(0, 0), kind)
    width, height = frame_of(0)
    assert image_sizes([path]) == [(height, width) if kind == "rotated" else (width, height)]


def test_what_has_no_readable_head_has_no_size_and_the_order_stays(tmp_path: Path):
    kinds = ["rgb", "empty", "text", "grey", "truncated"]
    paths = [write_picture(tmp_path / f"{kind}.jpg", draw_object(2, 0), kind) for kind in kinds]
    paths += [tmp_path / "missing.jpg", tmp_path]
    steps: list[tuple[int, int]] = []
    size = frame_of(2)
    expected = [size, None, None, size, size, None, None]
    assert image_sizes(paths * 40, lambda done, total: steps.append((done, total))) == expected * 40
    assert steps[-1] == (280, 280)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


@pytest.mark.parametrize("value", [0, 9, 700])
def test_an_orientation_that_does_not_exist_counts_as_upright(tmp_path: Path, value: int):
    path = write_picture(tmp_path / "a.jpg", draw_object(0, 0), "rotated", orientation=value)
    assert image_frames([path]) == [Frame(*frame_of(0))]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_damaged_exif_block_counts_as_upright(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (40, 24)).save(path, exif=b"Exif\0\0no such byte order")
    assert image_frames([path]) == [Frame(40, 24)]
    assert read_image(path).size == (40, 24)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.jpg")
    assert image_sizes([tmp_path / "a.jpg"]) == [None]


def test_no_pixel_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = [write_picture(tmp_path / f"{kind}.jpg", draw_object(0, 0), kind) for kind in READABLE]
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image.filename))
    assert None not in image_sizes(paths)
    assert decoded == []


def test_twelve_thousand_heads_are_read_in_seconds(tmp_path: Path):
    paths = []
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 255, (375, 500, 3), dtype=np.uint8)
        paths.append(write_picture(tmp_path / f"{number}.jpg", Image.fromarray(noise)))
    start = time.process_time()  # of this process alone, whatever else the machine does
    assert image_sizes(paths * 3000) == [(500, 375)] * 12_000
    assert time.process_time() - start < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_and_points_turn_with_the_image(tmp_path: Path, orientation: int):
    """A white box and a red pixel are drawn as stored; they must be found where the upright image shows them."""
    left, top, right, bottom, x, y = 8, 4, 24, 12, 33, 17
    stored = Image.new("RGB", (40, 24))
    stored.paste("white", (left, top, right, bottom))
    stored.putpixel((x, y), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    stored.save(path, exif=exif)
    shown = np.asarray(read_image(path))  # (H, W, 3)
    height, width, _ = shown.shape

    (frame,) = image_frames([path])
    box = frame.box(left, top, right, bottom)
    rows, columns = np.nonzero(shown[..., 1] == 255)
    expected = (columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min())
    assert [part * side for part, side in zip(box, (width, height) * 2, strict=True)] == pytest.approx(expected)

    fractions = frame.point(x + 0.5, y + 0.5)  # the middle of the pixel
    ((row, column),) = np.argwhere((shown == (255, 0, 0)).all(axis=2))
    assert (fractions[0] * width, fractions[1] * height) == pytest.approx((column + 0.5, row + 0.5))


def test_a_box_is_cut_at_the_edge_of_its_image():
    frame = Frame(40, 20)
    assert frame.box(-10, 5, 20, 25) == (0, 0.25, 0.5, 0.75)
    assert frame.box(0, 0, 40, 20) == (0, 0, 1, 1)
    assert frame.box(40, 0, 50, 20) is None
    assert frame.box(5, 5, 5, 10) is None
    assert frame.box(9, 5, 5, 10) is None


def test_a_point_outside_its_image_is_none_but_for_what_rounding_does():
    frame = Frame(40, 20)
    assert frame.point(-0.4, 20.5) == (0, 1)
    assert frame.point(41, 5) is None
    assert frame.point(5, -1) is None
