"""The recorded demonstration that comes with the program."""

from __future__ import annotations

import re

import pytest

from explorer.places import DEMO_RUNS
from explorer.runs.pruning import disk_size
from sam_core.recording.notes import read_notes
from sam_core.recording.reader import Run
from sam_core.recording.views import view_mask, view_picture


@pytest.fixture(scope="module")
def demo() -> Run:
    (folder,) = [path for path in DEMO_RUNS.iterdir() if path.is_dir()]
    return Run(folder)


def test_it_is_one_small_finished_run_with_a_name(demo):
    assert demo.status["state"] == "finished"
    assert read_notes(demo.folder).name.startswith("Demonstration")
    assert disk_size(demo.folder) < 5_000_000
    assert demo.recorded_epochs.tolist() == list(range(13))


def test_every_image_can_be_shown_on_a_machine_without_any_data(demo):
    for row in range(len(demo.samples)):
        assert view_picture(demo, row, side=64, allowed=lambda path: False).size == (64, 64)
        assert view_mask(demo, row, side=64, allowed=lambda path: False) is not None


def test_every_class_is_there_in_training_and_in_testing(demo):
    for split in ("train", "test", "swapped"):
        labels = {sample["label"] for sample in demo.samples if sample["split"] == split}
        assert labels == set(range(len(demo.classes))), split


def test_it_tells_nothing_of_the_machine_that_made_it(demo):
    for path in demo.folder.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".txt"):
            assert not re.search(r"/(home|root|tmp|work|Users)/", path.read_text(encoding="utf-8")), path.name
