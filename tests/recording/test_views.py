"""The picture behind a recorded map, whatever a stranger's samples.json says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_core.config import build_config
from sam_core.recording import layout
from sam_core.recording.reader import Run
from sam_core.recording.views import PictureError, view_mask, view_picture
from sam_core.recording.writer import RunWriter

#: The middle half of the photograph, off centre.
VIEW = [0.25, 0.5, 0.5, 0.5]


def photograph(width: int = 400, height: int = 200) -> Image.Image:
    """Red rises from left to right, green from top to bottom."""
    red = np.broadcast_to(np.linspace(0, 255, width)[None, :], (height, width))
    green = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    return Image.fromarray(np.stack([red, green, np.zeros_like(red)], axis=2).astype(np.uint8))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of one sample, bird.png, with a mask on the photograph's lower right quarter."""
    photograph().save(tmp_path / "bird.png")
    values = np.zeros((200, 400), dtype=np.uint8)
    values[100:, 200:] = 3
    Image.fromarray(values).save(tmp_path / "mask.png")
    writer = RunWriter.create(tmp_path / "runs", build_config(), epochs=1)
    sample = {"id": "test/bird.png", "path": str(tmp_path / "bird.png"), "mask": str(tmp_path / "mask.png")}
    writer.start_attention([sample], kinds=("cam",), grid=(2, 2), epochs=(0,), view=VIEW)
    writer.close()
    return Run(writer.folder)


def change(run: Run, **values: object) -> Run:
    """The run with other values in the entry of its only sample."""
    path = run.folder / layout.SAMPLES
    path.write_text(json.dumps([json.loads(path.read_text())[0] | values]))
    return Run(run.folder)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=float)


# --- What is shown ------------------------------------------------------------------------------------------------


def test_the_view_is_cut_out_in_the_photographs_own_proportions(run: Run):
    picture = view_picture(run, 0, side=100)
    assert (picture.mode, picture.size) == ("RGB", (100, 50))
    corners = pixels(picture)[[0, 0, -1, -1], [0, -1, 0, -1], :2]
    np.testing.assert_allclose(corners, [[64, 128], [191, 128], [64, 255], [191, 255]], atol=3)


@pytest.mark.parametrize(("on", "quarters"), [([3, 3], [0, 1]), ([0, 2], [1, 0]), ([1, 255], [0, 1])])
def test_a_mask_says_which_of_its_values_are_on_the_object(on: list[int], quarters: list[int], run: Run):
    mask = pixels(view_mask(change(run, mask_on=on), 0, side=100)) / 255
    assert [mask[0, 0], mask[-1, -1]] == quarters


def test_a_large_photograph_decoded_at_reduced_size_shows_the_same(run: Run, tmp_path: Path):
    photograph(3001, 1501).save(tmp_path / "large.jpg", quality=95)
    picture = view_picture(change(run, path=str(tmp_path / "large.jpg")), 0, side=100)
    assert picture.size == (100, 50)
    np.testing.assert_allclose(pixels(picture), pixels(view_picture(run, 0, side=100)), atol=6)


def test_a_camera_held_upright_is_honoured(run: Run, tmp_path: Path):
    turned = photograph().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    turned.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    picture = view_picture(change(run, path=str(tmp_path / "turned.jpg")), 0, side=100)
    np.testing.assert_allclose(pixels(picture), pixels(view_picture(run, 0, side=100)), atol=6)


def test_the_mask_lies_on_the_picture(run: Run):
    mask = view_mask(run, 0, side=100)
    assert (mask.mode, mask.size) == ("L", (100, 50))
    expected = np.zeros((50, 100))
    expected[:, 50:] = 255
    np.testing.assert_array_equal(pixels(mask), expected)


def test_the_mask_has_the_pictures_size_even_if_its_file_has_other_proportions(run: Run, tmp_path: Path):
    Image.open(tmp_path / "mask.png").resize((40, 60), Image.Resampling.NEAREST).save(tmp_path / "small.png")
    mask = view_mask(change(run, mask=str(tmp_path / "small.png")), 0, side=100)
    np.testing.assert_array_equal(pixels(mask), pixels(view_mask(run, 0, side=100)))


def test_a_sample_without_a_mask_has_none(run: Run):
    for mask in (None, ""):
        assert view_mask(change(run, mask=mask), 0, side=50) is None


def test_what_the_run_carries_itself_is_preferred(run: Run, tmp_path: Path):
    (run.folder / layout.VIEWS).mkdir()
    Image.new("RGB", (336, 168), (0, 0, 255)).save(layout.view_file(run.folder, 0), quality=95)
    Image.new("L", (336, 168), 9).save(layout.mask_file(run.folder, 0))
    (tmp_path / "bird.png").unlink()
    picture, mask = (read(run, 0, side=100, allowed=lambda path: False) for read in (view_picture, view_mask))
    assert picture.size == mask.size == (100, 50)
    assert picture.getpixel((50, 25))[2] > 250
    assert mask.getextrema() == (255, 255)


# --- What is refused ----------------------------------------------------------------------------------------------


def test_a_photograph_outside_the_allowed_folders_is_refused_with_its_name_and_what_to_do(run: Run, tmp_path: Path):
    asked = []
    with pytest.raises(PictureError, match=r"bird\.png lies outside the folders") as caught:
        view_picture(run, 0, side=50, allowed=lambda path: asked.append(path))
    assert asked == [(tmp_path / "bird.png").resolve()]
    assert "--data-root" in caught.value.hint
    assert str(tmp_path) not in str(caught.value)
    assert view_picture(run, 0, side=50, allowed=lambda path: path.is_relative_to(tmp_path.resolve()))


def test_links_are_followed_before_the_question_is_asked(run: Run, tmp_path: Path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link.png").symlink_to(tmp_path / "bird.png")
    linked = change(run, path=str(tmp_path / "open" / "link.png"))
    with pytest.raises(PictureError, match="outside"):
        view_picture(linked, 0, side=50, allowed=lambda path: path.is_relative_to((tmp_path / "open").resolve()))


def test_a_mask_is_asked_for_like_a_photograph(run: Run, tmp_path: Path):
    with pytest.raises(PictureError, match=r"mask\.png lies outside"):
        view_mask(run, 0, side=50, allowed=lambda path: path.name != "mask.png")


def test_a_relative_path_is_not_looked_for_where_the_server_was_started(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for key, read in (("path", view_picture), ("mask", view_mask)):
        with pytest.raises(PictureError, match="did not travel with the run"):
            read(change(run, **{key: "bird.png"}), 0, side=50)


def test_a_link_in_the_run_folder_does_not_lead_out_of_it(run: Run, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (10, 5)).save(tmp_path / "elsewhere" / "00000.jpg")
    (run.folder / layout.VIEWS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PictureError, match="outside"):
        view_picture(run, 0, side=50, allowed=lambda path: False)


@pytest.mark.parametrize("row", [-1, 1, 10**9, 0.5, "0", None, [0]])
def test_a_row_that_is_not_there_is_said(row: object, run: Run):
    for read in (view_picture, view_mask):
        with pytest.raises(PictureError, match="no image in row"):
            read(run, row, side=50)


@pytest.mark.parametrize(
    "value", [None, "", 5, ["/etc/passwd"], {"a": 1}, "/\0", "/\ud800", "/" + "a" * 5000, "/dev/zero", "/", "//x/y",
              "/nowhere/bird.png", "../../bird.png", "C:\\bird.png"],
)  # fmt: skip
def test_a_strangers_path_is_a_picture_error(value: object, run: Run):
    with pytest.raises(PictureError) as caught:
        view_picture(change(run, path=value), 0, side=50)
    str(caught.value).encode()
    if value:
        with pytest.raises(PictureError):
            view_mask(change(run, mask=value), 0, side=50)


def test_a_pipe_does_not_keep_the_reader_waiting(run: Run, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match=r"pipe\.png"):
        view_picture(change(run, path=str(tmp_path / "pipe.png")), 0, side=50)


@pytest.mark.parametrize("content", ["{}", "[3]", "[null]", '"text"', "{", ""])
def test_a_strangers_samples_are_a_picture_error(content: str, run: Run):
    (run.folder / layout.SAMPLES).write_text(content)
    with pytest.raises(PictureError):
        view_picture(Run(run.folder), 0, side=50)


@pytest.mark.parametrize(
    "view", ["", None, [0, 0, 1], [0, 0, 1, "1"], [0, 0, 0, 1], [0, 0, 1, 1e-300], [0.5, 0, 0.6, 1], [-0.1, 0, 1, 1],
             [float("nan"), 0, 1, 1], [0, 0, 1, float("inf")]],
)  # fmt: skip
def test_a_view_that_cannot_be_is_a_picture_error(view: object, run: Run):
    meta = run.folder / layout.ATTENTION / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"view": view}))
    with pytest.raises(PictureError, match=r"which part of a picture|view must be four fractions"):
        view_picture(run, 0, side=50)
    meta.unlink()
    with pytest.raises(PictureError, match="no attention/meta"):
        view_picture(Run(run.folder), 0, side=50)


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"GIF89a", "not a JPEG"), (None, "does not exist")])
def test_a_missing_or_damaged_file_is_named(content: bytes | None, reason: str, run: Run, tmp_path: Path):
    for name, read in (("mask.png", view_mask), ("bird.png", view_picture)):
        (tmp_path / name).unlink()
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(PictureError, match=f"{name}: .*{reason}"):
            read(run, 0, side=50)


def test_a_picture_cut_short_is_named(run: Run, tmp_path: Path):
    whole = (tmp_path / "bird.png").read_bytes()
    (tmp_path / "bird.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PictureError, match=r"bird\.png: the image is damaged"):
        view_picture(run, 0, side=50)


def test_a_coloured_picture_is_no_mask(run: Run, tmp_path: Path):
    with pytest.raises(PictureError, match="one channel"):
        view_mask(change(run, mask=str(tmp_path / "bird.png")), 0, side=50)
