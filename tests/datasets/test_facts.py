"""What is known of files: kept as long as they do not change, and never in the way when the database fails."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sam_core.config import PROJECT_ROOT
from sam_core.datasets import facts as facts_module
from sam_core.datasets.facts import FACTS, Content, Facts, Stamp

CONTENT = Content(40, 30, look=bytes(256))
DIGEST = b"d" * 16


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(b"some bytes")
    os.utime(path, ns=(10**18, 10**18))
    return path


def remember(folder: Path | None, path: Path, digest: bytes = DIGEST, content: Content = CONTENT) -> None:
    with Facts(folder) as facts:
        facts.remember_file(path, Stamp.of(path.stat()), digest)
        facts.remember_content(digest, "image-1", content)


def knows(folder: Path | None, path: Path) -> bool:
    with Facts(folder) as facts:
        return facts.digests([path]) == [DIGEST] and facts.contents([DIGEST], "image-1") == {DIGEST: CONTENT}


def test_what_is_remembered_is_known_the_next_time(tmp_path: Path, image: Path):
    remember(tmp_path, image)
    assert knows(tmp_path, image)
    with Facts(tmp_path) as facts:
        assert facts.digests([tmp_path / "other.png", image]) == [None, DIGEST]
        assert facts.contents([DIGEST], "mask-1") == {}  # what reading it in another way would come to is not known


@pytest.mark.parametrize("change", ["size", "time", "gone"])
def test_a_file_that_changed_is_not_known(change: str, tmp_path: Path, image: Path):
    remember(tmp_path, image)
    if change == "size":
        image.write_bytes(b"more bytes than before")
        os.utime(image, ns=(10**18, 10**18))
    elif change == "time":
        os.utime(image, ns=(10**18 + 1, 10**18 + 1))
    else:
        image.unlink()
    with Facts(tmp_path) as facts:
        assert facts.digests([image]) == [None]


def test_a_file_written_just_now_is_not_trusted_to_stay(tmp_path: Path, image: Path):
    image.write_bytes(b"some bytes")
    remember(tmp_path, image)
    assert not knows(tmp_path, image)


def test_many_files_are_asked_for_at_once(tmp_path: Path):
    paths = [tmp_path / f"{number}.png" for number in range(1200)]
    with Facts(tmp_path) as facts:
        for number, path in enumerate(paths):
            path.write_bytes(b"x")
            os.utime(path, ns=(10**18, 10**18))
            facts.remember_file(path, Stamp(1, 10**18), number.to_bytes(16, "big"))
        facts.save()
        assert facts.digests(paths) == [number.to_bytes(16, "big") for number in range(1200)]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files that are no text")
def test_a_name_that_is_no_text_is_remembered_too(tmp_path: Path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(b"x")
    os.utime(path, ns=(10**18, 10**18))
    remember(tmp_path, path)
    assert knows(tmp_path, path)


@pytest.mark.parametrize("damage", ["no database", "bytes overwritten", "another version"])
def test_a_damaged_database_is_begun_anew(damage: str, tmp_path: Path, image: Path):
    remember(tmp_path, image)
    database = tmp_path / FACTS
    if damage == "no database":
        database.write_bytes(b"this is no database, but long enough to be taken for one" * 99)
    elif damage == "bytes overwritten":
        data = bytearray(database.read_bytes())
        data[100:] = b"\xff" * (len(data) - 100)
        database.write_bytes(data)
    else:
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA user_version = 999")
        connection.close()
    assert not knows(tmp_path, image)
    remember(tmp_path, image)
    assert knows(tmp_path, image)
    assert (tmp_path / "facts.damaged").exists() == (damage != "another version")


def test_a_database_that_is_damaged_while_it_is_open_costs_no_more_than_what_it_knew(tmp_path: Path, image: Path):
    remember(tmp_path, image)
    with Facts(tmp_path) as facts:
        database = tmp_path / FACTS
        database.write_bytes(b"\xff" * database.stat().st_size)
        assert facts.digests([image]) == [None]
        facts.remember_file(image, Stamp.of(image.stat()), DIGEST)
        facts.remember_content(DIGEST, "image-1", CONTENT)
    assert knows(tmp_path, image)


def test_a_database_that_stays_locked_is_done_without(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(facts_module, "BUSY_S", 0.1)
    remember(tmp_path, image)
    other = sqlite3.connect(tmp_path / FACTS, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with Facts(tmp_path) as facts:
        assert facts.digests([image]) == [None]
        facts.remember_content(b"e" * 16, "image-1", CONTENT)
    other.execute("ROLLBACK")
    other.close()
    assert knows(tmp_path, image)


def test_where_nothing_can_be_written_nothing_is_kept_and_nothing_fails(tmp_path: Path, image: Path):
    (tmp_path / "file").write_text("in the way of a folder")
    for folder in (None, tmp_path / "file", tmp_path / "file" / "below"):
        remember(folder, image)
        assert not knows(folder, image)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_process_killed_while_it_writes_leaves_a_database_that_works(tmp_path: Path, image: Path):
    remember(tmp_path, image)
    code = f"""
        import os, signal
        from pathlib import Path
        from sam_core.datasets.facts import Content, Facts

        facts = Facts(Path({str(tmp_path)!r}))
        facts._connection.execute("PRAGMA cache_size = 1")  # so that it writes before the end of the transaction
        facts._connection.execute("BEGIN IMMEDIATE")
        for number in range(5000):
            row = (number.to_bytes(16, "big"), "image-1", 1, 1, "", "", bytes(256))
            facts._connection.execute("INSERT INTO contents VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=PROJECT_ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / f"{FACTS}-journal").exists()
    assert knows(tmp_path, image)
    with Facts(tmp_path) as facts:
        assert facts.contents([(1).to_bytes(16, "big")], "image-1") == {}
    assert not (tmp_path / "facts.damaged").exists()


def test_a_database_that_has_grown_out_of_measure_is_begun_anew(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
):
    remember(tmp_path, image)
    monkeypatch.setattr(facts_module, "LARGEST_BYTES", 1000)
    assert not knows(tmp_path, image)
