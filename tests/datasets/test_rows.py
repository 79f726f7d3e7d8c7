"""Files become rows once: not again at a second start, in another place, in a second process, or after a stop."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_core.benchmark.evaluation import count_decodes
from sam_core.config import PROJECT_ROOT
from sam_core.datasets import rows as rows_module
from sam_core.datasets.cache import RowCache
from sam_core.datasets.facts import FACTS
from sam_core.datasets.reading import image_reading
from sam_core.datasets.rows import LOCKS, FileRows, read_rows

SIDE = 16
COUNT = 12

Settle = Callable[[Path], Path]


@pytest.fixture
def folder(tmp_path: Path, settle: Settle) -> Path:
    """Twelve pictures, each of its own, that changed long ago."""
    (tmp_path / "pictures").mkdir()
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        image = Image.fromarray(generator.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        image.save(tmp_path / "pictures" / f"{number:02}.png")
    return settle(tmp_path / "pictures")


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five rows in a pack, so that twelve pictures make two full ones and one more."""
    monkeypatch.setattr(RowCache, "rows_per_pack", 5)


def read(folder: Path, cache_root: Path | None, **options: object) -> FileRows:
    paths = sorted(folder.glob("*.png"))
    options = {"owner": str(folder), "progress": None} | options
    return read_rows(paths, image_reading(SIDE), cache_root=cache_root, **options)


def pixels(found: FileRows) -> np.ndarray:
    return np.stack(found.rows)


def packs(cache_root: Path) -> list[Path]:
    return sorted(cache_root.glob("*/*.pack"))


def test_a_second_start_opens_and_decodes_nothing(folder: Path, cache_root: Path, opened: list[Path]):
    with count_decodes() as count:
        first = read(folder, cache_root)
    assert (count.decodes, len(opened)) == (COUNT, COUNT)
    opened.clear()
    with count_decodes() as count:
        second = read(folder, cache_root)
    assert (count.decodes, opened) == (0, [])
    assert np.array_equal(pixels(first), pixels(second))


def test_cached_and_uncached_rows_are_the_same_to_the_bit(folder: Path, cache_root: Path, small_packs: None):
    plain = pixels(read(folder, None))
    for _ in range(2):
        assert np.array_equal(pixels(read(folder, cache_root)), plain)
    assert len(packs(cache_root)) == 3


def test_rows_are_not_kept_in_memory_once_they_are_on_disk(folder: Path, cache_root: Path):
    for found in (read(folder, cache_root), read(folder, cache_root)):
        for row in found.rows:
            base = row
            while isinstance(base.base, np.ndarray):
                base = base.base
            assert isinstance(base, np.memmap)


def test_only_what_changed_is_read_again(folder: Path, cache_root: Path, opened: list[Path]):
    read(folder, cache_root)
    opened.clear()
    changed = folder / "03.png"
    Image.new("RGB", (40, 30), "red").save(changed)
    with count_decodes() as count:
        found = read(folder, cache_root)
    assert (count.decodes, opened) == (1, [changed])
    assert (found.rows[3] == (255, 0, 0)).all()


def test_the_same_pictures_elsewhere_are_not_decoded_again(folder: Path, cache_root: Path, opened: list[Path]):
    first = read(folder, cache_root)
    elsewhere = folder.with_name("moved")
    shutil.copytree(folder, elsewhere)
    opened.clear()
    with count_decodes() as count:
        second = read(elsewhere, cache_root)
    assert (count.decodes, len(opened)) == (0, COUNT)  # opened once, to see what they are
    assert np.array_equal(pixels(first), pixels(second))


def test_another_side_is_another_row(folder: Path, cache_root: Path):
    read(folder, cache_root)
    paths = sorted(folder.glob("*.png"))
    other = read_rows(paths, image_reading(SIDE + 1), cache_root=cache_root, owner="", progress=None)
    assert other.rows[0].shape == (SIDE + 1, SIDE + 1, 3)


def test_a_picture_that_is_there_twice_takes_no_more_room(folder: Path, cache_root: Path, settle: Settle):
    shutil.copy(folder / "00.png", folder / "99.png")
    found = read(folder, cache_root)
    assert np.array_equal(found.rows[0], found.rows[-1])
    (pack,) = packs(cache_root)
    assert pack.stat().st_size == 24 + COUNT * (16 + SIDE * SIDE * 3)


def test_what_cannot_be_read_has_a_problem_instead_also_the_next_time(
    folder: Path, cache_root: Path, opened: list[Path], settle: Settle
):
    whole = (folder / "01.png").read_bytes()
    (folder / "01.png").write_bytes(whole[: len(whole) // 2])
    (folder / "02.png").write_text("no photograph")
    (folder / "03.png").write_bytes(b"")
    settle(folder)
    for start in range(2):
        opened.clear()
        found = read(folder, cache_root)
        assert [place for place, row in enumerate(found.rows) if row is None] == [1, 2, 3]
        kinds = [problem.kind for problem in found.problems if problem]
        assert kinds == ["truncated image", "unreadable image", "unreadable image"]
        assert "0 bytes" in found.problems[3].problem
        if start == 1:
            assert opened == [folder / "03.png"]  # nothing in it has a digest


def test_a_file_that_goes_while_it_is_read_is_a_problem_of_its_own(folder: Path, cache_root: Path):
    paths = [*sorted(folder.glob("*.png")), folder / "none.png"]
    found = read_rows(paths, image_reading(SIDE), cache_root=cache_root, owner="", progress=None)
    assert found.problems[-1].problem == "the file does not exist"
    Image.new("RGB", (4, 4)).save(folder / "none.png")
    found = read_rows(paths, image_reading(SIDE), cache_root=cache_root, owner="", progress=None)
    assert found.problems[-1] is None


def test_facts_may_be_lost_and_packs_may_be_lost(folder: Path, cache_root: Path):
    plain = pixels(read(folder, cache_root))
    (cache_root / FACTS).unlink()
    with count_decodes() as count:
        assert np.array_equal(pixels(read(folder, cache_root)), plain)
    assert count.decodes == 0
    for pack in packs(cache_root):
        pack.unlink()
    with count_decodes() as count:
        assert np.array_equal(pixels(read(folder, cache_root)), plain)
    assert count.decodes == COUNT


def test_a_stop_keeps_what_was_read_until_then(folder: Path, cache_root: Path, small_packs: None):
    class Stopped(Exception):
        pass

    def stop(task: str, done: int, total: int) -> None:
        if done == 8:
            raise Stopped

    with pytest.raises(Stopped):
        read(folder, cache_root, progress=stop)
    with count_decodes() as count:
        read(folder, cache_root)
    assert count.decodes == COUNT - 8


# --- when the cache cannot be used ------------------------------------------------------------------------------------


def test_without_a_cache_nothing_is_written(folder: Path, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    assert read(folder, None).notes == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_limit_that_is_too_small_is_said_once_and_the_rest_stays_in_memory(
    folder: Path, cache_root: Path, small_packs: None, monkeypatch: pytest.MonkeyPatch
):
    plain = pixels(read(folder, None))
    monkeypatch.setenv("SAM_CACHE_GB", str(7000e-9))  # one pack of five rows and no second
    found = read(folder, cache_root)
    assert np.array_equal(pixels(found), plain)
    (note,) = found.notes
    assert "decoded images stay in memory" in note
    assert "7e-06 GB that SAM_CACHE_GB allows" in note
    with count_decodes() as count:
        assert np.array_equal(pixels(read(folder, cache_root)), plain)
    assert count.decodes == COUNT - 5


@pytest.mark.parametrize("place", ["the cache's folder", "above it"])
def test_a_place_that_cannot_be_written_is_said_once(place: str, folder: Path, cache_root: Path):
    blocked = cache_root if place == "the cache's folder" else cache_root.parent
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file is in the way")
    found = read(folder, cache_root)
    assert np.array_equal(pixels(found), pixels(read(folder, None)))
    (note,) = found.notes
    assert f"{cache_root} cannot be written" in note


def test_a_disk_that_fills_up_meanwhile_costs_no_row(
    folder: Path, cache_root: Path, small_packs: None, monkeypatch: pytest.MonkeyPatch
):
    synced, original = [], os.fsync

    def full_at_the_second(file: int) -> None:
        synced.append(file)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(file)

    plain = pixels(read(folder, None))
    monkeypatch.setattr(os, "fsync", full_at_the_second)
    found = read(folder, cache_root)
    assert np.array_equal(pixels(found), plain)
    assert "No space left on device" in found.notes[0]
    assert len(packs(cache_root)) == 1


# --- two at once ------------------------------------------------------------------------------------------------------


def test_the_second_of_two_waits_and_finds_everything_there(folder: Path, cache_root: Path):
    first_reads, second_waits = threading.Event(), threading.Event()
    heard: list[str] = []

    def first(task: str, done: int, total: int) -> None:
        if done:
            first_reads.set()
            assert second_waits.wait(60)

    def second(task: str, done: int, total: int) -> None:
        heard.append(task)
        if task.startswith("waiting"):
            second_waits.set()

    found: list[FileRows] = []
    thread = threading.Thread(target=lambda: found.append(read(folder, cache_root, progress=first)))
    with count_decodes() as count:
        thread.start()
        assert first_reads.wait(60)
        found.append(read(folder, cache_root, progress=second))
        thread.join()
    assert count.decodes == COUNT
    assert "waiting for another run that is reading the same images" in heard
    assert np.array_equal(pixels(found[0]), pixels(found[1]))
    assert len(packs(cache_root)) == 1


def test_others_with_other_files_do_not_wait(folder: Path, cache_root: Path):
    def read_others(task: str, done: int, total: int) -> None:
        if done == 1:
            read(folder, cache_root, owner="other files", progress=lambda task, *counts: heard.append(task))

    heard: list[str] = []
    read(folder, cache_root, progress=read_others)
    assert set(heard) == {"reading images"}


def test_who_waits_goes_on_when_the_other_is_killed(folder: Path, cache_root: Path):
    code = f"""
        import time
        from pathlib import Path
        from sam_core.datasets.reading import image_reading
        from sam_core.datasets.rows import read_rows

        def report(task, done, total):
            if done:
                print("reading", flush=True)
                time.sleep(60)

        folder = Path({str(folder)!r})
        paths = sorted(folder.glob("*.png"))
        cache_root = Path({str(cache_root)!r})
        read_rows(paths, image_reading({SIDE}), cache_root=cache_root, owner=str(folder), progress=report)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "reading\n"

        def kill_it(task: str, done: int, total: int) -> None:
            if task.startswith("waiting"):
                other.kill()

        found = read(folder, cache_root, progress=kill_it)
    assert other.returncode != 0
    assert np.array_equal(pixels(found), pixels(read(folder, None)))


def test_who_waited_for_too_long_goes_on_without_the_lock(
    folder: Path, cache_root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rows_module, "LONGEST_WAIT_S", 0.0)
    inner: list[FileRows] = []

    def read_the_same(task: str, done: int, total: int) -> None:
        if done == 1 and not inner:
            inner.append(read(folder, cache_root))

    outer = read(folder, cache_root, progress=read_the_same)
    assert np.array_equal(pixels(outer), pixels(inner[0]))


def test_where_files_cannot_be_locked_nobody_waits(folder: Path, cache_root: Path, monkeypatch: pytest.MonkeyPatch):
    def no_locks(file: object) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(rows_module, "try_lock", no_locks)
    assert read(folder, cache_root).notes == []
    assert len(packs(cache_root)) == 1


def test_many_processes_at_once_read_the_same(folder: Path, cache_root: Path):
    code = f"""
        from pathlib import Path
        from sam_core.datasets.reading import image_reading
        from sam_core.datasets.rows import read_rows

        folder = Path({str(folder)!r})
        found = read_rows(
            sorted(folder.glob("*.png")), image_reading({SIDE}), cache_root=Path({str(cache_root)!r}),
            owner=str(folder), progress=None,
        )
        print(sum(int(row.sum()) for row in found.rows), found.notes)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    others = [subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {other.communicate(timeout=60)[0] for other in others}
    assert said == {f"{int(pixels(read(folder, None)).sum())} []\n"}
    assert len(packs(cache_root)) == 1


def test_lock_files_are_few(folder: Path, cache_root: Path):
    for _ in range(3):
        read(folder, cache_root)
    assert len(list((cache_root / LOCKS).iterdir())) == 1
