"""A worker killed at any moment: its folder can be read at once, and the run resumed ends as if nothing had been."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sam_core.config import RunConfig
from tests.faults.examination import Polling, examine
from tests.faults.sameness import assert_part_of, assert_same_run
from tests.faults.workers import Ending, Fault, Workers, closely_then_widely, run_folders

#: A worker that nobody kills takes about as long where the machine has time for it; after each kill it is given more.
LONGEST_S, MORE = 0.4, 1.15

#: Where a worker is killed, in the order in which a run comes by, each time resumed until the next one.
PLACES: dict[str, Fault] = {
    "in the first batch of epoch 0": ("die_while_recording", {"number": 1}),
    "in the last batch of epoch 0": ("die_while_recording", {"number": 3}),
    "before epoch 0 is declared whole": ("die_around_point", {"number": 1, "after": False}),
    "after epoch 0 is declared whole": ("die_around_point", {"number": 1, "after": True}),
    "in the first step": ("die_in_step", {"number": 1}),
    "in the last step of epoch 1": ("die_in_step", {"number": 2}),
    "while epoch 1 is recorded": ("die_while_recording", {"number": 2}),
    "after epoch 1 is declared whole": ("die_around_point", {"number": 1, "after": True}),
    "in the first step of epoch 2, counted from the resumption": ("die_in_step", {"number": 3}),
    "after epoch 2 is declared whole": ("die_around_point", {"number": 1, "after": True}),
    "before the last epoch is declared whole": ("die_around_point", {"number": 2, "after": False}),
}  # fmt: skip


class Cut:
    """A run that is killed and resumed; after each kill its folder is looked at as the reader and the explorer do."""

    def __init__(self, workers: Workers, config: RunConfig, whole: Path, image: str, runs: Path) -> None:
        self.kills = 0
        self.folder: Path | None = None
        self.whole, self.image = whole, image
        self._workers, self._config, self._runs = workers, config, runs
        self._seen = 0

    @classmethod
    def of(cls, workers: Workers, config: RunConfig, whole: Path, image: str) -> Callable[[Path], Cut]:
        """Makes such runs, each in a folder of its own."""
        return lambda runs: cls(workers, config, whole, image, runs)

    def go_on(self, *faults: Fault, kill_after: float | None = None) -> Ending:
        """Begin or resume, suffer, and look; the ending of that worker."""
        if self.folder is None:
            worker = self._workers.begin(self._config, self._runs, *faults)
        else:
            worker = self._workers.resume(self.folder, *faults)
        if kill_after is None:
            ending = worker.wait()
        else:
            time.sleep(kill_after)
            ending = worker.kill()
        folders = run_folders(self._runs)
        assert len(folders) <= 1
        self.folder = folders[0] if folders else None
        self.kills += ending.was_killed
        if self.folder is not None:
            self._look()
        return ending

    def _look(self) -> None:
        findings = examine(self.folder, self.image)
        seen = assert_part_of(findings, self.whole, self.image)
        assert seen >= self._seen - 1, "of what was recorded, only the epoch that was cut is recorded anew"
        self._seen = seen
        assert not findings.answers["alive"], "a killed process holds nothing"
        assert findings.answers["list"][self.folder.name]["state"] in ("interrupted", "queued", "finished")


@pytest.fixture
def cut_run(workers: Workers, config: RunConfig, whole: Path, image: str, tmp_path: Path) -> Cut:
    return Cut(workers, config, whole, image, tmp_path / "runs")


def kill_in_all(number: int, generator: random.Random, make: Callable[[Path], Cut], folder: Path) -> tuple[int, int]:
    """Kill runs at random moments until each has finished for all that, while a reader looks at them all the time.

    Returns:
        How often, at least `number`, and how many runs it took.
    """
    kills = runs = looks = 0
    while kills < number:
        run = make(folder / str(runs))
        with Polling(folder / str(runs), run.image) as polling:
            while (ending := run.go_on(kill_after=generator.uniform(0, LONGEST_S * MORE**run.kills))).was_killed:
                pass
        assert ending.state == "finished", ending
        assert_same_run(run.folder, run.whole)
        shutil.rmtree(folder / str(runs))
        kills, runs, looks = kills + run.kills, runs + 1, looks + polling.looks
    assert looks >= kills
    return kills, runs


def test_a_run_killed_at_named_places_ends_with_the_same_bytes(cut_run: Cut, whole: Path, tried: Counter[str]):
    for place, fault in PLACES.items():
        assert cut_run.go_on(fault).was_killed, f"{place} was never reached"
    assert cut_run.go_on().state == "finished"
    assert_same_run(cut_run.folder, whole)
    tried["kills at named places"] += cut_run.kills


def test_runs_killed_at_random_moments_end_with_the_same_bytes(
    workers: Workers, config: RunConfig, whole: Path, image: str, tmp_path: Path, tried: Counter[str]
):
    kills, _ = kill_in_all(10, random.Random(1), Cut.of(workers, config, whole, image), tmp_path)
    tried["kills at random moments"] += kills


@pytest.mark.parametrize("number", [2, 9, 30, 900, 2880])
def test_a_run_killed_half_way_through_a_write_ends_with_the_same_bytes(
    number: int, cut_run: Cut, whole: Path, tmp_path: Path, tried: Counter[str]
):
    assert cut_run.go_on(("die_half_way_through_write", {"number": number, "root": str(tmp_path)})).was_killed
    assert cut_run.go_on().state == "finished"
    assert_same_run(cut_run.folder, whole)
    tried["kills half way through a write"] += 1


def test_every_kind_of_file_is_written_by_a_run_that_dies_in_it(workers: Workers, config: RunConfig, tmp_path: Path):
    """The kills above fall into writes and file operations that are counted; there are as many as they suppose."""
    counting = [(name, {"number": 0, "root": str(tmp_path)}) for name in ("die_before_file_operation",
                "die_half_way_through_write")]  # fmt: skip
    operations, writes = workers.begin(config, tmp_path / "runs", *counting).wait().answer["counts"]
    assert operations >= 100
    assert writes >= 2880


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_three_hundred_kills_at_random_moments(
    workers: Workers, config: RunConfig, whole: Path, image: str, tmp_path: Path, tried: Counter[str]
):
    kills, runs = kill_in_all(300, random.Random(2), Cut.of(workers, config, whole, image), tmp_path)
    tried["kills at random moments"] += kills
    tried["runs killed at random moments"] += runs


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("fault", "stride"), [("die_before_file_operation", 1), ("die_half_way_through_write", 29)])
def test_a_run_killed_at_very_many_operations_on_files_ends_with_the_same_bytes(
    fault: str,
    stride: int,
    workers: Workers,
    config: RunConfig,
    whole: Path,
    image: str,
    tmp_path: Path,
    tried: Counter[str],
):
    for number in closely_then_widely(100, stride):
        runs = tmp_path / str(number)
        run = Cut(workers, config, whole, image, runs)
        if not run.go_on((fault, {"number": number, "root": str(runs)})).was_killed:
            break
        assert run.go_on().state == "finished"
        assert_same_run(run.folder, whole)
        shutil.rmtree(runs)
        tried["kills at operations on files"] += 1
    assert number > 100
