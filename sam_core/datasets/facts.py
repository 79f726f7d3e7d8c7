"""What is known of image files, so that none is opened twice: their content's digest, and what reading that found.

Two tables of one SQLite file. `files` says which content a file has, for as long as its size and time of change stay;
`contents` says what reading a content came to, wherever it lies. Nothing here is needed: what is lost is found again by
opening the files, so whatever goes wrong with the database costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

#: The database's name below the cache's folder, and the version of its tables.
FACTS = "facts.sqlite"
VERSION = 1
#: How long another process's writing is waited for.
BUSY_S = 10
#: A file that changed so shortly before it was read may change again within the same tick of its clock (2 s on FAT),
#: unseen; such a file is looked at once more the next time.
SETTLED_NS = 2_000_000_000
#: A database larger than this (of about a million images) is begun anew.
LARGEST_BYTES = 500_000_000
#: Values in one query; SQLite's own limit was 999 for long.
_AT_ONCE = 500

Result = TypeVar("Result")


@dataclass(frozen=True)
class Stamp:
    """How a file looks from outside. If this has not changed, its content has not."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, about: os.stat_result) -> Stamp:
        """The stamp of a file that was asked for its state."""
        return cls(about.st_size, about.st_mtime_ns)

    def is_settled(self, now_ns: int) -> bool:
        """Whether a change from now on would show."""
        return abs(now_ns - self.mtime_ns) > SETTLED_NS


@dataclass(frozen=True)
class Content:
    """What reading some bytes as an image came to.

    Attributes:
        width: of the upright image, in pixels; 0 if it cannot be read.
        height: likewise.
        kind: the kind of problem, `unreadable image` or `truncated image`; empty if it can be read.
        problem: the problem in a sentence.
        look: a small grey picture of it, 16 x 16 bytes, for comparing; empty if there is none.
    """

    width: int = 0
    height: int = 0
    kind: str = ""
    problem: str = ""
    look: bytes = b""


class Facts:
    """The database. Any thread may ask. Use as a context: leaving it writes what was remembered last."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is the cache's; None, or one that cannot be written, means that nothing is kept."""
        self._path = None if folder is None else Path(folder) / FACTS
        self._connection = self._connect()
        self._in_use = threading.RLock()
        self._new_files: list[tuple[bytes, int, int, bytes]] = []
        self._new_contents: list[tuple[bytes, str, int, int, str, str, bytes]] = []

    def __enter__(self) -> Facts:
        return self

    def __exit__(self, *error: object) -> None:
        self.save()
        self._connection.close()

    # --- asking -------------------------------------------------------------------------------------------------

    def digests(self, paths: Sequence[Path]) -> list[bytes | None]:
        """The digest of each file's content; None where the file has changed since, is gone, or was never read."""
        names = [_name(path) for path in paths]
        known = {
            name: (Stamp(size, mtime_ns), digest)
            for name, size, mtime_ns, digest in self._select("SELECT * FROM files WHERE path IN", names)
        }
        found: list[bytes | None] = []
        for path, name in zip(paths, names, strict=True):
            stamp, digest = known.get(name, (None, None))
            found.append(digest if stamp is not None and stamp == _stamp(path) else None)
        return found

    def contents(self, digests: Collection[bytes], reading: str) -> dict[bytes, Content]:
        """What is known of these contents, read in this way (see `Reading.name`)."""
        return {
            digest: Content(*values)
            for digest, name, *values in self._select("SELECT * FROM contents WHERE digest IN", list(digests))
            if name == reading
        }

    def content(self, digest: bytes, reading: str) -> Content | None:
        """What is known of one content."""
        return self.contents([digest], reading).get(digest)

    # --- remembering --------------------------------------------------------------------------------------------

    def remember_file(self, path: Path, stamp: Stamp, digest: bytes) -> None:
        """Keep which content a file has; `stamp` is from before its bytes were read."""
        if stamp.is_settled(time.time_ns()):
            self._new_files.append((_name(path), stamp.size, stamp.mtime_ns, digest))

    def remember_content(self, digest: bytes, reading: str, content: Content) -> None:
        """Keep what reading a content came to."""
        values = (content.width, content.height, content.kind, content.problem, content.look)
        self._new_contents.append((digest, reading, *values))

    def save(self) -> None:
        """Write what was remembered, in one short transaction."""

        def write() -> None:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", self._new_files)
                self._connection.executemany(
                    "INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?, ?, ?)", self._new_contents
                )

        if self._new_files or self._new_contents:
            self._attempt(write, None)
        self._new_files.clear()
        self._new_contents.clear()

    # --- the database -------------------------------------------------------------------------------------------

    def _select(self, query: str, values: Sequence[bytes]) -> list[tuple]:
        def select() -> list[tuple]:
            rows: list[tuple] = []
            for start in range(0, len(values), _AT_ONCE):
                some = values[start : start + _AT_ONCE]
                rows += self._connection.execute(f"{query} ({','.join('?' * len(some))})", some)
            return rows

        return self._attempt(select, [])

    def _attempt(self, operation: Callable[[], Result], otherwise: Result) -> Result:
        with self._in_use:
            try:
                return operation()
            except sqlite3.Error as error:  # locked for too long, no room, read-only
                if type(error) is sqlite3.DatabaseError:  # damaged
                    self._connection.close()
                    self._set_aside()
                    self._connection = self._connect()
                return otherwise

    def _connect(self) -> sqlite3.Connection:
        """The database, made or begun anew where need be; one in memory where that is not possible."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                if self._path.exists() and self._path.stat().st_size > LARGEST_BYTES:
                    self._set_aside()
            for _ in range(2):
                try:
                    return _open_database(self._path)
                except sqlite3.OperationalError:
                    break
                except sqlite3.DatabaseError:
                    self._set_aside()
        return _open_database(None)

    def _set_aside(self) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.replace(self._path, self._path.with_suffix(".damaged"))


#: A path is kept as bytes: names of files need not be text.
_TABLES = (
    "DROP TABLE IF EXISTS files",
    "DROP TABLE IF EXISTS contents",
    "CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest BLOB) WITHOUT ROWID",
    "CREATE TABLE contents (digest BLOB, reading TEXT, width INTEGER, height INTEGER, kind TEXT, problem TEXT, "
    "look BLOB, PRIMARY KEY (digest, reading)) WITHOUT ROWID",
    f"PRAGMA user_version = {VERSION}",
)


def _open_database(path: Path | None) -> sqlite3.Connection:
    # Without an isolation level transactions begin and end where we say so.
    connection = sqlite3.connect(path or ":memory:", timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        # A killed process loses nothing by this, and a power cut no more than facts.
        connection.execute("PRAGMA synchronous = NORMAL")
        if _version(connection) != VERSION:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                if _version(connection) != VERSION:  # another process may have been first
                    for statement in _TABLES:
                        connection.execute(statement)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


def _name(path: Path) -> bytes:
    return os.fsencode(os.path.abspath(path))


def _stamp(path: Path) -> Stamp | None:
    try:
        return Stamp.of(os.stat(path))
    except (OSError, ValueError):
        return None
