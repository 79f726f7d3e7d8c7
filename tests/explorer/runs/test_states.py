"""What is shown of a run: as its status says, unless its process is gone."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from explorer.runs import states
from explorer.runs.states import SHOWN_STATES, is_alive, process_of, shown_state
from sam_core.recording import layout
from sam_core.recording.lock import take_lock

RUN_ID = "20261124-101502-shapes-50pct-sam-3f2a"
HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from sam_core.recording import layout
from sam_core.recording.lock import take_lock
lock = take_lock(Path(sys.stdin.readline().strip()))
print("locked", flush=True)
time.sleep(60)
"""

needs_proc = pytest.mark.skipif(not states.PROCESSES.is_dir(), reason="this system does not tell what a process is")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / RUN_ID
    folder.mkdir()
    return folder


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that wait for a minute, unless another script is given."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, script: str = "import time; time.sleep(60)") -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", script, *words]
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.communicate()


def status_of(pid: Any, **changes: Any) -> dict[str, Any]:
    status = {
        "state": "running", "pid": pid, "host": socket.gethostname(), "epoch": 1, "epochs": 3, "step": 3, "steps": 9,
        "updated": time.time(), "eta_s": None, "error": None,
    }  # fmt: skip
    return status | changes


def wait_until_it_runs(child: subprocess.Popen[str]) -> None:
    """Until then the child is a copy of this process, not yet the program that it was started as."""
    end = time.monotonic() + 10
    while b"-c" not in Path(f"/proc/{child.pid}/cmdline").read_bytes():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("state", ["queued", "stopped", "finished", "failed"])
def test_what_needs_no_process_is_shown_as_it_is(state: str, folder: Path):
    assert shown_state(folder, {"state": state}) == state
    assert state in SHOWN_STATES


@needs_proc
def test_a_live_run_is_starting_until_it_has_steps_then_running_or_stopping(folder: Path, process):
    child = process("train", "--resume", RUN_ID)
    wait_until_it_runs(child)
    assert shown_state(folder, status_of(child.pid, steps=0)) == "starting"
    assert shown_state(folder, status_of(child.pid)) == "running"
    assert shown_state(folder, status_of(child.pid, state="stopping", steps=0)) == "stopping"
    assert process_of(folder, status_of(child.pid)) == child.pid


@needs_proc
def test_a_run_named_by_its_path_is_recognised(folder: Path, process):
    child = process("train", "--resume", str(folder))
    wait_until_it_runs(child)
    assert process_of(folder, status_of(child.pid)) == child.pid


@needs_proc
def test_a_run_whose_process_is_gone_is_interrupted(folder: Path, process):
    child = process(RUN_ID)
    child.kill()
    child.wait()
    for state in ("running", "stopping"):
        assert shown_state(folder, status_of(child.pid, state=state)) == "interrupted"
    assert process_of(folder, status_of(child.pid)) is None


@needs_proc
def test_a_zombie_is_gone(folder: Path, process):
    child = process(RUN_ID)
    child.kill()
    end = time.monotonic() + 10
    while ") Z " not in Path(f"/proc/{child.pid}/stat").read_text():
        assert time.monotonic() < end
    assert shown_state(folder, status_of(child.pid)) == "interrupted"


@pytest.mark.parametrize("loaded", [True, False])
def test_a_program_that_is_just_being_loaded_has_no_words_yet(
    loaded: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(states, "PROCESSES", tmp_path)
    (tmp_path / "1234" / "fd").mkdir(parents=True)
    (tmp_path / "1234" / "cmdline").write_bytes(b"")
    if loaded:
        (tmp_path / "1234" / "exe").symlink_to(sys.executable)
    assert is_alive(folder, status_of(1234)) == loaded


@needs_proc
def test_another_process_with_the_same_number_does_not_count(folder: Path, process):
    child = process("train", "--resume", RUN_ID + "x")
    wait_until_it_runs(child)
    assert shown_state(folder, status_of(child.pid)) == "interrupted"
    assert process_of(folder, status_of(child.pid)) is None


@needs_proc
def test_a_run_begun_on_the_command_line_is_known_by_its_lock(folder: Path, process):
    writer, other = process(script=HOLD_THE_LOCK), process()
    writer.stdin.write(f"{folder}\n")
    writer.stdin.flush()
    assert writer.stdout.readline() == "locked\n"
    assert shown_state(folder, status_of(writer.pid)) == "running"
    assert process_of(folder, status_of(writer.pid)) == writer.pid
    # The number in the status is another process's: the run is alive all the same, but that one must not be stopped.
    assert is_alive(folder, status_of(other.pid))
    assert process_of(folder, status_of(other.pid)) is None


def test_two_who_ask_at_the_same_moment_do_not_take_each_other_for_a_writer(folder: Path):
    (folder / layout.LOCK).touch()
    with open(folder / layout.LOCK, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # somebody else is looking
        assert not is_alive(folder, status_of(None))
        fcntl.flock(file, fcntl.LOCK_EX)  # somebody writes
        assert is_alive(folder, status_of(None))


@pytest.mark.parametrize(
    ("age", "shown"), [(0, "running"), (100, "running"), (130, "interrupted"), (-999, "interrupted")]
)
def test_a_run_elsewhere_is_alive_while_its_status_is_fresh(age: float, shown: str, folder: Path):
    status = status_of(os.getppid(), host="another-computer", updated=time.time() - age)
    assert shown_state(folder, status) == shown
    assert process_of(folder, status) is None


@pytest.mark.parametrize(("age", "shown"), [(0, "running"), (70, "interrupted")])
def test_without_proc_a_live_number_and_a_fresh_status_must_do(
    age: float, shown: str, folder: Path, process, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(states, "PROCESSES", folder / "nowhere")
    child = process()
    status = status_of(child.pid, updated=time.time() - age)
    assert shown_state(folder, status) == shown
    assert (process_of(folder, status) is not None) == (shown == "running")
    with take_lock(folder):
        assert process_of(folder, status) == child.pid
    child.kill()
    child.wait()
    assert shown_state(folder, status) == "interrupted"


@pytest.mark.parametrize(
    "status",
    [
        {}, [], None, "running", {"state": "running"}, {"state": ["running"]}, {"state": "dancing"}, {"state": None},
        status_of("12"), status_of(None), status_of(-1), status_of(0), status_of(1), status_of(True), status_of(1.5),
        status_of(10**400), status_of(2**31), status_of([1]), status_of(2, host=None), status_of(2, host=["a"]),
        status_of(None, host="elsewhere", updated=None), status_of(None, host="elsewhere", updated="now"),
        status_of(None, host="elsewhere", updated=float("nan")), status_of(None, host="elsewhere", updated=10**400),
    ],
    ids=lambda status: repr(status)[:70],
)  # fmt: skip
def test_a_status_without_sense_is_interrupted(status: Any, folder: Path):
    assert shown_state(folder, status) == "interrupted"
    assert process_of(folder, status) is None
    assert shown_state(folder / "nowhere", status) == "interrupted"


@pytest.mark.parametrize("pid", [None, -1, 0, 1, True, 2**31, 10**400, "12"])
def test_a_number_that_is_no_process_of_ours_is_not_even_asked_for(
    pid: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(states, "PROCESSES", folder / "nowhere")
    monkeypatch.setattr(os, "kill", lambda pid, number: pytest.fail(f"asked for {pid}"))
    assert shown_state(folder, status_of(pid)) == "interrupted"
    assert process_of(folder, status_of(pid)) is None


@needs_proc
@pytest.mark.parametrize("steps", [None, "9", [], -1])
def test_steps_without_sense_are_none(steps: Any, folder: Path, process):
    child = process(RUN_ID)
    wait_until_it_runs(child)
    assert shown_state(folder, status_of(child.pid, steps=steps)) == "starting"


def test_the_servers_own_process_is_never_signalled(folder: Path):
    with take_lock(folder):
        assert shown_state(folder, status_of(os.getpid())) == "running"
        assert process_of(folder, status_of(os.getpid())) is None
