"""The default run as a person starts it: until its first epoch shows, until its end, and the memory it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sam_core.benchmark.rows import Figure
from sam_core.config import PROJECT_ROOT
from sam_core.recording import layout

#: The budget's machine.
CORES = 2
#: Seconds between two looks at the run folder and at the process's memory.
INTERVAL_S = 0.1
#: The standard error, as a share, that is assumed of what is measured once.
ASSUMED_NOISE = 0.03


class QuickRunError(RuntimeError):
    """The default run did not reach its end."""

    hint = "start it by itself to see why: python -m sam_core train --preset quick"


def measure_quick_run(options: Sequence[str] = ()) -> dict[str, Figure]:
    """Start the default run in a process of its own and watch it from outside.

    It begins with nothing: run folder and data are in a fresh temporary folder, so that the drawing of the images is
    part of the time. It sees no GPU, and two CPU cores where there are more. Only what the operating system keeps in
    memory (the program's files) may be warm.

    Args:
        options: further options of `train`; a test makes the run short with them.
    """
    with tempfile.TemporaryDirectory(prefix="sam-benchmark-") as place:
        runs = Path(place) / "runs"
        command = [
            *(sys.executable, "-m", "sam_core", "train", "--preset", "quick", "--json", "--device", "cpu"),
            *("--runs", str(runs), "--data-root", str(Path(place) / "data"), *options),
        ]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        with open(Path(place) / "errors.txt", "w+", encoding="utf-8") as errors, few_cores(CORES) as cores:
            started = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=PROJECT_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=errors, text=True
            )
            seen, seconds, peak = _watch(process, runs, started)
            errors.seek(0)
            said = errors.read().strip()
    if process.returncode != 0 or 1 not in seen:
        lines = said.splitlines() or ["it said nothing"]
        reason = next((line for line in reversed(lines) if line.startswith("error:")), lines[-1])
        raise QuickRunError(f"the default run ended with exit code {process.returncode}; {reason}")
    details = {"cores": cores, "data": "drawn within the time"}
    return {
        "quick_first_point_s": _once(seen[1], details | {"epoch_0_s": round(seen[0], 2)}),
        "quick_run_s": _once(seconds, details | {"epochs": max(seen)}),
        "quick_peak_gb": _once(peak / 1e9, {"processes": "the worker and its children"}),
    }


def _once(value: float, details: dict[str, object]) -> Figure:
    return Figure(value, ASSUMED_NOISE * value, details)


def _watch(process: subprocess.Popen[str], runs: Path, started: float) -> tuple[dict[int, float], float, float]:
    """Follow a run to its end: when each epoch was first seen (seconds), when it ended, its peak memory (bytes)."""
    seen: dict[int, float] = {}
    peak = 0.0
    try:
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid))
            _note_epochs(runs, seen, time.perf_counter() - started)
            time.sleep(INTERVAL_S)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    seconds = time.perf_counter() - started
    _note_epochs(runs, seen, seconds)
    return seen, seconds, peak or _largest_child()


def _note_epochs(runs: Path, seen: dict[int, float], now: float) -> None:
    for path in runs.glob(f"*/{layout.METRICS}"):
        for line in path.read_bytes().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last line is being written
            if entry.get("kind") == "epoch":
                seen.setdefault(entry["epoch"], now)


def memory_of(pid: int) -> float:
    """Bytes of memory that a process has taken at most so far, and those that its children take now; 0 if unknown.

    Read from the process itself: the operating system's sum over finished children would begin with the memory of the
    process that started them.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
        return float(peak + sum(memory_of(child) for child in _children(pid)))
    except (OSError, StopIteration):
        return 0.0  # no such system, or the process has just ended


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in path.read_text(encoding="utf-8").split()]
    return found


def _largest_child() -> float:
    """The largest finished child's memory in bytes: where no process can be looked into while it runs (macOS)."""
    try:
        import resource
    except ImportError:
        return float("nan")
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return float(largest if sys.platform == "darwin" else largest * 1024)


@contextmanager
def few_cores(count: int) -> Iterator[int | None]:
    """Let processes started inside use `count` CPU cores; yields how many they have, None where that is unknown."""
    if not hasattr(os, "sched_setaffinity"):
        yield os.cpu_count()
        return
    # A new process inherits the cores of the thread that starts it. Only this thread is limited, and only until then.
    thread = threading.get_native_id()
    before = os.sched_getaffinity(thread)
    os.sched_setaffinity(thread, sorted(before)[:count])
    try:
        yield min(count, len(before))
    finally:
        os.sched_setaffinity(thread, before)
