"""Rows of bytes for files: from the cache where they are in it, and decoded into it, once, where they are not."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from sam_core.datasets.base import Problem, Sample
from sam_core.datasets.cache import RowCache, cache_limit
from sam_core.datasets.facts import Content, Facts
from sam_core.datasets.reading import Looked, Reading, in_threads, look_at
from sam_core.locks import try_lock

#: Takes what is being done, how much of it is done, and of how much.
TaskProgress = Callable[[str, int, int], None]

#: The folder of lock files, below the cache's.
LOCKS = "locks"
#: Whoever decodes may hang; then the same work is done twice, which does no harm.
LONGEST_WAIT_S = 1800.0
_INTERVAL_S = 0.2


@dataclass
class FileRows:
    """What reading some files came to: `rows[i]` and `problems[i]` belong to file `i`.

    A row is not to be written to. A file has a row, or a problem (`Content.kind` and `.problem`).
    """

    rows: list[np.ndarray | None]
    problems: list[Content | None]
    notes: list[str] = field(default_factory=list)
    """Sentences for the person whose run it is: that the cache could not be used, and why."""

    def problems_of(self, samples: Sequence[Sample]) -> list[Problem]:
        """What could not be read, by the sample that each file is of."""
        return [
            Problem(problem.kind, sample.id, problem.problem)
            for sample, problem in zip(samples, self.problems, strict=True)
            if problem is not None
        ]


def read_rows(
    paths: Sequence[Path], reading: Reading, *, cache_root: Path | None, owner: str, progress: TaskProgress | None
) -> FileRows:
    """Read files, opening only those that have changed and decoding only what is not cached.

    Whatever is wrong with the cache, the rows are read: into memory, then.

    Args:
        paths: the files.
        reading: how they become rows.
        cache_root: the cache's folder; None for no cache.
        owner: a name for these files, such as their dataset's folder. Of two processes that read files of the same
            owner at once, the second waits for what the first decodes.
        progress: told of the reading; may end it by raising an exception, which keeps what is read so far.
    """
    with Facts(cache_root) as facts:
        cache = None if cache_root is None else RowCache(cache_root, reading.kind, reading.shape)
        reader = _Reader(paths, reading, facts, cache, progress)
        missing = reader.look_up(range(len(paths)))
        if missing:
            with _one_at_a_time(
                cache_root, f"{owner}/{reading.kind}", lambda: reader.report_waiting(missing)
            ) as waited:
                if waited:
                    missing = reader.look_up(missing)
                reader.read(missing)
    return reader.result


class _Reader:
    """The work of `read_rows`."""

    def __init__(
        self,
        paths: Sequence[Path],
        reading: Reading,
        facts: Facts,
        cache: RowCache | None,
        progress: TaskProgress | None,
    ) -> None:
        self.paths = paths
        self.reading = reading
        self.facts = facts
        self.cache = cache
        self.progress = progress
        self.result = FileRows([None] * len(paths), [None] * len(paths))
        self._unwritten: dict[bytes, np.ndarray] = {}
        self._places: list[tuple[int, bytes]] = []

    def look_up(self, positions: Iterable[int]) -> list[int]:
        """Settle what can be settled without opening a file; returns the positions that are left."""
        positions = list(positions)
        digests = self.facts.digests([self.paths[position] for position in positions])
        contents = self.facts.contents({digest for digest in digests if digest}, self.reading.name)
        if self.cache:
            self.cache.refresh()
        left = []
        for position, digest in zip(positions, digests, strict=True):
            content = contents.get(digest)
            if content and content.problem:
                self.result.problems[position] = content
                continue
            self.result.rows[position] = self._cached(digest)
            if self.result.rows[position] is None:
                left.append(position)
        self._report(f"reading {self.reading.noun}s", len(self.paths) - len(left))
        return left

    def read(self, positions: Sequence[int]) -> None:
        """Open these files, and decode what is not cached."""
        settled = len(self.paths) - len(positions)
        looks = in_threads(
            lambda position: look_at(self.paths[position], self.reading, self._cached),
            positions,
            ahead=self.reading.ahead,
        )
        try:
            for done, (position, looked) in enumerate(looks, start=settled + 1):
                self._take(position, looked)
                self._report(f"reading {self.reading.noun}s", done)
        finally:
            looks.close()
            self._write_pack()

    def report_waiting(self, missing: Sequence[int]) -> None:
        """Say that another process is at work on the same files."""
        task = f"waiting for another run that is reading the same {self.reading.noun}s"
        self._report(task, len(self.paths) - len(missing))

    def _take(self, position: int, looked: Looked) -> None:
        self.result.rows[position] = looked.row
        if looked.row is None:
            self.result.problems[position] = looked.content
        if looked.digest is None:
            return
        self.facts.remember_file(self.paths[position], looked.stamp, looked.digest)
        if looked.content is None:
            return
        if looked.lasting:
            self.facts.remember_content(looked.digest, self.reading.name, looked.content)
        if looked.row is not None and self.cache:
            self._unwritten.setdefault(looked.digest, looked.row)
            self._places.append((position, looked.digest))
            if len(self._unwritten) == self.cache.rows_per_pack:
                self._write_pack()

    def _write_pack(self) -> None:
        """Move the rows read last from memory into the cache, if that is possible."""
        if self.cache and self._unwritten:
            trouble = self._trouble_writing(self.cache)
            if trouble:
                self.result.notes.append(
                    f"decoded {self.reading.noun}s stay in memory, and the next start decodes them again: {trouble}"
                )
                self.cache = None
            else:
                for position, digest in self._places:
                    row = self.cache.get(digest)
                    self.result.rows[position] = self.result.rows[position] if row is None else row
        self._unwritten.clear()
        self._places.clear()
        self.facts.save()

    def _trouble_writing(self, cache: RowCache) -> str:
        """Write a pack; returns why that was not possible, or nothing."""
        try:
            cache.folder.mkdir(parents=True, exist_ok=True)
            trouble = cache.make_room(len(self._unwritten) * math.prod(self.reading.shape), cache_limit())
            if not trouble:
                cache.add(list(self._unwritten), list(self._unwritten.values()))
        except OSError as error:
            return f"{cache.root} cannot be written ({error.strerror or error})"
        return trouble

    def _cached(self, digest: bytes | None) -> np.ndarray | None:
        cache = self.cache  # which another thread may be giving up
        return cache.get(digest) if cache else None

    def _report(self, task: str, done: int) -> None:
        if self.progress:
            self.progress(task, done, len(self.paths))


@contextlib.contextmanager
def _one_at_a_time(cache_root: Path | None, name: str, report: Callable[[], None]) -> Iterator[bool]:
    """Keep others out who want the same; yields whether they had to be waited for.

    Without a cache, or where the file system has no locks, nobody is kept out.
    """
    with contextlib.ExitStack() as stack:
        waited = False
        with contextlib.suppress(OSError):
            if cache_root is not None:
                folder = cache_root / LOCKS
                folder.mkdir(parents=True, exist_ok=True)
                key = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).hexdigest()
                file = stack.enter_context(open(folder / key, "a", encoding="utf-8"))
                waited = _wait_for(file, report)
        yield waited


def _wait_for(file: IO[str], report: Callable[[], None]) -> bool:
    """Take a file's lock; returns whether another had it. After `LONGEST_WAIT_S` it is done without."""
    started = time.monotonic()
    waited = False
    while not try_lock(file) and time.monotonic() - started < LONGEST_WAIT_S:
        waited = True
        report()
        time.sleep(_INTERVAL_S)
    return waited
