"""Every image of a dataset looked at, in a thread that no page has to wait for: unreadable, twice there, misfiled."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from explorer.data.contents import described_problems
from explorer.data.shelf import Selection, Shelf
from explorer.places import Places
from sam_core.datasets.base import DatasetError
from sam_core.datasets.cache import cache_folder

#: Results that are kept.
KEPT_RESULTS = 20
#: Seconds that the end of the server waits for a check to notice it.
PATIENCE_S = 5.0

_log = logging.getLogger("explorer")


class _ServerEnds(Exception):
    """Ends a check between two images."""


@dataclass
class _Check:
    """A check that goes on or has ended. `state` is `running`, `done` or `failed`."""

    version: str
    state: str = "running"
    done: int = 0
    total: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    message: str = ""
    seconds: float = 0.0


class Checks:
    """The checks of datasets, one at a time for each; a result holds until the dataset's files change.

    Args:
        places: their first data root has the cache of what is known of an image's content.
        shelf: where datasets come from.
    """

    def __init__(self, places: Places, shelf: Shelf) -> None:
        self._cache_root = cache_folder(places.data_roots[0])
        self._shelf = shelf
        self._lock = threading.Lock()
        self._checks: OrderedDict[Selection, _Check] = OrderedDict()
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def start(self, selection: Selection) -> dict[str, Any]:
        """Begin to check a dataset, if nobody has; returns what `state` does.

        Raises:
            DatasetError: if the dataset cannot be used.
        """
        version = self._shelf.open(selection).version
        with self._lock:
            known = self._checks.get(selection)
            if known is None or (known.state != "running" and (known.version != version or known.state == "failed")):
                check = self._checks[selection] = _Check(version)
                self._checks.move_to_end(selection)
                self._forget_oldest()
                thread = threading.Thread(target=self._run, args=(selection, check), name="checking", daemon=True)
                self._threads.add(thread)
                thread.start()
        return self.state(selection)

    def state(self, selection: Selection) -> dict[str, Any]:
        """How far a dataset's check is.

        Returns:
            `state` (none, running, done, failed), `done` and `total` images, `seconds` it took, `message` why it
            failed, and the `problems` found.
        """
        with self._lock:
            check = self._checks.get(selection)
        if check is None or (check.state == "done" and check.version != self._shelf.open(selection).version):
            return {"state": "none"}
        return {
            "state": check.state, "done": check.done, "total": check.total, "seconds": round(check.seconds, 1),
            "message": check.message, "problems": check.problems,
        }  # fmt: skip

    def close(self) -> None:
        """End what is going on; what is known of an image by now is in the cache."""
        self._closed = True
        for thread in list(self._threads):
            thread.join(timeout=PATIENCE_S)

    def _run(self, selection: Selection, check: _Check) -> None:
        from sam_core.datasets.checking import check_images

        def note(done: int, total: int) -> None:
            if self._closed:
                raise _ServerEnds
            check.done, check.total = done, total

        began = time.monotonic()
        try:
            opened = self._shelf.open(selection)
            found = check_images(opened.dataset, cache_root=self._cache_root, progress=note)
            check.problems = described_problems(opened, found)
            check.version, check.seconds, check.state = opened.version, time.monotonic() - began, "done"
        except _ServerEnds:
            check.state, check.message = "failed", "the server was ended"
        except (DatasetError, OSError) as error:
            check.state, check.message = "failed", str(error)
        except Exception as error:
            _log.exception("checking %s", selection.name)
            check.state, check.message = "failed", f"this failed unexpectedly ({type(error).__name__}); see the log"
        finally:
            self._threads.discard(threading.current_thread())

    def _forget_oldest(self) -> None:
        ended = [selection for selection, check in self._checks.items() if check.state != "running"]
        for selection in ended[: max(0, len(self._checks) - KEPT_RESULTS)]:
            del self._checks[selection]
