"""A disk that fills up, at any write: the run says so, keeps what it has, and with room again comes to the same end."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from explorer.runs.states import shown_state
from sam_core.config import RunConfig
from sam_core.recording.reader import Run
from sam_core.recording.writer import STATUS_BYTES
from tests.faults.examination import examine
from tests.faults.sameness import assert_part_of, assert_same_run
from tests.faults.workers import Ending, Workers, closely_then_widely, run_folders

#: In bytes: below the configuration, between any two files of a run, below and above the weights.
LIMITS = (0, 1, 200, 700, 990, 2500, 3700, 3900, 10_000, 1_000_000, 1_511_000, 2_000_000, 3_000_000)


def assert_says_so(ending: Ending, runs: Path, *, has_room_for_status: bool = True) -> Path | None:
    """The worker said that the disk is full, and so does its run folder; that folder, if there is one."""
    assert ending.code == 0
    assert "disk is full" in ending.sentence, ending
    assert "free some space" in ending.sentence
    folders = run_folders(runs)
    if not folders:
        assert not runs.exists() or list(runs.iterdir()) == [], "a run that could not even be made leaves nothing"
        return None
    (folder,) = folders
    status = Run(folder).status
    if status["state"] == "running" and not has_room_for_status:
        assert shown_state(folder, status) == "interrupted"
    else:
        assert (status["state"], status["error"]["type"]) == ("failed", "disk full")
    assert not list(folder.rglob(".*")), "what could not be written whole is not there"
    return folder


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_on_the_size_of_files_ends_a_run_with_a_sentence_and_without_it_the_run_goes_on(
    limit: int, workers: Workers, config: RunConfig, whole: Path, image: str, tmp_path: Path, tried: Counter[str]
):
    folder = assert_says_so(workers.begin(config, tmp_path, ("limit_files", {"size": limit})).wait(), tmp_path)
    tried["limits on the size of files"] += 1
    if folder is not None:
        examine(folder, image)
        workers.finish(folder)
        assert_same_run(folder, whole)


def test_a_limit_below_what_is_there_already_keeps_it(
    workers: Workers, config: RunConfig, cut: Path, whole: Path, image: str, tmp_path: Path, copied, tried: Counter[str]
):
    folder = copied(cut)
    seen = assert_part_of(examine(folder, image), whole, image)
    last = (folder / "last.pt").read_bytes()
    for limit in (100, 900, 5_000, 2_000_000):
        ending = workers.resume(folder, ("limit_files", {"size": limit})).wait()
        assert_says_so(ending, folder.parent, has_room_for_status=limit > STATUS_BYTES)
        assert assert_part_of(examine(folder, image), whole, image) >= seen
        assert (folder / "last.pt").read_bytes() == last
        tried["limits on the size of files"] += 1
    workers.finish(folder)
    assert_same_run(folder, whole)


def suffer(
    numbers: list[int], workers: Workers, config: RunConfig, whole: Path, image: str, runs: Path
) -> tuple[int, Path | None]:
    """Run and resume, the disk filling up at the n-th write of each attempt; then with room to the end.

    Returns:
        How many attempts ended with a full disk, and the run's folder.
    """
    failures, folder, seen = 0, None, 0
    for number in numbers:
        fault = ("fill_disk", {"number": number, "root": str(runs)})
        ending = (workers.resume(folder, fault) if folder else workers.begin(config, runs, fault)).wait()
        if ending.state == "finished":
            break
        folder = assert_says_so(ending, runs)
        failures += 1
        if folder is not None:
            now = assert_part_of(examine(folder, image), whole, image)
            assert now >= seen - 1
            seen = now
    if folder is not None:
        workers.finish(folder)
        assert_same_run(folder, whole)
    return failures, folder


def test_disks_that_fill_up_at_random_writes(
    workers: Workers, config: RunConfig, whole: Path, image: str, tmp_path: Path, tried: Counter[str]
):
    generator, failures, runs = random.Random(3), 0, 0
    while failures < 16:
        # A run of three epochs has some 1,200 of them, most of them in last.pt: small numbers as often as large ones.
        numbers = [round(1200 ** generator.random()) for _ in range(24)]
        runs += 1
        failed, folder = suffer(numbers, workers, config, whole, image, tmp_path / str(runs))
        failures += failed
        assert folder is not None
    tried["disks full at a write"] += failures


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_disk_that_fills_up_at_very_many_writes(
    workers: Workers, config: RunConfig, whole: Path, image: str, tmp_path: Path, tried: Counter[str]
):
    for number in closely_then_widely(100, 11):
        runs = tmp_path / str(number)
        failures, _ = suffer([number], workers, config, whole, image, runs)
        if not failures:
            break
        shutil.rmtree(runs, ignore_errors=True)  # where not even a folder could be made, there is none
        tried["disks full at a write"] += 1
    assert number > 1000
