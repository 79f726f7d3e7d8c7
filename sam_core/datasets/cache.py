"""Decoded images on disk: rows of bytes by the digest of their file's content, in packs that are mapped into memory.

A pack is one file: a head (`_HEAD`), the digests of its rows, the rows. It is written under another name and renamed
when it is whole, so a killed build leaves its finished packs and nothing that looks like one. It never changes after
that, and is removed in one step: whoever has it mapped keeps its rows.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sam_core.config import ConfigError

#: The cache's folder below the data root. Names that begin with a dot are no datasets.
CACHE = ".cache"
#: What all caches of a data root may take, in GB (of 10^9 bytes); 0 switches the cache off.
LIMIT_VARIABLE = "SAM_CACHE_GB"
CACHE_LIMIT_GB = 20.0
#: So much of the disk is left free for everything else.
FREE_MARGIN = 1_000_000_000
#: A pack has no more rows, and about no more bytes: what a killed build loses, and what is written at once.
PACK_ROWS = 1024
PACK_BYTES = 64 << 20
#: A half-written pack is left over from a killed process when it has not grown for so long.
STALE_SECONDS = 3600
DIGEST_BYTES = 16

_SUFFIX = ".pack"
#: A magic word, the number of rows, the bytes of each.
_HEAD = struct.Struct("<8sQQ")
_MAGIC = b"SAMPACK1"


def cache_folder(data_root: Path) -> Path | None:
    """Where decoded images and facts about files are kept; None if the cache is switched off."""
    return Path(data_root).expanduser().resolve() / CACHE if cache_limit() else None


def cache_limit() -> int:
    """How many bytes the packs below one data root may take.

    Raises:
        ConfigError: if the environment variable is no number of gigabytes.
    """
    text = os.environ.get(LIMIT_VARIABLE, str(CACHE_LIMIT_GB))
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = math.nan
    if not (math.isfinite(gigabytes) and gigabytes >= 0):
        raise ConfigError(LIMIT_VARIABLE, f"must be a number of gigabytes, 0 for no cache, not {text!r}")
    return round(gigabytes * 1e9)


class RowCache:
    """The cached rows of one kind."""

    def __init__(self, root: Path, kind: str, shape: tuple[int, ...]) -> None:
        """Nothing is read or written yet.

        Args:
            root: the cache's folder.
            kind: what the rows are, and how they were made: a folder's name.
            shape: of a row of uint8.
        """
        self.root = root
        self.folder = root / kind
        self.shape = shape
        self._places: dict[bytes, tuple[Path, int]] = {}
        self._seen: set[Path] = set()
        self._mapped: dict[Path, np.ndarray] = {}
        self._mapping = threading.Lock()

    @property
    def rows_per_pack(self) -> int:
        """How many rows are written at once."""
        return max(1, min(PACK_ROWS, PACK_BYTES // math.prod(self.shape)))

    def refresh(self) -> None:
        """Take notice of the packs that are new since the last time; broken ones are removed."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if path in self._seen:
                continue
            with contextlib.suppress(OSError):  # another process may just have removed it
                digests = _read_digests(path, math.prod(self.shape))
                if digests is None:
                    path.unlink()
                    continue
                self._seen.add(path)
                self._places |= {digest: (path, row) for row, digest in enumerate(digests)}

    def get(self, digest: bytes | None) -> np.ndarray | None:
        """A row, mapped, not to be written to; None where it is not in the cache. Any thread may ask."""
        if digest not in self._places:
            return None
        path, row = self._places[digest]
        with self._mapping:
            rows = self._mapped.get(path)
            if rows is None:
                try:
                    rows = self._mapped[path] = self._map(path)
                except (OSError, ValueError):
                    return None  # another process has just removed it; or this is no place to map files
        return rows[row]

    def add(self, digests: Sequence[bytes], rows: Sequence[np.ndarray]) -> None:
        """Write rows as one pack.

        Raises:
            OSError: if they cannot be written; nothing is left on disk then.
        """
        name = secrets.token_hex(8)
        temporary = self.folder / f".{name}.tmp"
        try:
            # Plain writing: a full disk is an error then, where it would kill a process that writes a mapped file.
            with open(temporary, "wb") as file:
                file.write(_HEAD.pack(_MAGIC, len(rows), math.prod(self.shape)))
                file.write(b"".join(digests))
                for row in rows:
                    file.write(np.ascontiguousarray(row).data)
                file.flush()
                os.fsync(file.fileno())
            path = temporary.with_name(name + _SUFFIX)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        self._seen.add(path)
        self._places |= {digest: (path, row) for row, digest in enumerate(digests)}

    def make_room(self, size: int, limit: int) -> str:
        """Make room for `size` bytes more: the packs used least recently go, but none that this object has mapped.

        Args:
            size: in bytes.
            limit: what all packs of the cache may take, in bytes.

        Returns:
            Why they do not fit, in words; nothing if they do.

        Raises:
            OSError: if the disk cannot be asked.
        """
        packs = self._all_packs()
        total = sum(about.st_size for about in packs.values())
        idle = sorted(packs.keys() - self._mapped.keys(), key=lambda path: packs[path].st_mtime_ns)
        needed = total + size - limit
        if needed > sum(packs[path].st_size for path in idle):
            return f"they need more than the {limit / 1e9:g} GB that {LIMIT_VARIABLE} allows for the cache"
        for path in idle:
            if needed <= 0:
                break
            with contextlib.suppress(OSError):  # Windows keeps a file that another process has mapped
                path.unlink()
                needed -= packs[path].st_size
        free = shutil.disk_usage(self.folder).free
        if free < size + FREE_MARGIN:
            return f"the disk of {self.root} has only {free / 1e9:.1f} GB left"
        return "" if needed <= 0 else "other processes keep the cache full"

    def _all_packs(self) -> dict[Path, os.stat_result]:
        """Every pack of the cache, of whatever kind; what killed processes left half-written is removed."""
        packs = {}
        for path in self.root.glob("*/*"):
            with contextlib.suppress(OSError):
                about = path.stat()
                if path.suffix == _SUFFIX:
                    packs[path] = about
                elif path.suffix == ".tmp" and time.time() - about.st_mtime > STALE_SECONDS:
                    path.unlink()
        return packs

    def _map(self, path: Path) -> np.ndarray:
        """All rows of a pack: (rows, *shape)."""
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        size = path.stat().st_size - _HEAD.size
        count = size // (DIGEST_BYTES + math.prod(self.shape))
        # As a plain array, which is faster to index.
        return np.asarray(np.memmap(path, np.uint8, "r", _HEAD.size + count * DIGEST_BYTES, (count, *self.shape)))


def _read_digests(path: Path, row_bytes: int) -> list[bytes] | None:
    """The digests of a pack's rows; None if the file is no whole pack of such rows."""
    with open(path, "rb") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        magic, count, size = _HEAD.unpack(head)
        whole = _HEAD.size + count * (DIGEST_BYTES + row_bytes)
        if magic != _MAGIC or size != row_bytes or count < 1 or os.fstat(file.fileno()).st_size != whole:
            return None
        data = file.read(count * DIGEST_BYTES)
    return [data[start : start + DIGEST_BYTES] for start in range(0, len(data), DIGEST_BYTES)]
