"""Values that nobody means well by: for files of a run, for names and numbers in an address."""

from __future__ import annotations

import copy
import json
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sam_core.config import PROJECT_ROOT

TEXTS = (
    "", " ", ".", "..", "../..", "../../../etc/passwd", "/etc/passwd", "//etc/passwd", "\\\\host\\share",
    "C:\\boot.ini", "~", "~root", "~nobody-here/x", "%2e%2e%2f", "a\0b", "\0", "\ud800", "x\udfffy", "\u202egnp",
    "\n", "a\nb: c", "\x1b[31m", "é" * 300, "a" * 5000, "9" * 400, "nan", "Infinity", "-1", "1e999", "0x10", "true",
    "null", "None", "__class__", "CON", "a/b", "a/../../b", "file:///etc/passwd", "http://127.0.0.1/",
    "<script>alert(1)</script>", "'; drop table runs; --", "${HOME}", "$(id)", "`id`", "%s%n",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 3, 255, 256, -(2**31), 2**31, 2**53 + 1, 10**18, 10**400, -(10**400), 0.0, -0.0, 0.5, 1e-320, 1e308,
    -1e308, float("nan"), float("inf"), -float("inf"),
)  # fmt: skip


def strange_value(generator: random.Random, depth: int = 0) -> Any:
    """Any JSON value, or what a careless reader takes for one."""
    kind = generator.randrange(12 if depth < 4 else 8)
    if kind < 3:
        return generator.choice(TEXTS)
    if kind < 6:
        return generator.choice(NUMBERS)
    if kind < 8:
        return generator.choice((None, True, False))
    if kind == 8:
        return nested(generator.choice((3, 60, 400)))
    if kind == 9:
        return [strange_value(generator, depth + 1) for _ in range(generator.randrange(6))]
    if kind == 10:
        return {generator.choice(TEXTS): strange_value(generator, depth + 1) for _ in range(generator.randrange(5))}
    return [generator.randrange(5) for _ in range(generator.choice((0, 1, 2, 4, 5)))]


def nested(depth: int) -> Any:
    """Lists and objects in each other."""
    value: Any = "x"
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def changed(value: Any, generator: random.Random) -> Any:
    """A value of a run's file with one to three of its parts replaced, removed or added."""
    value = copy.deepcopy(value)
    for _ in range(generator.choice((1, 1, 2, 3))):
        if generator.random() < 0.04 or not isinstance(value, dict | list) or not value:
            return strange_value(generator)
        place = value
        while True:
            key = generator.choice(list(place) if isinstance(place, dict) else range(len(place)))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or generator.random() < 0.5:
                break
            place = inner
        _change(place, key, generator)
    return value


def _change(place: Any, key: Any, generator: random.Random) -> None:
    action = generator.randrange(6)
    if action == 0:
        del place[key]
    elif action == 1 and isinstance(place, dict):
        place[generator.choice(TEXTS)] = strange_value(generator)
    elif action == 1:
        place.append(place[key])
    else:
        place[key] = strange_value(generator)


def as_bytes(value: Any, generator: random.Random) -> bytes:
    """A value as a file of JSON, now and then one that is none or goes too deep."""
    if generator.random() < 0.03:
        return generator.choice(
            (b"", b"\xff\xfe{", b"[" * 100_000, b'{"a": ' * 5000, b"\xef\xbb\xbf{}", b"{} {}", b"NaN")
        )
    return json.dumps(value).encode()


# --- What is opened meanwhile ---------------------------------------------------------------------------------------

#: What a reader and a writer ask the system for, and how many paths come first in the arguments.
_EVENTS = {
    "open": 1, "os.listdir": 1, "os.scandir": 1, "os.mkdir": 1, "os.rmdir": 1, "os.remove": 1, "os.rename": 2,
    "os.link": 2, "os.symlink": 2, "os.truncate": 1, "os.chmod": 1, "shutil.rmtree": 1, "shutil.copytree": 2,
    "subprocess.Popen": 0,
}  # fmt: skip
_touched: set[tuple[str, str]] | None = None


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if _touched is not None and event in _EVENTS:
        if event == "subprocess.Popen":
            _touched.add((event, "a process"))
        for path in arguments[: _EVENTS[event]]:
            if isinstance(path, str | bytes | os.PathLike):
                _touched.add((event, os.path.realpath(os.fsdecode(path))))


@contextmanager
def touching_only(*roots: Path) -> Iterator[None]:
    """Assert that no file outside some folders is opened, made or removed, links followed.

    The interpreter and its packages may read themselves, and what the system keeps for every program.
    """
    global _touched
    if not getattr(touching_only, "is_listening", False):
        sys.addaudithook(_listen)  # it cannot be taken away again, so it is one for all
        touching_only.is_listening = True
    own = (sys.prefix, sys.base_prefix, PROJECT_ROOT / "sam_core", PROJECT_ROOT / "explorer", PROJECT_ROOT / "tests")
    allowed = [os.path.realpath(root) for root in (*roots, *own, "/proc", "/sys", "/dev", "/usr/lib", "/usr/share")]
    _touched = set()
    try:
        yield
        touched, _touched = _touched, None
    finally:
        _touched = None
    strangers = {(event, path) for event, path in touched if not _is_within(path, allowed)}
    assert not strangers, sorted(strangers)[:20]


def _is_within(path: str, roots: list[str]) -> bool:
    return any(path == root or path.startswith(root + os.sep) for root in roots)
