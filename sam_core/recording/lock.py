"""One writer per run folder, known to the operating system, so that a killed process holds nothing."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TextIO

from sam_core.recording.layout import LOCK

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: TextIO) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: TextIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


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
        return not _try_lock(file)
