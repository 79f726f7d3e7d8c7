"""What the fault suite needs: workers that start at once, a run that nothing happened to, a count of what was tried."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sam_core.config import RunConfig
from tests.conftest import write_photographs
from tests.faults.workers import Workers, run_folders

if os.name != "posix":
    collect_ignore_glob = ["test_*.py"]  # the faults are those of POSIX: signals, fork, limits

_tried: Counter[str] = Counter()


@pytest.fixture(scope="session")
def tried() -> Counter[str]:
    """What was tried, by kind; the sums are printed at the end."""
    return _tried


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _tried:
        counts = ", ".join(f"{count:,} {what}" for what, count in sorted(_tried.items()))
        terminalreporter.write_line(f"faults tried: {counts}")


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    workers.close()


@pytest.fixture(scope="session")
def few_photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labelled images and one to test on of each class: a run has three epochs of two steps, or three batches."""
    return write_photographs(tmp_path_factory.mktemp("data") / "shapes", train=4, test=1)


@pytest.fixture(scope="session")
def config(few_photographs: Path, tmp_path_factory: pytest.TempPathFactory, tiny) -> RunConfig:
    """A run of a quarter of a second."""
    # A cache of its own: what other tests left in the shared one must not decide which files are opened.
    return tiny(few_photographs, seed=7, data_root=str(tmp_path_factory.mktemp("data-root")))


@pytest.fixture(scope="session")
def whole(workers: Workers, config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happened to."""
    runs = tmp_path_factory.mktemp("whole")
    assert workers.begin(config, runs).wait().state == "finished"
    (folder,) = run_folders(runs)
    return folder


@pytest.fixture(scope="session")
def cut(workers: Workers, config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run killed in the second of its three epochs."""
    runs = tmp_path_factory.mktemp("cut")
    assert workers.begin(config, runs, ("die_in_step", {"number": 4})).wait().was_killed
    (folder,) = run_folders(runs)
    return folder


@pytest.fixture(scope="session")
def image(whole: Path) -> str:
    """The id of a recorded image."""
    from sam_core.recording.reader import Run

    return Run(whole).samples[-1]["id"]


@pytest.fixture
def copied(tmp_path: Path):
    """Copies a run folder to where it can be damaged."""

    def copy(folder: Path, runs: str = "runs") -> Path:
        return Path(shutil.copytree(folder, tmp_path / runs / folder.name))

    return copy
