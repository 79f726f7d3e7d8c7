from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from explorer.attention.timelines import Messages, encode, timeline_message
from sam_core.evaluation.history import loss_distributions
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunError


def image_of(run) -> str:
    return run.samples[-1]["id"]


def test_the_message_holds_every_recorded_map_as_it_lies_on_the_disk(trained, decode):
    header, maps = decode(timeline_message(trained, image_of(trained), allowed=lambda path: True))
    timeline = trained.timeline(image_of(trained))
    assert header["epochs"] == [0, 1, 2]
    assert header["predicted"] == timeline["predicted"].tolist()
    for kind in ("cam", "gradcam", "learned", "cam_predicted", "energy"):
        np.testing.assert_array_equal(maps[kind]["raw"].astype(np.float32), timeline[kind])


def test_distributions_are_multiples_of_a_uniform_share_and_are_what_the_loss_compares(trained, decode):
    _, maps = decode(timeline_message(trained, image_of(trained), allowed=lambda path: True))
    timeline = trained.timeline(image_of(trained))
    expected = loss_distributions(timeline, trained.config)
    for kind in ("cam", "learned"):
        cells = timeline[kind][0].size
        np.testing.assert_allclose(maps[kind]["distribution"], expected[kind] * cells, rtol=2e-3, atol=1e-4)
        np.testing.assert_allclose(maps[kind]["distribution"].mean(axis=(1, 2)), 1, rtol=2e-3)


def test_only_the_epochs_after_a_given_one_are_sent(trained, decode):
    header, maps = decode(timeline_message(trained, image_of(trained), after=1, allowed=lambda path: True))
    assert header["epochs"] == [2]
    assert maps["cam"]["raw"].shape[0] == 1
    assert len(header["measures"]["agreement"]["cam-learned"]["kl"]) == 1


def test_no_new_epochs_is_an_empty_message_not_an_error(trained, decode):
    header, maps = decode(timeline_message(trained, image_of(trained), after=99, allowed=lambda path: True))
    assert header["epochs"] == []
    assert maps["cam"]["raw"].size == 0


def test_the_arrays_begin_where_a_browser_may_read_16_bit_words(trained):
    message = timeline_message(trained, image_of(trained), allowed=lambda path: True)
    (length,) = struct.unpack("<I", message[:4])
    assert (4 + length) % 4 == 0


def test_a_map_that_cannot_exist_is_null(decode):
    timeline = {
        "cam": np.ones((2, 3, 3), np.float32), "learned": None, "epochs": np.array([0, 1]),
        "predicted": np.array([0, 1]), "confidence": np.array([0.5, 0.25]),
    }  # fmt: skip
    header, maps = decode(encode({}, timeline, {"cam": timeline["cam"] / 9, "learned": None}))
    assert header["arrays"]["learned"] is None
    assert maps["learned"] is None
    assert maps["cam"]["distribution"].tolist() == np.ones((2, 3, 3)).tolist()


def test_a_message_is_made_once_for_all_who_ask_until_another_epoch_is_recorded(own_run, monkeypatch):
    run, messages, made = Run(own_run), Messages(), []
    whole = timeline_message

    def counted(*arguments, **options):
        made.append(arguments)
        return whole(*arguments, **options)

    monkeypatch.setattr("explorer.attention.timelines.timeline_message", counted)
    ask = {"after": -1, "allowed": lambda path: True}
    first = messages.of(run, image_of(run), **ask)
    assert messages.of(run, image_of(run), **ask) == first == whole(run, image_of(run), **ask)
    assert len(made) == 1
    messages.of(run, run.samples[0]["id"], **ask)
    messages.of(run, image_of(run), after=1, allowed=ask["allowed"])
    assert len(made) == 3
    epochs = np.load(own_run / "attention" / "epochs.npy")
    np.save(own_run / "attention" / "epochs.npy", np.where(epochs == epochs[-1], -1, epochs))
    assert messages.of(run, image_of(run), **ask) != first


def test_an_unknown_image_is_refused_by_name(trained):
    with pytest.raises(RunError, match="no sample"):
        timeline_message(trained, "../../etc/passwd", allowed=lambda path: True)


def test_maps_that_are_no_numbers_make_a_message_that_every_page_can_read(own_run):
    run = Run(own_run)
    image = image_of(run)
    for name, value in (("cam", np.nan), ("learned", np.inf), ("confidence", np.nan)):
        np.load(own_run / "attention" / f"{name}.npy", mmap_mode="r+")[run.row(image)] = value
    message = timeline_message(Run(own_run), image, allowed=lambda path: True)
    (length,) = struct.unpack("<I", message[:4])

    def refuse(name: str) -> None:
        pytest.fail(f"{name} is no JSON, and a browser stops at it")

    header = json.loads(message[4 : 4 + length], parse_constant=refuse)
    assert header["confidence"] == [None, None, None]
