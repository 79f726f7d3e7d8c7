"""What the files of a run may hold, and what is refused with a reason."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sam_core.config import build_config
from sam_core.recording import content

CONFIG = build_config().to_json()
META = {"kinds": ["cam", "gradcam++"], "grid": [2, 3], "epochs": [0, 2, 4], "view": [0, 0.1, 1, 0.9]}
CLASSES = {"classes": ["a", "b"], "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1], "steps": 9, "steps_per_epoch": 3}
#: A whole number that JSON can have and no float.
HUGE = 10**400


@pytest.mark.parametrize("data", [b"", b"\xff", b"{", b"[" * 100_000, b'{"a":' * 50_000])
def test_what_is_no_json_is_refused_however_deep_it_goes(data: bytes):
    with pytest.raises(ValueError, match="it is no JSON"):
        content.parse_json(data)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (content.as_status, {"state": "finished", "epoch": 3, "error": None}),
        (content.as_status, {}),
        (content.as_samples, [{"id": "a"}, {"id": "b", "label": 1, "split": "test", "mask": "m", "mask_on": [0, 9]}]),
        (content.as_ids, ["a", "b"]),
        (content.as_input_form, CLASSES),
        (content.as_recording, META),
    ],
)  # fmt: skip
def test_what_a_run_writes_is_taken(check: Callable[[Any], Any], value: Any):
    assert check(value) == value


def test_a_configuration_and_classes_are_taken():
    assert content.as_config(CONFIG) == build_config()
    assert content.as_classes(CLASSES) == ["a", "b"]


@pytest.mark.parametrize(
    ("check", "value", "reason"),
    [
        (content.as_config, [1], "object"),
        (content.as_config, CONFIG | {"spam": 1}, "no option"),
        (content.as_config, CONFIG | {"epochs": HUGE}, "epochs"),
        (content.as_config, CONFIG | {"method": ["sam"]}, "method"),
        (content.as_status, [], "object"),
        (content.as_status, {"epoch": -1}, "epoch must be a count"),
        (content.as_status, {"steps": True}, "steps must be a count"),
        (content.as_status, {"error": "text"}, "error must be"),
        (content.as_samples, {}, "a list"),
        (content.as_samples, [{"id": "a"}, {"id": 1}], "entry 1"),
        (content.as_samples, [{"id": "a", "label": "0"}], "label of entry 0"),
        (content.as_samples, [{"id": "a", "label": HUGE}], "label of entry 0"),
        (content.as_samples, [{"id": "a", "split": []}], "split of entry 0"),
        (content.as_samples, [{"id": "a", "mask": 3}], "mask of entry 0"),
        (content.as_samples, [{"id": "a", "mask_on": [0, 256]}], "mask_on of entry 0"),
        (content.as_ids, ["a", None], "list of ids"),
        (content.as_classes, {"classes": [1]}, "name the classes"),
        (content.as_classes, ["a"], "object"),
        (content.as_input_form, CLASSES | {"mean": [0.5]}, "mean must be"),
        (content.as_input_form, CLASSES | {"std": [1, 1, HUGE]}, "std must be"),
        (content.as_input_form, CLASSES | {"steps": 1.5}, "steps must be"),
        (content.as_recording, META | {"kinds": ["../x"]}, "kinds"),
        (content.as_recording, META | {"grid": [0, 3]}, "grid"),
        (content.as_recording, META | {"epochs": [0, 0]}, "rising"),
        (content.as_recording, META | {"epochs": [2, 1]}, "rising"),
        (content.as_recording, META | {"view": [0, 0, 1, float("nan")]}, "view"),
    ],
)
def test_what_no_run_writes_is_refused_with_a_reason(check: Callable[[Any], Any], value: Any, reason: str):
    with pytest.raises(ValueError, match=reason):
        check(value)


def test_a_reason_is_one_line_of_characters_that_can_be_seen():
    assert content.brief(ValueError("a\nb \ud800\u202e\x1b" + "c" * 500)) == "a b \\ud800\\u202e\\x1b" + "c" * 193


# --- Arrays ---------------------------------------------------------------------------------------------------------


def array(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def test_a_recording_has_an_array_for_each_kind_of_map_and_three_more():
    forms = content.expected_arrays(META, 5)
    assert forms == {
        "cam": (np.float16, (5, 3, 2, 3)),
        "gradcampp": (np.float16, (5, 3, 2, 3)),
        "predicted": (np.int32, (5, 3)),
        "confidence": (np.float32, (5, 3)),
        "epochs": (np.int32, (3,)),
    }


FORM = (np.dtype(np.float16), (4, 3))


def test_an_array_of_the_right_form_says_where_its_numbers_begin():
    data = array(np.arange(12, dtype=np.float16).reshape(4, 3))
    assert content.check_array(io.BytesIO(data), len(data), FORM) == 128
    assert np.frombuffer(data[128:], np.float16).tolist() == list(range(12))
    assert content.check_array_form(io.BytesIO(data[:-5]), FORM) == 128, "its length is another matter"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no array"),
        (array(np.zeros((4, 3), np.float16))[:127], "no array"),
        (array(np.zeros((4, 3), np.float16)).replace(b"shape", b"sha\0e"), "no array"),
        (array(np.zeros((4, 3), np.float16)).replace(b"(4, 3)", b"(9**9"), "no array"),
        (array(np.zeros((4, 3), np.float32)), "plain array of float16"),
        (array(np.zeros((4, 3), np.float16, order="F")), "plain array"),
        (array(np.zeros((3, 4), np.float16)), "shape"),
        (array(np.zeros((4, 3), np.float16)) + b"\0", "length"),
        (array(np.zeros((4, 3), np.float16))[:-1], "length"),
    ],
)
def test_an_array_of_another_form_is_refused(data: bytes, reason: str):
    with pytest.raises(ValueError, match=reason):
        content.check_array(io.BytesIO(data), len(data), FORM)


def test_points_are_whole_where_they_name_the_epoch_that_was_planned():
    assert content.whole_points(np.array([0, -1, 4]), [0, 2, 4]).tolist() == [0, 2]
    for odd in ([0, 0, 4], [0, 2, 10**6]):
        with pytest.raises(ValueError, match="not planned"):
            content.whole_points(np.array(odd), [0, 2, 4])


def test_what_json_can_name_can_be_written_again():
    from sam_core.recording.layout import dump_json

    for text in ("half \ud800 a character", "whole \U0001f426", "plain"):
        assert json.loads(dump_json({text: [text]}).encode()) == {text: [text]}
