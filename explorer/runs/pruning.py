"""The disk that a run takes, and what of it can be given back."""

from __future__ import annotations

import shutil
from pathlib import Path

from sam_core.recording import layout
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunError


def disk_size(folder: Path) -> int:
    """Bytes of every file in a run folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # being replaced at this moment
    return total


def prune(run: Run) -> int:
    """Remove what only resuming and earlier epochs' weights need; returns the bytes freed.

    Curves, recorded maps and the trained network stay.

    Raises:
        RunError: unless the run has finished.
    """
    if run.status.get("state") != "finished":
        raise RunError(
            f"run {run.id} has not finished and still needs what resuming needs", "let it finish, or delete it"
        )
    before = disk_size(run.folder)
    (run.folder / layout.LAST).unlink(missing_ok=True)
    shutil.rmtree(run.folder / layout.KEPT, ignore_errors=True)
    return before - disk_size(run.folder)
