"""Faults that a worker suffers from within: it dies at a chosen operation, its disk is full, its memory is gone.

Each function is called in the worker before it begins, and returns one that says how often the place was reached. They
replace a function of a library, or of the run's writer, by one that fails; what is tested stays as it is.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sam_core.recording.writer import AttentionWriter

Counter = Callable[[], int]

#: What Python tells an audit hook before it does it to a file, or opens it.
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")
#: File systems give out space in blocks: what fits into a file's last one needs no more of a full disk.
BLOCK = 4096


class _Count:
    def __init__(self) -> None:
        self.value = 0

    def __call__(self) -> int:
        return self.value

    def reaches(self, number: int) -> bool:
        self.value += 1
        return self.value == number


def die() -> None:
    """End this process as SIGKILL does: nothing is flushed, nothing tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)


# --- Killed at a chosen operation -----------------------------------------------------------------------------------


def die_before_file_operation(number: int, root: str) -> Counter:
    """Die before the `number`-th file below `root` is opened, renamed or removed; 0 only counts."""
    count = _Count()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and _is_below(arguments[0], root) and count.reaches(number):
            die()

    sys.addaudithook(hook)
    return count


def die_half_way_through_write(number: int, root: str) -> Counter:
    """Die when half of what the `number`-th write to a file below `root` was given is written; 0 only counts."""
    count = _Count()

    def before_write(file: Any, data: Any) -> None:
        if count.reaches(number):
            file.write(data[: len(data) // 2])
            file.flush()
            die()

    _watch_writes(root, before_write)
    return count


def die_in_step(number: int) -> Counter:
    """Die in the `number`-th step, when its gradients are there and the weights have not changed."""
    return _dying(torch.optim.SGD, "step", number)


def die_while_recording(number: int) -> Counter:
    """Die when the maps of half the images of the `number`-th batch are recorded, those of the others not."""
    count, record = _Count(), AttentionWriter.record

    def half(self: AttentionWriter, rows: np.ndarray, point: int, maps: Any, *more: Any) -> None:
        if count.reaches(number):
            some = len(rows) // 2
            record(self, rows[:some], point, {kind: m[:some] for kind, m in maps.items()}, *(m[:some] for m in more))
            die()
        record(self, rows, point, maps, *more)

    AttentionWriter.record = half
    return count


def die_around_point(number: int, *, after: bool) -> Counter:
    """Die just before, or just after, the `number`-th recording point is declared whole."""
    return _dying(AttentionWriter, "finish_point", number, after=after)


def linger_in_step(number: int, seconds: float) -> Counter:
    """Wait in the `number`-th step, without using the processor."""
    count, step = _Count(), torch.optim.SGD.step

    def lingering(*arguments: Any, **options: Any) -> Any:
        if count.reaches(number):
            time.sleep(seconds)
        return step(*arguments, **options)

    torch.optim.SGD.step = lingering
    return count


def _dying(place: Any, name: str, number: int, *, after: bool = False) -> Counter:
    count, function = _Count(), getattr(place, name)

    def dying(*arguments: Any, **options: Any) -> Any:
        is_last = count.reaches(number)
        if is_last and not after:
            die()
        result = function(*arguments, **options)
        if is_last:
            die()
        return result

    setattr(place, name, dying)
    return count


# --- A full disk ----------------------------------------------------------------------------------------------------


def limit_files(size: int) -> Counter:
    """No file can be written beyond `size` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return _Count()


def fill_disk(number: int, root: str) -> Counter:
    """From the `number`-th operation that needs space below `root`, there is none; 0 only counts.

    Half of what is written then still fits. What a file has already can be written anew.
    """
    count = _Count()

    def is_full() -> bool:
        count.value += 1
        return 0 < number <= count.value

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def before_write(file: Any, data: Any) -> None:
        length = len(data.encode() if isinstance(data, str) else data)
        has = os.fstat(file.fileno()).st_blocks * 512
        if file.tell() + length > has and is_full():
            file.write(data[: len(data) // 2])
            file.flush()
            refuse()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.mkdir" and _is_below(arguments[0], root) and is_full():
            refuse()

    _watch_writes(root, before_write)
    sys.addaudithook(hook)
    allocate = os.posix_fallocate
    os.posix_fallocate = lambda *arguments: refuse() if is_full() else allocate(*arguments)
    return count


def _watch_writes(root: str, before_write: Callable[[Any, Any], None]) -> None:
    """Have `before_write(file, data)` called before anything is written to a file below `root`."""
    plain_open = io.open

    def watching_open(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        opened = plain_open(file, mode, *arguments, **options)
        return _Watched(opened, before_write) if set(mode) & set("wax+") and _is_below(file, root) else opened

    builtins.open = io.open = watching_open


class _Watched:
    """An open file that says what is written to it."""

    def __init__(self, file: Any, before_write: Callable[[Any, Any], None]) -> None:
        self._file = file
        self._before_write = before_write

    def write(self, data: Any) -> int:
        if not isinstance(data, str):
            data = bytes(data)
        self._before_write(self._file, data)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _is_below(path: Any, root: str) -> bool:
    try:
        return os.path.abspath(os.fsdecode(path)).startswith(root)
    except (TypeError, ValueError):
        return False  # a descriptor


# --- No memory, no finite loss --------------------------------------------------------------------------------------


def lose_device_memory(number: int) -> Counter:
    """The device has no memory left in the `number`-th step."""
    count, step = _Count(), torch.optim.SGD.step

    def failing(*arguments: Any, **options: Any) -> Any:
        if count.reaches(number):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation.")
        return step(*arguments, **options)

    torch.optim.SGD.step = failing
    return count


def spoil_weights(number: int) -> Counter:
    """After the `number`-th step, whose loss was a number, the weights are none."""
    count, step = _Count(), torch.optim.SGD.step

    def spoiling(self: torch.optim.SGD, *arguments: Any, **options: Any) -> Any:
        result = step(self, *arguments, **options)
        if count.reaches(number):
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("inf"))
        return result

    torch.optim.SGD.step = spoiling
    return count
