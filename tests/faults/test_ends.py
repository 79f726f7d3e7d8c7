"""Ends that a run brings upon itself: a loss that is no number, a device without memory. Each has its sentence."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from sam_core.config import RunConfig
from sam_core.recording.reader import Run
from tests.faults.examination import examine
from tests.faults.sameness import assert_part_of, assert_same_run
from tests.faults.workers import Ending, Workers, run_folders


def test_without_memory_a_run_fails_with_a_sentence_and_goes_on_later(
    workers: Workers, config: RunConfig, whole: Path, image: str, tmp_path: Path, tried: Counter[str]
):
    ending = workers.begin(config, tmp_path, ("lose_device_memory", {"number": 4})).wait()
    assert "the device has not enough memory" in ending.sentence
    assert "--batch-size" in ending.sentence
    (folder,) = run_folders(tmp_path)
    status = Run(folder).status
    assert (status["state"], status["error"]["type"], status["epoch"]) == ("failed", "out of memory", 1)
    assert assert_part_of(examine(folder, image), whole, image) == 2
    workers.finish(folder)
    assert_same_run(folder, whole)
    tried["losses of device memory"] += 1


def test_a_loss_that_is_no_number_ends_a_run_with_a_sentence(
    workers: Workers, config: RunConfig, image: str, tmp_path: Path, tried: Counter[str]
):
    diverging = RunConfig.from_json(config.to_json() | {"lr": 100.0, "head_lr": 1000.0, "epochs": 9})
    folder = assert_diverged(workers.begin(diverging, tmp_path).wait(), tmp_path, image)
    assert_diverged(workers.resume(folder).wait(), tmp_path, image)  # the same happens again, and is said again
    tried["losses that are no number"] += 2


@pytest.mark.parametrize("step", [1, 2, 3])
def test_weights_that_are_no_numbers_are_never_what_a_run_goes_on_from(
    step: int, workers: Workers, config: RunConfig, whole: Path, image: str, tmp_path: Path, tried: Counter[str]
):
    """Step 2 is the last of epoch 1: its loss is a number, and the weights after it are saved next."""
    ending = workers.begin(config, tmp_path, ("spoil_weights", {"number": step})).wait()
    folder = assert_diverged(ending, tmp_path, image)
    assert Run(folder).status["epoch"] == (0 if step <= 2 else 1)
    workers.finish(folder)
    assert_same_run(folder, whole)
    tried["losses that are no number"] += 1


def assert_diverged(ending: Ending, runs: Path, image: str) -> Path:
    """The worker and the folder say so, and what the run goes on from is good; the folder."""
    assert "became infinite or undefined" in ending.sentence, ending
    assert "lower --lr" in ending.sentence
    (folder,) = run_folders(runs)
    status = Run(folder).status
    assert (status["state"], status["error"]["type"]) == ("failed", "non-finite loss")
    examine(folder, image)
    state = torch.load(folder / "last.pt", weights_only=True)
    assert state["epoch"] == status["epoch"]
    assert all(weights.isfinite().all() for weights in state["model"].values())
    return folder
