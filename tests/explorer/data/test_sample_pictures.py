from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from explorer.data.sample_pictures import (
    LARGE_SIDE,
    THUMB_SIDE,
    facts,
    large_picture,
    mask_picture,
    readable,
    thumbnail,
)
from explorer.places import Places
from sam_core.datasets.base import Part, Sample
from sam_core.recording.views import PictureError


@pytest.fixture
def places(tmp_path):
    (tmp_path / "data").mkdir()
    return Places(tmp_path / "runs", demo=tmp_path / "demo", data_roots=(tmp_path / "data",))


def save(places, name: str, image: Image.Image, **settings):
    path = places.data_roots[0] / name
    image.save(path, **settings)
    return path


def open_picture(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_a_thumbnail_is_the_middle_of_the_photograph_as_a_small_square(places):
    wide = Image.new("RGB", (900, 300), "red")
    wide.paste("lime", (300, 0, 600, 300))
    path, tag = readable(places, save(places, "wide.png", wide))
    small = open_picture(thumbnail(path, tag))
    assert (small.size, small.format) == ((THUMB_SIDE, THUMB_SIDE), "JPEG")
    assert np.asarray(small).reshape(-1, 3).mean(0) == pytest.approx([0, 255, 0], abs=3)


def test_a_camera_that_was_turned_is_turned_back(places):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (80, 40), "red")
    path, _ = readable(places, save(places, "turned.jpg", image, exif=exif))
    assert open_picture(large_picture(path)).size == (40, 80)
    about = facts(places, Sample("turned.jpg", path, 0, "train"))
    assert (about["width"], about["height"]) == (40, 80)


def test_a_large_photograph_is_bounded_and_a_small_one_stays(places):
    big, small = Image.new("RGB", (3000, 1500)), Image.new("RGB", (50, 60))
    assert open_picture(large_picture(save(places, "big.jpg", big))).size == (LARGE_SIDE, LARGE_SIDE // 2)
    assert open_picture(large_picture(save(places, "small.png", small))).size == (50, 60)


def test_a_mask_is_white_where_its_values_are_on_the_object(places):
    mask = Image.fromarray(np.array([[1, 2], [3, 0]], dtype=np.uint8))
    path = save(places, "mask.png", mask)
    shown = np.asarray(open_picture(mask_picture(path, (1, 1))))
    assert (shown == [[255, 0], [0, 0]]).all()
    assert (np.asarray(open_picture(mask_picture(path, (1, 255)))) == [[255, 255], [255, 0]]).all()


def test_what_changes_in_a_file_changes_its_tag_and_its_thumbnail(places):
    path = save(places, "one.png", Image.new("RGB", (40, 40), "red"))
    before = readable(places, path)
    first = thumbnail(*before)
    assert readable(places, path) == before
    save(places, "one.png", Image.new("RGB", (40, 40), "blue"))
    os.utime(path, ns=(1, 1))
    after = readable(places, path)
    assert after[1] != before[1]
    assert thumbnail(*after) != first


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0cut"], ids=["empty", "text", "cut"])
def test_a_damaged_photograph_gets_a_sentence_and_what_is_known_of_it_is_said(places, content):
    path = places.data_roots[0] / "broken.jpg"
    path.write_bytes(content)
    for draw in (lambda: thumbnail(*readable(places, path)), lambda: large_picture(path)):
        with pytest.raises(PictureError, match=r"broken\.jpg: the (file|image)"):
            draw()
    about = facts(places, Sample("broken.jpg", path, 0, "train", box=(0, 0, 1, 1), parts=(Part("bill", 0.5, 0.25),)))
    assert about == {
        "id": "broken.jpg", "width": None, "height": None, "bytes": len(content), "box": (0, 0, 1, 1),
        "parts": [["bill", 0.5, 0.25]], "mask": False,
    }  # fmt: skip


def test_only_files_within_the_roots_are_shown(places, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    link = places.data_roots[0] / "link.png"
    link.symlink_to(secret)
    os.mkfifo(places.data_roots[0] / "pipe.png")
    for path in (secret, link, places.data_roots[0] / "pipe.png", places.data_roots[0] / "gone.png"):
        with pytest.raises(PictureError, match="within the folders"):
            readable(places, path)
        assert facts(places, Sample("x", path, 0, "train"))["width"] is None
