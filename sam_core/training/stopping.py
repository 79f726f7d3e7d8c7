"""Stopping a run from outside: the first signal is a request, the second an order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """The run was asked to stop, and has; its last finished epoch is on disk."""


class StopRequest:
    """Whether somebody pressed Ctrl-C or sent SIGTERM.

    Attributes:
        made: somebody did.
        too_late: the run is ending by itself, and has only to write that down. torchrun then sends SIGTERM to every
            process whose neighbour has failed.
    """

    def __init__(self) -> None:
        self.made = False
        self.too_late = False

    def give_way(self) -> None:
        """Called between two batches of training or evaluation: end here if that was asked for."""
        if self.made:
            raise Stopped

    @contextmanager
    def listening(self, acknowledge: Callable[[], None]) -> Iterator[None]:
        """Turn signals into a request; `acknowledge` is called at once. A second signal ends the process now.

        Only the main thread may handle signals; elsewhere this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: object) -> None:
            if self.too_late:
                return
            if self.made:
                raise KeyboardInterrupt
            self.made = True
            acknowledge()

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
