"""What was made lately, kept for those who ask for it again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Kept(Generic[_Key, _Value]):
    """So many values by their keys; the one that was asked for longest ago goes first.

    Args:
        most: how many are kept.
        is_worth_keeping: of a value that was made; left out, each one is.
    """

    def __init__(self, most: int, *, is_worth_keeping: Callable[[_Value], bool] = lambda value: True) -> None:
        self._most = most
        self._is_worth_keeping = is_worth_keeping
        self._values: OrderedDict[_Key, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        """The value of `key`, made if there is none. Two who ask for it at once have it made once; others wait."""
        with self._lock:
            value = self._values.pop(key) if key in self._values else make()
            if self._is_worth_keeping(value):
                self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
            return value

    def clear(self) -> None:
        """Let go of all of them."""
        with self._lock:
            self._values.clear()
