"""Locks: one holder at a time, and none once its process is gone."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sam_core import locks
from sam_core.config import PROJECT_ROOT
from sam_core.locks import try_lock


def test_a_lock_is_free_again_when_its_file_is_closed(tmp_path: Path):
    with open(tmp_path / "lock", "a") as first, open(tmp_path / "lock", "a") as second:
        assert try_lock(first)
        assert not try_lock(second)
        assert not try_lock(second, shared=True)
        first.close()
        assert try_lock(second)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no shared locks")
def test_two_who_only_look_do_not_keep_each_other_out(tmp_path: Path):
    with open(tmp_path / "lock", "a") as first, open(tmp_path / "lock", "a") as second:
        assert try_lock(first, shared=True)
        assert try_lock(second, shared=True)


def test_a_killed_process_holds_nothing(tmp_path: Path):
    code = f"""
        import time
        from sam_core.locks import try_lock

        file = open({str(tmp_path / "lock")!r}, "a")
        print(try_lock(file), flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with (
        open(tmp_path / "lock", "a") as ours,
        subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout.readline() == "True\n"
        assert not try_lock(ours)
        process.kill()
        process.wait()
        assert try_lock(ours)


def test_a_file_system_without_locks_is_told_from_a_lock_that_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_locks(file: object, *, shared: bool) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "_lock", no_locks)
    with open(tmp_path / "lock", "a") as file, pytest.raises(OSError, match="No locks"):
        try_lock(file)
