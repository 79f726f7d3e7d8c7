"""Damage to the files of a run folder: read, repaired, resumed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sam_core.recording import layout
from tests.faults.examination import examine
from tests.faults.sameness import assert_same_run
from tests.faults.workers import Worker, Workers

#: What resuming does not need, and leaves as it is.
NOT_NEEDED = (layout.METRICS, layout.ENVIRONMENT, layout.CLASSES, layout.LOG, f"{layout.ATTENTION}/{layout.IDS}")


def files_of(folder: Path) -> list[Path]:
    """Every file of a run folder that has content."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


@contextlib.contextmanager
def damaging(path: Path, content: bytes) -> Iterator[None]:
    """Let a file have other content for a while, at the length it has then."""
    before, about = path.read_bytes(), path.stat()
    try:
        path.write_bytes(content)
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def flipped(content: bytes, generator: random.Random, *, within: range | None = None, bits: int = 1) -> bytes:
    """The same with some bits turned over, at random places."""
    changed = bytearray(content)
    for _ in range(bits):
        place = generator.choice(within) if within else generator.randrange(len(changed))
        changed[place] ^= 1 << generator.randrange(8)
    return bytes(changed)


@dataclass(frozen=True)
class Damage:
    """One file of a run folder with other content; `silent` where that can look like what a run has written."""

    folder: Path
    name: str
    content: bytes
    silent: bool = False


def resume_damaged(workers: Workers, damages: Iterable[Damage], whole: Path, image: str) -> int:
    """Resume runs one of whose files is damaged: each ends as it should, or a sentence names the file and all stays.

    Two of them at a time. The folders are removed.

    Args:
        workers: who resumes them.
        damages: each of a folder of its own.
        whole: the run as they should end.
        image: one of its recorded images.

    Returns:
        How many there were.
    """
    waiting: deque[tuple[Damage, dict[Path, bytes], Worker]] = deque()
    count = 0
    for damage in damages:
        (damage.folder / damage.name).write_bytes(damage.content)
        before = {path: path.read_bytes() for path in files_of(damage.folder)}
        waiting.append((damage, before, workers.resume(damage.folder)))
        count += 1
        if len(waiting) == 2:
            _check_resumed(*waiting.popleft(), whole, image)
    while waiting:
        _check_resumed(*waiting.popleft(), whole, image)
    return count


def _check_resumed(damage: Damage, before: dict[Path, bytes], worker: Worker, whole: Path, image: str) -> None:
    folder, name, ending = damage.folder, damage.name, worker.wait()
    examine(folder, image)
    if ending.state != "finished":
        # Another configuration or list of images is not always to be told from a damaged one.
        is_another = damage.silent and name in (layout.CONFIG, layout.SAMPLES)
        assert name in ending.sentence or is_another, ending
        for path, then in before.items():
            if path.name not in (layout.STATUS, layout.LOG):
                assert path.read_bytes() == then, f"{path.name} was changed although nothing could be done"
    elif name not in NOT_NEEDED and not damage.silent:
        assert_same_run(folder, whole)
    elif name != layout.CONFIG:
        # Damage that looks like content cannot be told from it; but the weights must be the right ones.
        assert (folder / layout.MODEL).read_bytes() == (whole / layout.MODEL).read_bytes(), name
    shutil.rmtree(folder)
