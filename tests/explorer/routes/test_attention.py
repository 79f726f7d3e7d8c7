from __future__ import annotations

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from explorer.routes import attention
from tests.explorer.routes.conftest import OURS


def test_pictures_come_in_the_size_asked_for(client, run_id):
    view = client.get(f"/explorer/runs/{run_id}/view/0")
    assert view.headers["content-type"] == "image/jpeg"
    assert max(Image.open(io.BytesIO(view.content)).size) == attention.VIEW_SIDE
    thumb = client.get(f"/explorer/runs/{run_id}/thumb/0")
    assert max(Image.open(io.BytesIO(thumb.content)).size) == attention.THUMB_SIDE
    assert len(thumb.content) < len(view.content)


def test_a_timeline_and_the_gallerys_columns(client, run_id, image, decode):
    header, maps = decode(client.get(f"/explorer/runs/{run_id}/timeline", params={"image": image}).content)
    assert header["id"] == image
    assert maps["learned"]["raw"].shape[0] == 3
    assert image in client.get(f"/explorer/runs/{run_id}/samples").json()["ids"]
    assert len(client.get(f"/explorer/runs/{run_id}/rankings").json()["change"]) == len(
        client.get(f"/explorer/runs/{run_id}/samples").json()["ids"]
    )


def test_a_frame_an_animation_and_the_maps_can_be_saved(client, run_id, image, trained):
    look = {"image": image, "epoch": 1, "maps": "cam,learned", "first": "cam", "second": "learned", "cells": 1}
    frame = client.get(f"/explorer/runs/{run_id}/frame.png", params=look)
    assert Image.open(io.BytesIO(frame.content)).format == "PNG"
    assert "epoch-1.png" in frame.headers["content-disposition"]
    animation = client.get(f"/explorer/runs/{run_id}/animation.gif", params=look)
    assert Image.open(io.BytesIO(animation.content)).n_frames == 3
    maps = np.load(io.BytesIO(client.get(f"/explorer/runs/{run_id}/maps.npz", params={"image": image}).content))
    np.testing.assert_array_equal(maps["cam"], trained.timeline(image)["cam"])


def test_an_animation_of_very_many_epochs_is_thinned_and_keeps_its_ends(client, run_id, image, monkeypatch):
    monkeypatch.setattr(attention, "MAX_ANIMATED_EPOCHS", 2)
    animation = client.get(f"/explorer/runs/{run_id}/animation.gif", params={"image": image})
    assert Image.open(io.BytesIO(animation.content)).n_frames == 2


def test_a_photograph_is_looked_at(client, run_id, shared_photographs, decode):
    picture = next(shared_photographs.rglob("*.png")).read_bytes()
    answer = client.post(f"/explorer/runs/{run_id}/inspect", content=picture, headers=OURS)
    header, maps = decode(answer.content)
    assert set(maps) == {"cam", "gradcam", "learned"}
    assert len(header["top"][0]) == 3


def test_a_recorded_image_is_looked_at_again_with_other_maps(client, run_id, image, decode):
    answer = client.post(
        f"/explorer/runs/{run_id}/inspect", params={"image": image, "maps": "gradcam++", "class": "0", "channels": 1},
        headers=OURS,
    )  # fmt: skip
    header, maps = decode(answer.content)
    assert "A1" in maps
    assert header["shown_class"] == ["circle"]


def test_a_sample_that_names_another_file_of_the_server_does_not_show_it(client, run_id, own_run, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), "red").save(secret)
    samples = json.loads((own_run / "samples.json").read_text())
    samples[0]["path"] = str(secret)
    (own_run / "samples.json").write_text(json.dumps(samples))
    answer = client.get(f"/explorer/runs/{run_id}/view/0")
    assert answer.status_code == 404
    assert "--data-root" in answer.json()["hint"]
    inspected = client.post(f"/explorer/runs/{run_id}/inspect", params={"image": samples[0]["id"]}, headers=OURS)
    assert inspected.status_code == 404


def wide_png(width: int, height: int) -> bytes:
    """A PNG whose head claims a size; the few bytes after it are enough to be opened."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes"),
        (b"this is text, whatever its name says", "not a JPEG"),
        (wide_png(60_000, 10), "60,000 x 10 pixels"),
        (wide_png(20_000, 20_000), "million pixels"),
        (wide_png(64, 64), "damaged"),
    ],
    ids=["empty", "text", "60,000 wide", "a bomb", "cut"],
)
def test_uploads_that_are_no_photographs_get_a_sentence(client, run_id, content, words):
    answer = client.post(f"/explorer/runs/{run_id}/inspect", content=content, headers=OURS)
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert client.get("/explorer/setup").status_code == 200, "the server stays up"


def test_an_upload_beyond_the_limit_is_cut_off_whether_or_not_it_says_its_size(client, run_id, monkeypatch):
    monkeypatch.setattr(attention, "MAX_PHOTOGRAPH_BYTES", 1000)
    said = client.post(f"/explorer/runs/{run_id}/inspect", content=b"x" * 2000, headers=OURS)
    unsaid = client.post(f"/explorer/runs/{run_id}/inspect", content=iter([b"x" * 600] * 4), headers=OURS)
    for answer in (said, unsaid):
        assert answer.status_code == 400
        assert "larger than the limit" in answer.json()["message"]


@pytest.mark.parametrize(
    "look",
    [
        {"scale": "magic"},
        {"colours": "difference"},
        {"colours": "x"},
        {"opacity": 7},
        {"maps": "cam,../x"},
        {"image": "no"},
        {"first": "cam", "second": "nothing"},
    ],
    ids=str,
)
def test_pictures_that_cannot_be_drawn_are_refused(client, run_id, image, look):
    answer = client.get(f"/explorer/runs/{run_id}/frame.png", params={"image": image, **look})
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("row", ["-1", "99999", "x", "1e3"])
def test_rows_that_do_not_exist_are_refused(client, run_id, row):
    assert 400 <= client.get(f"/explorer/runs/{run_id}/view/{row}").status_code < 500
