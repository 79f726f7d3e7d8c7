"""One writer per run folder, known to the operating system, so that a killed process holds nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TextIO

from sam_core.locks import try_lock
from sam_core.recording.layout import LOCK


def take_lock(folder: Path) -> TextIO | None:
    """Take the folder's lock until the returned file is closed or the process ends; None if another process has it."""
    file = open(folder / LOCK, "a", encoding="utf-8")  # noqa: SIM115
    for _ in range(20):
        if _try_lock(file):
            return file
        time.sleep(0.05)  # a reader may be looking whether it is taken
    file.close()
    return None


def is_locked(folder: Path) -> bool:
    """Whether a process of this machine is writing the run."""
    try:
        file = open(folder / LOCK, "r+", encoding="utf-8")  # noqa: SIM115
    except OSError:
        return False
    with file:
        return not _try_lock(file, shared=True)


def _try_lock(file: TextIO, *, shared: bool = False) -> bool:
    """Without locks on its file system, a run cannot be known to be ours alone."""
    try:
        return try_lock(file, shared=shared)
    except OSError:
        return False
