"""Worker processes for tests, forked within milliseconds from one that has imported everything: a kill costs little."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_core.config import PROJECT_ROOT, RunConfig

#: A worker that takes longer than this hangs.
PATIENCE_S = 60.0

Fault = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Ending:
    """How a worker ended: its exit code (negative: the signal that killed it) and, unless it was killed, its answer."""

    code: int
    answer: dict[str, Any] | None

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def state(self) -> str | None:
        """The state of the run that it returned, or None where it raised."""
        return self.answer.get("state") if self.answer else None

    @property
    def sentence(self) -> str:
        """What it said where it raised one of the documented errors, with its hint."""
        answer = self.answer or {}
        assert answer.get("error") in ("TrainingError", "RunError", "DatasetError", "ConfigError"), answer
        assert "\n" not in answer["message"], answer["message"]
        return f"{answer['message']} ({answer['hint']})"


class Worker:
    """One worker process."""

    def __init__(self, workers: Workers, pid: int) -> None:
        self.pid = pid
        self._workers = workers

    def kill(self) -> Ending:
        """End it now, as the system does when memory runs out."""
        os.kill(self.pid, signal.SIGKILL)  # it is not reaped before it is waited for, so the number is still its own
        return self.wait()

    def wait(self, seconds: float = PATIENCE_S) -> Ending:
        reply = self._workers.ask({"wait": self.pid, "seconds": seconds})
        if reply["code"] is None:
            os.kill(self.pid, signal.SIGKILL)
            self._workers.ask({"wait": self.pid, "seconds": seconds})
            raise AssertionError(f"a worker was still at work after {seconds} s")
        return Ending(reply["code"], reply["answer"])


class Workers:
    """Starts workers. Close it to end the process that they are forked from."""

    def __init__(self) -> None:
        paths = (str(PROJECT_ROOT), os.environ.get("PYTHONPATH", ""))
        self._parent = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(request) + "\n")
        self._parent.stdin.flush()
        return json.loads(self._parent.stdout.readline())

    def begin(self, config: RunConfig, runs: Path, *faults: Fault) -> Worker:
        """A worker that trains a new run."""
        return self._fork(runs, faults, config=config.to_json())

    def resume(self, folder: Path, *faults: Fault, at: float | None = None) -> Worker:
        """A worker that goes on with a run; with `at`, at that moment of the monotonic clock."""
        return self._fork(folder.parent, faults, resume=str(folder), at=at)

    def finish(self, folder: Path) -> Ending:
        """Resume a run, which must end finished."""
        ending = self.resume(folder).wait()
        assert ending.state == "finished", ending
        return ending

    def _fork(
        self, runs: Path, faults: Sequence[Fault], *, config: dict[str, Any] | None = None,
        resume: str | None = None, at: float | None = None,
    ) -> Worker:  # fmt: skip
        job = {"config": config, "resume": resume, "runs": str(runs), "faults": list(faults), "at": at}
        return Worker(self, self.ask({"fork": job})["pid"])

    def close(self) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(timeout=30)


def run_folders(runs: Path) -> list[Path]:
    """The run folders that a reader would find: whatever is there and not hidden."""
    return sorted(path for path in runs.iterdir() if not path.name.startswith(".")) if runs.is_dir() else []


def closely_then_widely(close: int, stride: int) -> Iterator[int]:
    """1, 2, 3, ... up to a number, and from there on in steps: the first operations of a run differ most."""
    yield from range(1, close)
    yield from itertools.count(close, stride)


def now() -> float:
    """The clock that workers are timed by: the same in every process of a machine."""
    return time.monotonic()
