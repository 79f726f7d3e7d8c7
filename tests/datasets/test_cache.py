"""Packs of rows: whole or not there, bounded in size, gone without harm."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from sam_core.config import PROJECT_ROOT, ConfigError
from sam_core.datasets import cache as cache_module
from sam_core.datasets.cache import CACHE, RowCache, cache_folder, cache_limit

SHAPE = (4, 4, 3)
ROW_BYTES = 48
#: A pack of ten rows: a head of 24 bytes, 16 bytes of digest and 48 of pixels for each.
PACK_BYTES = 24 + 10 * 64


def digests(first: int, count: int = 10) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in range(first, first + count)]


def rows(first: int, count: int = 10) -> list[np.ndarray]:
    return [np.full(SHAPE, number, np.uint8) for number in range(first, first + count)]


def opened(root: Path, kind: str = "image-1") -> RowCache:
    cache = RowCache(root, kind, SHAPE)
    cache.folder.mkdir(parents=True, exist_ok=True)
    cache.refresh()
    return cache


def packs(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.pack"), key=lambda path: path.stat().st_mtime_ns)


def fill(root: Path, *, packs_of: list[int]) -> None:
    """Packs that begin with these numbers, used in this order, long ago."""
    for age, first in enumerate(packs_of):
        before = set(packs(root))
        opened(root).add(digests(first), rows(first))
        (new,) = set(packs(root)) - before
        os.utime(new, (10**9 + age, 10**9 + age))


def test_rows_come_back_as_they_were_written(tmp_path: Path):
    writer = opened(tmp_path)
    writer.add(digests(0), rows(0))
    writer.add(digests(20), rows(20))
    for cache in (writer, opened(tmp_path)):
        for number in (0, 9, 25):
            assert np.array_equal(cache.get(number.to_bytes(16, "big")), np.full(SHAPE, number))
        assert cache.get((10).to_bytes(16, "big")) is None
        assert cache.get(None) is None


def test_cached_rows_cannot_be_written_to(tmp_path: Path):
    cache = opened(tmp_path)
    cache.add(digests(0), rows(0))
    with pytest.raises(ValueError, match="read-only"):
        cache.get(digests(0)[0])[:] = 0


def test_rows_of_another_kind_are_others(tmp_path: Path):
    opened(tmp_path, "image-1").add(digests(0), rows(0))
    assert opened(tmp_path, "image-2").get(digests(0)[0]) is None


def test_what_another_process_has_added_is_seen_after_a_refresh(tmp_path: Path):
    cache = opened(tmp_path)
    opened(tmp_path).add(digests(0), rows(0))
    assert cache.get(digests(0)[0]) is None
    cache.refresh()
    assert cache.get(digests(0)[0]) is not None


@pytest.mark.parametrize("change", ["cut", "longer", "empty", "no pack", "head only", "rows of another size"])
def test_a_pack_that_is_not_whole_is_removed(change: str, tmp_path: Path):
    fill(tmp_path, packs_of=[0, 20])
    broken, whole = packs(tmp_path)
    data = broken.read_bytes()
    size_at = 16  # after the magic word and the number of rows
    broken.write_bytes(
        {
            "cut": data[:-1],
            "longer": data + b"x",
            "empty": b"",
            "no pack": b"NOTAPACK" + data[8:],
            "head only": data[:24],
            "rows of another size": data[:size_at] + (47).to_bytes(8, "little") + data[size_at + 8 :],
        }[change]
    )
    cache = opened(tmp_path)
    assert cache.get(digests(0)[0]) is None
    assert cache.get(digests(20)[0]) is not None
    assert packs(tmp_path) == [whole]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_build_leaves_its_finished_packs_and_nothing_that_looks_like_one(tmp_path: Path):
    code = f"""
        import os, signal
        from pathlib import Path
        import numpy as np
        from sam_core.datasets.cache import RowCache

        cache = RowCache(Path({str(tmp_path)!r}), "image-1", {SHAPE})
        cache.folder.mkdir(parents=True)
        row = np.full({SHAPE}, 7, np.uint8)
        cache.add([b"a" * 16], [row])
        os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
        cache.add([b"b" * 16], [row])
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=PROJECT_ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    cache = opened(tmp_path)
    assert cache.get(b"a" * 16) is not None
    assert cache.get(b"b" * 16) is None
    (half_written,) = tmp_path.glob("*/.*.tmp")
    assert cache.make_room(1, 10**9) == ""
    assert half_written.exists()  # it might be another process's, which writes it right now
    os.utime(half_written, (1, 1))
    assert cache.make_room(1, 10**9) == ""
    assert not half_written.exists()


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing_behind(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = opened(tmp_path)
    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space"):
        cache.add(digests(0), rows(0))
    assert list(cache.folder.iterdir()) == []
    assert cache.get(digests(0)[0]) is None


def test_the_packs_used_least_recently_make_room(tmp_path: Path):
    fill(tmp_path, packs_of=[0, 20, 40])
    oldest, middle, newest = packs(tmp_path)
    opened(tmp_path).get(digests(0)[0])  # the oldest is used again
    cache = opened(tmp_path)
    assert cache.make_room(PACK_BYTES, 3 * PACK_BYTES) == ""
    assert set(packs(tmp_path)) == {oldest, newest}
    assert middle not in packs(tmp_path)


def test_packs_of_every_kind_count_and_go(tmp_path: Path):
    opened(tmp_path, "mask-1").add(digests(0), rows(0))
    assert opened(tmp_path, "image-1").make_room(PACK_BYTES, PACK_BYTES) == ""
    assert packs(tmp_path) == []


def test_what_this_process_uses_is_never_removed(tmp_path: Path):
    fill(tmp_path, packs_of=[0, 20])
    cache = opened(tmp_path)
    kept = cache.get(digests(0)[0])
    assert "1.9e-06 GB that SAM_CACHE_GB allows" in cache.make_room(2 * PACK_BYTES, 1900)
    assert len(packs(tmp_path)) == 2  # nothing goes where that would not be enough
    assert cache.make_room(PACK_BYTES, 2 * PACK_BYTES) == ""
    assert len(packs(tmp_path)) == 1
    assert kept[0, 0, 0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be removed there")
def test_rows_stay_when_another_process_removes_their_pack(tmp_path: Path):
    fill(tmp_path, packs_of=[0, 20])
    cache = opened(tmp_path)
    row = cache.get(digests(0)[3])
    assert opened(tmp_path).make_room(PACK_BYTES, PACK_BYTES) == ""
    assert packs(tmp_path) == []
    assert row[0, 0, 0] == 3
    assert cache.get(digests(0)[4])[0, 0, 0] == 4  # mapped already
    assert cache.get(digests(20)[0]) is None  # not mapped before it went


def test_a_disk_without_room_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10**9, 10**9))
    assert "has only 1.0 GB left" in opened(tmp_path).make_room(1, 10**12)


def test_a_pack_is_small_enough_to_be_written_at_once():
    assert RowCache(Path(), "image", (256, 256, 3)).rows_per_pack == 341
    assert RowCache(Path(), "mask", (8192,)).rows_per_pack == cache_module.PACK_ROWS
    assert RowCache(Path(), "image", (30_000, 30_000, 3)).rows_per_pack == 1


def test_the_limit_is_an_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SAM_CACHE_GB")
    assert cache_limit() == 20_000_000_000
    assert cache_folder(tmp_path) == tmp_path / CACHE
    monkeypatch.setenv("SAM_CACHE_GB", "0.5")
    assert cache_limit() == 500_000_000
    monkeypatch.setenv("SAM_CACHE_GB", "0")
    assert cache_folder(tmp_path) is None
    for wrong in ("much", "-1", "nan", "inf", ""):
        monkeypatch.setenv("SAM_CACHE_GB", wrong)
        with pytest.raises(ConfigError, match="SAM_CACHE_GB: must be a number of gigabytes"):
            cache_limit()
