"""Memory over many epochs: what a worker takes, and a server with a page that polls, does not grow with them."""

from __future__ import annotations

import gc
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from explorer.context import Explorer
from explorer.places import Places
from explorer.runs import library, live
from sam_core.config import RunConfig
from sam_core.recording.reader import Run
from tests.faults.workers import Workers, run_folders

PAGE = os.sysconf("SC_PAGE_SIZE")
#: The share of the run after which everything that is kept has been made once.
WARM_UP = 0.3


def memory_of(process: int) -> int:
    """What a process has in memory and shares with no file, in bytes."""
    resident, shared = map(int, Path(f"/proc/{process}/statm").read_text().split()[1:3])
    return (resident - shared) * PAGE


def growth(epochs: Sequence[int], memory: Sequence[int]) -> float:
    """Bytes per epoch, of a line through the measurements after the warm-up."""
    warm = [(epoch, size) for epoch, size in zip(epochs, memory, strict=True) if epoch >= WARM_UP * max(epochs)]
    assert len(warm) >= 10, "it was not looked at often enough"
    return float(np.polyfit(*zip(*warm, strict=True), deg=1)[0])


@contextmanager
def held(process: int) -> Iterator[None]:
    """Let a process wait, so that it is seen every few epochs however slow the machine is to look."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def watch(
    workers: Workers, config: RunConfig, epochs: int, runs: Path, explorer: Explorer, tried: Counter[str]
) -> tuple[float, float]:
    """Train for many epochs while a page polls; how many bytes an epoch costs the worker, and how many the server.

    The page has the list of runs, one run's curves, its gallery and an image's timeline open.
    """
    many = RunConfig.from_json(config.to_json() | {"epochs": epochs, "eval_every": max(1, epochs // 100)})
    worker = workers.begin(many, runs)
    seen, of_worker, of_server = [], [], []
    version, cursor, state = 0, "", "starting"
    while state not in ("finished", "failed"):
        time.sleep(0.02)
        with held(worker.pid):
            for folder in run_folders(runs):
                if (changes := explorer.library.changes_json(version)) is not None:
                    version = json.loads(changes)["version"]
                if (news := explorer.feeds.of(folder).news_json(cursor)) is None:
                    continue
                cursor, state, status = (json.loads(news)[name] for name in ("cursor", "state", "status"))
                if json.loads(news)["recorded"] and explorer.runs.get(folder.name).has_samples:
                    run = explorer.runs.get(folder.name)
                    explorer.messages.of(run, run.samples[0]["id"], after=-1, allowed=lambda path: True)
                    explorer.rankings.of(run)
                epoch, memory = status["epoch"] or 0, memory_of(worker.pid)
                # A process that has just ended has no memory.
                if epoch >= (seen[-1] if seen else 0) + epochs // 30 and memory:
                    gc.collect()
                    seen.append(epoch)
                    of_worker.append(memory)
                    of_server.append(memory_of(os.getpid()))
    assert worker.wait().state == "finished"
    (folder,) = run_folders(runs)
    assert len(Run(folder).metrics("epoch")) == epochs + 1
    tried["epochs under watch"] += epochs
    return growth(seen, of_worker), growth(seen, of_server)


@pytest.fixture
def explorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(library, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(library, "LOOK_AT_ALL_EVERY_S", 0.0)
    monkeypatch.setattr(live, "SHARED_LOOK_S", 0.0)
    explorer = Explorer(Places(tmp_path / "runs", demo=tmp_path / "demo", data_roots=(tmp_path,)))
    yield explorer
    explorer.close()


def test_memory_grows_with_no_epoch(
    workers: Workers, config: RunConfig, tmp_path: Path, explorer: Explorer, tried: Counter[str]
):
    worker, server = watch(workers, config, 60, tmp_path / "runs", explorer, tried)
    # A batch of images is 200 kB, a set of weights 1.5 MB: whoever keeps one of either per epoch is found out.
    assert worker < 100_000, f"the worker grows by {worker:,.0f} bytes an epoch"
    assert server < 100_000, f"the server grows by {server:,.0f} bytes an epoch"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_memory_grows_with_none_of_two_thousand_epochs(
    workers: Workers, config: RunConfig, tmp_path: Path, explorer: Explorer, tried: Counter[str], capsys
):
    worker, server = watch(workers, config, 2000, tmp_path / "runs", explorer, tried)
    with capsys.disabled():
        print(f"\nbytes an epoch: worker {worker:,.0f}, server with a page open {server:,.0f}")
    # The points of the curves are kept by the server, some 2 kB of numbers an epoch; nothing else may be.
    assert worker < 1_000
    assert server < 10_000
