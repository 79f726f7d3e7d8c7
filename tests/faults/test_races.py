"""Two at once: for one run, and for one name."""

from __future__ import annotations

import datetime
from collections import Counter
from pathlib import Path

import pytest

from sam_core.config import RunConfig
from sam_core.recording import writer as writer_module
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunWriter
from tests.faults.examination import Polling
from tests.faults.sameness import assert_same_run
from tests.faults.workers import Ending, Workers, now, run_folders

#: A worker holds its run for longer than another waits for it, or for not so long: then that one finds it finished.
HOLDING_S = (1.5, 0.3)
RACES, AT_ONCE = 20, 10


def test_two_workers_that_resume_one_run_train_it_once(
    workers: Workers, cut: Path, whole: Path, image: str, copied, tried: Counter[str]
):
    refused = 0
    for first in range(0, RACES, AT_ONCE):
        folders = [copied(cut, f"races-{first}/{number}") for number in range(AT_ONCE)]
        start = now() + 0.1
        holding = ("linger_in_step", {"number": 1, "seconds": HOLDING_S[first > 0]})
        racing = [[workers.resume(folder, holding, at=start) for _ in range(2)] for folder in folders]
        with Polling(folders[0].parent, image):
            endings = [[worker.wait() for worker in pair] for pair in racing]
        for folder, pair in zip(folders, endings, strict=True):
            refused += sum(_is_refused(folder, ending) for ending in pair)
            assert any(ending.state == "finished" for ending in pair)
            assert_same_run(folder, whole)
            said = (folder / "log.txt").read_text()
            assert said.count("going on after epoch") == said.count(" finished\n") == 1, "one of them trains"
            tried["races for one run"] += 1
    assert refused >= AT_ONCE // 2, "the others came when it was over"


def _is_refused(folder: Path, ending: Ending) -> bool:
    """Whether a worker was told that another has the run, and which."""
    if ending.state == "finished":
        return False
    assert f"run {folder.name} is being trained by another process (" in ending.sentence
    assert f"{Run(folder).status['pid']} on " in ending.sentence
    return True


def test_two_runs_begun_in_the_same_moment_are_two(
    workers: Workers, config: RunConfig, whole: Path, tmp_path: Path, tried: Counter[str]
):
    both = [workers.begin(config, tmp_path) for _ in range(2)]
    assert [worker.wait().state for worker in both] == ["finished", "finished"]
    folders = run_folders(tmp_path)
    assert len(folders) == 2
    for folder in folders:
        assert_same_run(folder, whole)
    tried["races for one name"] += 1


def test_a_name_that_is_taken_is_not_taken_again(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Counter[str]
):
    """The clock and two random bytes make the name; one day both will be the same."""
    moment, new_run_id = datetime.datetime(2026, 11, 24), writer_module.new_run_id
    random_bytes = iter(["aaaa", "aaaa", "bbbb", "cccc", "dddd"])
    monkeypatch.setattr(writer_module, "new_run_id", lambda config: new_run_id(config, moment))
    token_hex = writer_module.secrets.token_hex
    monkeypatch.setattr(
        writer_module.secrets, "token_hex", lambda size: next(random_bytes) if size == 2 else token_hex(size)
    )
    first = RunWriter.create(tmp_path, config, epochs=1)
    second = RunWriter.create(tmp_path, config, epochs=1)  # a run has its name
    (tmp_path / f".{first.folder.name[:-4]}cccc.tmp").mkdir()
    third = RunWriter.create(tmp_path, config, epochs=1)  # a run that is just being made will have it
    assert [writer.folder.name[-4:] for writer in (first, second, third)] == ["aaaa", "bbbb", "dddd"]
    for writer in (first, second, third):
        assert Run(writer.folder).config == config
        writer.close()
    tried["races for one name"] += 2
