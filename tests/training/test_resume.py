"""A run killed at any moment ends, resumed, with the same bytes as one that was not."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

import pytest

import sam_core
from sam_core.config import PROJECT_ROOT
from sam_core.recording import layout, lock, writer

EPOCHS = 4


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "sam_core", "train", "--quiet", *map(str, arguments)]


@pytest.fixture(scope="module")
def flags(shared_photographs: Path, tiny_flags: list[str]) -> list[str]:
    return [*tiny_flags, "--dataset", str(shared_photographs), "--epochs", str(EPOCHS), "--seed", "5"]


def start(runs: Path, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        command("--runs", runs, *arguments), cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def whole(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody interrupted."""
    runs = tmp_path_factory.mktemp("whole")
    process = start(runs, *flags)
    assert process.wait(120) == 0, process.stderr.read()
    (folder,) = runs.iterdir()
    return folder


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def lines(folder: Path) -> int:
    path = folder / layout.METRICS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def assert_same(folder: Path, whole: Path) -> None:
    assert (folder / layout.MODEL).read_bytes() == (whole / layout.MODEL).read_bytes()
    run, reference = sam_core.open_run(folder), sam_core.open_run(whole)
    assert list(run.recorded_epochs) == list(reference.recorded_epochs) == list(range(EPOCHS + 1))
    for kind in layout.MAP_KINDS:
        assert layout.map_file(folder, kind).read_bytes() == layout.map_file(whole, kind).read_bytes()

    def without_time(entries: list[dict]) -> list[dict]:
        return [{name: value for name, value in entry.items() if name != "seconds"} for entry in entries]

    assert without_time(run.metrics()) == without_time(reference.metrics())


# Each epoch writes 3 step lines and 1 epoch line, so the line count places the kill within an epoch or between two.
@pytest.mark.parametrize("after_lines", [0, 1, 2, 4, 5, 7, 9, 12, 16])
def test_a_killed_run_resumes_to_the_same_bytes(after_lines: int, flags: list[str], whole: Path, tmp_path: Path):
    process = start(tmp_path, *flags)
    try:
        wait_for(lambda: process.poll() is not None or any(not p.name.startswith(".") for p in tmp_path.iterdir()))
        (folder,) = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
        wait_for(lambda: process.poll() is not None or lines(folder) >= after_lines)
        time.sleep(random.Random(after_lines).uniform(0, 0.05))
    finally:
        process.kill()
        process.wait()
    sam_core.train(resume=folder, quiet=True)
    assert_same(folder, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_run_that_resumes_to_the_same_bytes(number: int, flags: list[str], whole: Path, tmp_path: Path):
    process = start(tmp_path, *flags)
    wait_for(lambda: any(lines(path) >= 6 for path in tmp_path.iterdir()))
    process.send_signal(number)
    assert process.wait(60) == 130
    (folder,) = tmp_path.iterdir()
    run = sam_core.open_run(folder)
    assert run.status["state"] == "stopped"
    assert not run.is_alive
    sam_core.train(resume=folder, quiet=True)
    assert_same(folder, whole)


def test_every_way_of_being_cut_between_two_files_is_mended(flags: list[str], whole: Path, tmp_path: Path):
    """The order of writes is maps, metrics, last.pt, status; a cut may fall between any two of them."""
    folder = tmp_path / whole.name
    shutil.copytree(whole, folder)
    (folder / layout.MODEL).unlink()
    status = (folder / layout.STATUS).read_text().replace('"finished"', '"running"')
    (folder / layout.STATUS).write_text(status)
    with open(folder / layout.METRICS, "a", encoding="utf-8") as file:
        file.write('{"kind": "step", "epoch": 5, "step": 13, "lo')  # cut in the middle of a line
    (folder / ".last.pt.1234.tmp").write_bytes(b"half a file")
    run = sam_core.train(resume=folder, quiet=True)
    assert run.status["state"] == "finished"
    assert_same(folder, whole)


def test_two_processes_cannot_train_one_run(flags: list[str], tmp_path: Path):
    process = start(tmp_path, *flags, "--epochs", "200")
    try:
        wait_for(lambda: any(lines(path) >= 1 for path in tmp_path.iterdir()))
        (folder,) = tmp_path.iterdir()
        assert sam_core.open_run(folder).is_alive
        with pytest.raises(sam_core.RunError, match="another process"):
            sam_core.train(resume=folder, quiet=True)
    finally:
        process.kill()
        process.wait()
    assert not sam_core.open_run(folder).is_alive


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_run_killed_at_a_hundred_random_moments_ends_with_the_same_bytes(
    flags: list[str], whole: Path, tmp_path: Path
):
    generator = random.Random(0)
    for attempt in range(100):
        runs = tmp_path / str(attempt)
        process = start(runs, *flags)
        wait_for(lambda: runs.exists() and any(not p.name.startswith(".") for p in runs.iterdir()))  # noqa: B023
        time.sleep(generator.uniform(0, 2))
        process.kill()
        process.wait()
        (folder,) = [path for path in runs.iterdir() if not path.name.startswith(".")]
        assert start(runs, "--resume", folder.name).wait(120) == 0
        assert_same(folder, whole)
        shutil.rmtree(runs)


def test_a_run_that_another_process_has_just_finished_is_left_as_it_is(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Both found it unfinished, and this one got the folder when the other had trained it to the end."""
    process = start(tmp_path, *flags)
    wait_for(lambda: (folders := list(tmp_path.glob("[!.]*"))) and lines(folders[0]) >= 2)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    (folder,) = tmp_path.iterdir()
    found = {}

    def taken_by_the_other_first(folder: Path) -> TextIO | None:
        monkeypatch.undo()
        assert subprocess.run(command("--runs", tmp_path, "--resume", folder), cwd=PROJECT_ROOT).returncode == 0
        found.update({path: path.read_bytes() for path in folder.rglob("*") if path.is_file()})
        return writer.take_lock(folder)

    monkeypatch.setattr(writer, "take_lock", taken_by_the_other_first)
    run = sam_core.train(resume=folder, quiet=True)
    assert run.status["state"] == "finished"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == found
    assert not lock.is_locked(folder)
