"""The trained networks that pages ask about photographs: loaded once, used by one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from explorer.files import modified
from explorer.kept import Kept
from sam_core.evaluation.inspection import Inspector
from sam_core.recording import layout
from sam_core.recording.reader import Run

#: Networks kept in memory. Each takes what its weights take: 14 MB for the default backbone, 100 MB for ResNet-50.
KEPT_NETWORKS = 2


class Networks:
    """Inspectors by run and epoch. Hooks and parallel requests do not mix, so one lock guards them all."""

    def __init__(self) -> None:
        self._inspectors: Kept[tuple[Path, int | None, int], Inspector] = Kept(KEPT_NETWORKS)
        self._lock = threading.Lock()

    @contextmanager
    def inspector(self, run: Run, epoch: int | None = None) -> Iterator[Inspector]:
        """The run's network as it was trained to the end, or as kept after `epoch`; nobody else uses it meanwhile.

        Raises:
            RunError: if those weights are not there.
        """
        with self._lock:
            key = (run.folder, epoch, modified(run.folder / layout.MODEL))
            yield self._inspectors.get(key, lambda: Inspector(run, epoch=epoch))

    def forget(self) -> None:
        """Let go of all of them."""
        with self._lock:
            self._inspectors.clear()
