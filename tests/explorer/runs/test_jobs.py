"""Runs as processes: queued, started, stopped, resumed and removed, and none harmed by what becomes of the server.

Where only the server's part is looked at, a small script stands in for the training process; elsewhere it is real.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sam_core
from explorer.runs import jobs as module
from explorer.runs.jobs import JobError, Jobs
from explorer.runs.states import process_of, shown_state
from sam_core.config import PROJECT_ROOT, RunConfig
from sam_core.recording import layout
from sam_core.recording.lock import take_lock
from sam_core.recording.writer import RunWriter

#: A button answers sooner; a run that is waited for takes longer.
AT_ONCE_S = 1.0
WAITS = "import time; time.sleep(60)"
CHANGE_STATUS = """
import json, pathlib, sys
file = pathlib.Path(sys.argv[2], sys.argv[1], "status.json")
def change(**changes):
    text = json.dumps(json.loads(file.read_text()) | changes)
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").replace(file)
"""
LINGERS = """
import signal, time
def stop(number, frame):
    change(state="stopped")
    time.sleep(1)
    print("gone")
    exit(130)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
#: In the place of torchrun: starts another process, the first of the team, and ends with 1 when that one has ended.
AGENT = """
import subprocess, sys
first = subprocess.Popen([sys.executable, "-c", FIRST, *sys.argv[1:]])
first.wait()
sys.exit(1)
"""
FIRST = (
    CHANGE_STATUS
    + """
import os, signal, time
def stop(number, frame):
    print("asked", flush=True)
    exit(130)
signal.signal(signal.SIGTERM, stop)
change(pid=os.getpid(), steps=9)
print("first", flush=True)
time.sleep(60)
"""
)
SERVER = """
import sys, time
from pathlib import Path
from explorer.runs.jobs import Jobs
from sam_core.config import build_config
jobs = Jobs(Path(sys.argv[1]))
for epochs in (3000, 2):
    values = dict(dataset=sys.argv[2], label_ratio=50, backbone="test_resnet", weights="none", image_size=64)
    print(jobs.start(build_config(values | dict(batch_size=4, epochs=epochs, attention_maps=4, device="cpu"))))
sys.stdout.flush()
time.sleep(60)
"""


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def status_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / layout.STATUS).read_text(encoding="utf-8"))


def state_of(folder: Path) -> str:
    return shown_state(folder, status_of(folder))


def steps_of(folder: Path) -> int:
    path = folder / layout.METRICS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def words_of(folder: Path) -> list[str]:
    """What its processes have printed."""
    path = folder / layout.WORKER_OUTPUT
    return path.read_text().split() if path.exists() else []


def process_state(pid: int) -> str:
    """One letter: R running, S sleeping, T stopped, Z zombie; nothing for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """A folder of runs; whatever still trains in it is ended after the test."""
    yield tmp_path / "runs"
    for file in (tmp_path / "runs").glob(f"*/{layout.STATUS}"):
        with contextlib.suppress(ValueError, OSError):
            pid = process_of(file.parent, status_of(file.parent))
            if pid is not None:
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def serve(runs: Path) -> Iterator[Callable[..., Jobs]]:
    """Opens servers over the folder, and closes them."""
    opened: list[Jobs] = []

    def open_jobs(**options: Any) -> Jobs:
        opened.append(Jobs(runs, **options))
        return opened[-1]

    yield open_jobs
    for jobs in opened:
        jobs.close()


@pytest.fixture
def config(shared_photographs: Path, tiny: Callable[..., RunConfig]) -> RunConfig:
    return tiny(shared_photographs)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a script in the place of the training process; its arguments are the run's id and the folder of the runs."""

    def replace(script: str) -> None:
        monkeypatch.setattr(
            module, "worker_command", lambda run_id, runs: [sys.executable, "-c", script, run_id, str(runs)]
        )

    return replace


# --- real runs ------------------------------------------------------------------------------------------------------


def test_runs_go_through_the_queue_one_after_the_other(runs: Path, serve, config: RunConfig):
    jobs = serve()
    first, second, third = (jobs.start(config) for _ in range(3))
    wait_for(lambda: state_of(runs / first) == "starting")
    assert jobs.queue() == [second, third]
    assert state_of(runs / second) == "queued"
    status = status_of(runs / first)
    assert (status["steps"], status["epochs"], status["host"]) == (0, 3, socket.gethostname())
    assert os.getsid(status["pid"]) == status["pid"]  # the terminal of the server is not its own

    assert jobs.stop(second) == "stopped"
    assert jobs.queue() == [third]
    with pytest.raises(JobError, match="nothing is at work on it"):
        jobs.stop(second)
    assert jobs.resume(second) == "queued"
    assert jobs.queue() == [third, second]  # it has lost its place
    assert jobs.stop(second) == "stopped"

    with pytest.raises(JobError, match="a process is at work on it"):
        jobs.delete(first)
    with pytest.raises(JobError, match="is starting already"):
        jobs.resume(first)

    wait_for(lambda: state_of(runs / third) == "starting")
    assert state_of(runs / first) == "finished"
    assert status_of(runs / first)["pid"] == status["pid"]
    assert json.loads((runs / first / layout.ENVIRONMENT).read_text())["threads"] > 0
    assert "going" not in (runs / first / layout.LOG).read_text()
    assert "finished" in (runs / first / layout.WORKER_OUTPUT).read_text()
    assert process_state(status["pid"]) != "Z"
    with pytest.raises(JobError, match="has finished"):
        jobs.resume(first)

    assert state_of(runs / second) == "stopped"
    assert jobs.queue() == []
    jobs.delete(first)
    assert not (runs / first).exists()
    assert sorted(path.name for path in runs.iterdir()) == sorted([module.QUEUE, second, third])


def test_a_run_stopped_while_starting_and_while_training_and_killed_ends_with_the_same_weights(
    runs: Path, serve, shared_photographs: Path, tmp_path: Path, tiny
):
    config = tiny(shared_photographs, epochs=30)
    whole = sam_core.train(config, runs=tmp_path / "whole", quiet=True)
    jobs = serve()
    run_id = jobs.start(config)
    folder = runs / run_id
    wait_for(lambda: state_of(folder) == "starting")
    time.sleep(0.5)  # into its imports
    assert_stopped_at_once(jobs, run_id)
    assert state_of(folder) == "stopped"
    assert not (folder / layout.METRICS).exists()

    assert jobs.resume(run_id) == "queued"
    wait_for(lambda: steps_of(folder) > 8)
    assert state_of(folder) == "running"
    assert_stopped_at_once(jobs, run_id)
    wait_for(lambda: state_of(folder) == "stopped")
    assert 0 < status_of(folder)["epoch"] < 30

    assert jobs.resume(run_id) == "queued"
    assert status_of(folder)["epoch"] > 0  # how far it has come is not forgotten
    before = steps_of(folder)
    wait_for(lambda: steps_of(folder) > before + 8)
    os.kill(status_of(folder)["pid"], signal.SIGKILL)
    wait_for(lambda: state_of(folder) == "interrupted")

    assert jobs.resume(run_id) == "queued"
    wait_for(lambda: state_of(folder) == "finished")
    assert (folder / layout.MODEL).read_bytes() == (whole.folder / layout.MODEL).read_bytes()
    assert (folder / layout.WORKER_OUTPUT).read_text().count("going on after epoch") == 2


def assert_stopped_at_once(jobs: Jobs, run_id: str) -> None:
    started = time.monotonic()
    assert jobs.stop(run_id) in ("stopping", "stopped")
    assert time.monotonic() - started < AT_ONCE_S
    assert state_of(jobs.runs / run_id) in ("stopping", "stopped")


def test_a_run_outlives_its_server_and_the_next_one_goes_on_with_the_queue(runs: Path, serve, shared_photographs: Path):
    """The server is ended as a closed terminal and then a crash would do it, with all processes of its group."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(runs), str(shared_photographs)],
        cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    long, short = (server.stdout.readline().strip() for _ in range(2))
    wait_for(lambda: steps_of(runs / long) > 4)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
    server.communicate()
    before = steps_of(runs / long)
    wait_for(lambda: steps_of(runs / long) > before)
    assert state_of(runs / long) == "running"

    jobs = serve()
    assert jobs.queue() == [short]
    time.sleep(1)
    assert state_of(runs / short) == "queued"  # the device is taken by a run that this server has not started
    with pytest.raises(JobError, match="a process is at work on it"):
        jobs.delete(long)
    assert_stopped_at_once(jobs, long)
    wait_for(lambda: state_of(runs / long) == "stopped")
    wait_for(lambda: state_of(runs / short) == "starting")


def test_a_run_of_the_command_line_takes_its_device_and_can_be_stopped(
    runs: Path, serve, photographs: Path, tiny, tiny_flags: list[str], shared_photographs: Path
):
    arguments = [*tiny_flags, "--dataset", str(shared_photographs), "--runs", str(runs), "--epochs", "3000", "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "sam_core", "train", *arguments], cwd=PROJECT_ROOT)
    wait_for(lambda: any(steps_of(folder) for folder in runs.glob("[0-9]*")))
    (other,) = runs.glob("[0-9]*")
    jobs = serve()
    waiting = jobs.start(tiny(photographs))
    time.sleep(1)
    assert jobs.queue() == [waiting]
    assert state_of(other) == "running"
    with pytest.raises(JobError, match="a process is at work on it"):
        jobs.delete(other.name)
    # Meanwhile the photographs of the waiting run are moved away.
    shutil.rmtree(photographs)
    assert_stopped_at_once(jobs, other.name)
    assert process.wait(30) == 130
    assert state_of(other) == "stopped"
    jobs.delete(other.name)
    assert not other.exists()

    wait_for(lambda: state_of(runs / waiting) == "failed")
    error = status_of(runs / waiting)["error"]
    assert error["type"] == "DatasetError"
    assert str(photographs) in error["message"]
    assert "folder of photographs" in error["hint"]
    assert "Traceback" in (runs / waiting / layout.LOG).read_text()
    assert "Traceback" not in (runs / waiting / layout.WORKER_OUTPUT).read_text()


# --- the server's part ----------------------------------------------------------------------------------------------


def test_a_start_returns_at_once_with_a_run_that_waits(runs: Path, serve, config: RunConfig, stand_in):
    stand_in(WAITS)
    jobs = serve(per_device=2)
    run_ids = [jobs.start(config) for _ in range(3)]
    wait_for(lambda: len(jobs.queue()) == 1)
    time.sleep(0.2)
    assert jobs.queue() == run_ids[2:]
    assert sam_core.open_run(runs / run_ids[2]).config == config
    assert [path.name for path in runs.glob(".*")] == [module.QUEUE]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"dataset": "/nowhere"}, "dataset: there is no folder /nowhere"),
        ({"weights": "/nowhere.pth"}, "weights"),
        ({"device": "cuda"}, "device"),
        ({"backbone": "resnet5000"}, "backbone"),
    ],
)
def test_what_is_not_here_is_refused_before_anything_is_written(
    changes: dict, word: str, runs: Path, serve, shared_photographs: Path, tiny, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    changed = {"dataset": shared_photographs} | changes
    with pytest.raises(JobError, match=word) as refused:
        serve().start(tiny(changed.pop("dataset"), **changed))
    assert refused.value.hint
    assert not runs.exists()


def test_a_full_disk_is_told_and_leaves_nothing(runs: Path, serve, config: RunConfig, monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    jobs = serve()
    monkeypatch.setattr(layout, "write_json", refuse)
    with pytest.raises(JobError, match="No space left on device") as refused:
        jobs.start(config)
    assert "free some space" in refused.value.hint
    assert list(runs.iterdir()) == []


def test_a_device_is_its_own_and_auto_is_the_best_there_is(
    runs: Path, serve, shared_photographs: Path, tiny, stand_in, monkeypatch: pytest.MonkeyPatch
):
    stand_in(WAITS)
    monkeypatch.setattr(module, "_is_available", lambda device: device == "cuda")
    module._automatic_device.cache_clear()
    jobs = serve()
    run_ids = [jobs.start(tiny(shared_photographs, device=device)) for device in ("cuda", "auto", "cpu", "cpu")]
    waiting = [run_ids[1], run_ids[3]]
    wait_for(lambda: jobs.queue() == waiting)
    time.sleep(0.2)
    assert jobs.queue() == waiting
    module._automatic_device.cache_clear()


# --- a run by several processes -------------------------------------------------------------------------------------


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "possible_processes", lambda device: 2)


@pytest.fixture
def team_stand_in(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a script in the place of torchrun."""

    def replace(script: str) -> None:
        monkeypatch.setattr(
            module,
            "team_command",
            lambda command, processes: [
                sys.executable,
                "-c",
                script,
                *[word for word in command if word != "--runs"][-2:],
            ],
        )

    return replace


def test_torchrun_starts_what_one_process_would_do(tmp_path: Path):
    command = module.team_command(module.worker_command("a-run", tmp_path), 4)
    assert command[0] == sys.executable
    assert command[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    assert command[5:] == module.worker_command("a-run", tmp_path)[1:]


@pytest.mark.long
def test_a_run_of_two_processes_is_stopped_as_one_and_resumed(
    runs: Path, serve, shared_photographs: Path, tiny, two_gpus: None
):
    jobs = serve()
    run_id = jobs.start(tiny(shared_photographs, epochs=100), processes=2)
    folder = runs / run_id
    assert json.loads((folder / layout.ENVIRONMENT).read_text()) == {"processes": 2}
    wait_for(lambda: steps_of(folder) > 4, 120)
    assert state_of(folder) == "running"
    (torchrun,) = [child.process.pid for child in jobs._children.values()]
    workers = [int(pid) for pid in Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split()]
    assert len(workers) == 2
    assert status_of(folder)["pid"] in workers
    assert_stopped_at_once(jobs, run_id)
    wait_for(lambda: state_of(folder) == "stopped")
    wait_for(lambda: not jobs._children, 60)
    assert [process_state(pid) for pid in (torchrun, *workers)] == ["", "", ""]
    assert (state_of(folder), status_of(folder)["error"]) == ("stopped", None)
    assert json.loads((folder / layout.ENVIRONMENT).read_text())["processes"] == 2
    jobs.resume(run_id)
    wait_for(lambda: state_of(folder) == "finished", 200)
    wait_for(lambda: not jobs._children)
    assert sam_core.open_run(folder).status["epoch"] == 100


def test_the_first_of_several_processes_is_asked_to_stop_and_not_torchrun(
    runs: Path, serve, config: RunConfig, team_stand_in
):
    team_stand_in(f"FIRST = {FIRST!r}\n{AGENT}")
    jobs = serve()
    run_id = jobs.start(config, processes=2)
    folder = runs / run_id
    wait_for(lambda: words_of(folder) == ["first"])
    (child,) = jobs._children.values()
    assert process_state(status_of(folder)["pid"]) != ""
    assert status_of(folder)["pid"] != child.process.pid
    assert jobs.stop(run_id) in ("stopping", "stopped")
    wait_for(lambda: not jobs._children)
    assert child.process.returncode == 1  # torchrun was left to end by itself
    assert words_of(folder) == ["first", "asked"]
    assert (state_of(folder), status_of(folder)["error"]) == ("stopped", None)


def test_processes_that_torchrun_has_only_just_started_are_ended_by_it(
    runs: Path, serve, config: RunConfig, team_stand_in, monkeypatch: pytest.MonkeyPatch
):
    ends = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (print('ended', flush=True), exit(1)))\n"
    team_stand_in(ends + "print('started', flush=True)\ntime.sleep(60)")
    jobs = serve()
    run_id = jobs.start(config, processes=2)
    folder = runs / run_id
    wait_for(lambda: words_of(folder) == ["started"])
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    jobs.stop(run_id)
    wait_for(lambda: state_of(folder) == "stopped")
    assert words_of(folder) == ["started", "ended"]


def test_what_ends_several_processes_without_a_word_is_a_failure(runs: Path, serve, config: RunConfig, team_stand_in):
    team_stand_in("print('error: it broke'); exit(1)")
    folder = runs / serve().start(config, processes=2)
    wait_for(lambda: state_of(folder) == "failed")
    assert status_of(folder)["error"]["message"] == "it broke"


def test_how_many_processes_a_run_has_is_kept_in_its_folder_and_bounded_by_what_is_here(
    runs: Path, serve, config: RunConfig, stand_in, team_stand_in, monkeypatch: pytest.MonkeyPatch
):
    stand_in("print('alone', flush=True)\n" + WAITS)
    team_stand_in("print('together', flush=True)\n" + WAITS)
    run_id = serve().start(config, processes=2)
    folder = runs / run_id
    wait_for(lambda: words_of(folder) == ["together"])
    jobs = serve()
    assert sam_core.open_run(folder).config == config  # whatever the number of processes
    jobs.stop(run_id)
    wait_for(lambda: state_of(folder) == "stopped")
    monkeypatch.setattr(module, "possible_processes", lambda device: 1)
    jobs.resume(run_id)
    wait_for(lambda: words_of(folder) == ["together", "alone"])


@pytest.mark.parametrize("processes", [0, 3, -1, True, "2"])
def test_more_processes_than_gpus_are_refused(processes: Any, runs: Path, serve, config: RunConfig, two_gpus: None):
    with pytest.raises(JobError, match="processes: must be 1 to 2"):
        serve().start(config, processes=processes)
    assert not runs.exists()


def test_only_gpus_take_several_processes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert [module.possible_processes(device) for device in ("auto", "cuda", "cpu", "mps")] == [4, 4, 1, 1]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert module.possible_processes("auto") == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"processes": "8"}', '{"processes": -4}', '{"processes": null}']
)
def test_an_environment_that_makes_no_sense_means_one_process(text: str, tmp_path: Path):
    (tmp_path / layout.ENVIRONMENT).write_text(text)
    assert module._processes_wanted(tmp_path) == 1


# --- ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "state", "message", "hint"),
    [
        (
            "print('hint: old'); print('error: old'); print('error: it broke'); print('hint: mend it'); exit(1)",
            "failed", "it broke", "mend it",
        ),
        ("exit(2)", "failed", "exit code 2", "worker.txt"),
        ("exit(130)", "stopped", None, None),
        ("exit(0)", "finished", None, None),
        ("import os; os.kill(os.getpid(), 9)", "interrupted", None, None),
    ],
)  # fmt: skip
def test_what_a_process_leaves_unsaid_is_written_down(
    script: str, state: str, message: str | None, hint: str | None, runs: Path, serve, config: RunConfig, stand_in
):
    stand_in(script)
    jobs = serve()
    folder = runs / jobs.start(config)
    wait_for(lambda: state_of(folder) == state)
    error = status_of(folder)["error"]
    assert (error is None) == (message is None)
    if error:
        assert error["type"] == "worker"
        assert message in error["message"]
        assert hint in error["hint"]
    pid = status_of(folder)["pid"]
    wait_for(lambda: process_state(pid) == "", 5)


def test_the_last_words_are_those_of_this_attempt(runs: Path, serve, config: RunConfig, stand_in):
    jobs = serve()
    stand_in("print('error: the first time'); exit(1)")
    folder = runs / jobs.start(config)
    wait_for(lambda: state_of(folder) == "failed")
    stand_in("exit(3)")
    jobs.resume(folder.name)
    wait_for(lambda: state_of(folder) == "failed")
    assert "exit code 3" in status_of(folder)["error"]["message"]


def test_what_a_process_said_itself_stands(runs: Path, serve, config: RunConfig, stand_in):
    stand_in("import time; time.sleep(0.3)\n" + CHANGE_STATUS + "change(state='failed', error='its own')\nexit(1)")
    folder = runs / serve().start(config)
    wait_for(lambda: state_of(folder) == "failed")
    time.sleep(0.7)
    assert status_of(folder)["error"] == "its own"


def test_a_run_that_another_process_has_taken_over_is_left_to_it(runs: Path, serve, config: RunConfig, stand_in):
    stand_in("import time; time.sleep(0.3)\n" + CHANGE_STATUS + "change(pid=1)\nexit(1)")
    folder = runs / serve().start(config)
    wait_for(lambda: status_of(folder)["pid"] == 1)
    time.sleep(0.8)
    assert (status_of(folder)["state"], status_of(folder)["error"]) == ("running", None)


def test_a_run_resumed_before_its_process_is_gone_waits_for_that(runs: Path, serve, config: RunConfig, stand_in):
    stand_in(CHANGE_STATUS + LINGERS)
    jobs = serve()
    run_id = jobs.start(config)
    folder = runs / run_id
    wait_for(lambda: words_of(folder) == ["ready"])
    assert jobs.stop(run_id) == "stopped"
    assert jobs.resume(run_id) == "queued"
    wait_for(lambda: words_of(folder) == ["ready", "gone", "ready"])
    assert jobs.stop(run_id) == "stopped"  # that it was asked to stop before is forgotten


def test_a_device_that_another_process_gives_free_is_taken(runs: Path, serve, config: RunConfig, stand_in):
    stand_in(WAITS)
    first = serve()
    one = first.start(config)
    wait_for(lambda: state_of(runs / one) == "starting")
    first.close()
    two = serve().start(config)
    time.sleep(0.5)
    assert state_of(runs / two) == "queued"
    os.kill(status_of(runs / one)["pid"], signal.SIGKILL)
    wait_for(lambda: state_of(runs / two) == "starting", 10)


def test_a_process_that_cannot_be_started_fails_its_run_and_not_the_queue(
    runs: Path, serve, config: RunConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "worker_command", lambda run_id, runs: ["/nowhere/python"])
    for _ in range(6):
        RunWriter.create(runs, config, epochs=3).close()
    folders = list(runs.iterdir())
    serve()
    wait_for(lambda: all(state_of(folder) == "failed" for folder in folders), 5)
    assert "no process could be started" in status_of(folders[0])["error"]["message"]


def test_a_run_too_busy_to_answer_is_stopping_at_once_and_ended_when_asked_again(
    runs: Path, serve, config: RunConfig, stand_in, monkeypatch: pytest.MonkeyPatch
):
    stand_in("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\n" + WAITS)
    jobs = serve()
    run_id = jobs.start(config)
    folder = runs / run_id
    wait_for(lambda: words_of(folder) == ["deaf"])
    started = time.monotonic()
    assert jobs.stop(run_id) == "stopping"
    assert time.monotonic() - started < AT_ONCE_S
    assert state_of(folder) == "stopping"
    assert jobs.stop(run_id) == "stopping"  # patience
    with pytest.raises(JobError, match="is stopping"):
        jobs.delete(run_id)
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    assert jobs.stop(run_id) == "stopped"
    assert jobs.resume(run_id) == "queued"


def test_a_run_of_another_server_that_dies_of_being_stopped_is_stopped(runs: Path, serve, config: RunConfig, stand_in):
    stand_in(WAITS)
    first, second = serve(), serve()
    run_id = first.start(config)
    wait_for(lambda: state_of(runs / run_id) == "starting")
    pid = status_of(runs / run_id)["pid"]
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: process_state(pid) == "T")
    assert second.stop(run_id) == "stopping"  # it cannot even die
    first.close()
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: state_of(runs / run_id) == "stopped", 5)


def test_two_servers_start_each_run_once(runs: Path, serve, config: RunConfig, stand_in):
    stand_in(f"print('started', flush=True)\n{WAITS}")
    for _ in range(12):
        RunWriter.create(runs, config, epochs=3).close()
    for _ in range(3):
        serve(per_device=12)
    folders = list(runs.glob("[0-9]*"))
    wait_for(lambda: all(state_of(folder) == "starting" for folder in folders), 20)
    time.sleep(0.5)
    assert [words_of(folder) for folder in folders] == [["started"]] * 12


def test_while_another_server_starts_a_run_this_one_does_not(runs: Path, serve, config: RunConfig, stand_in):
    stand_in(WAITS)
    (runs / module.QUEUE).mkdir(parents=True)
    with take_lock(runs / module.QUEUE):
        jobs = serve()
        run_id = jobs.start(config)
        with pytest.raises(JobError, match="another explorer"):
            jobs.stop(run_id)
        assert state_of(runs / run_id) == "queued"
    wait_for(lambda: state_of(runs / run_id) == "starting", 10)


def test_the_queue_of_another_computer_is_left_to_it(runs: Path, serve, config: RunConfig, stand_in):
    stand_in(WAITS)
    writer = RunWriter.create(runs, config, epochs=3)
    writer.status(host="another-computer")
    writer.close()
    jobs = serve()
    time.sleep(0.3)
    assert jobs.queue() == []
    assert state_of(writer.folder) == "queued"


@pytest.mark.parametrize(
    "status", ["", "{", "[]", '{"state": "running"}', '{"state": "running", "pid": "x", "steps": []}', "[" * 100_000]
)
def test_a_run_whose_status_makes_no_sense_can_be_resumed_and_removed(
    status: str, runs: Path, serve, config: RunConfig, stand_in
):
    stand_in(WAITS)
    RunWriter.create(runs, config, epochs=3).close()
    (folder,) = runs.glob("[0-9]*")
    (folder / layout.STATUS).write_text(status)
    jobs = serve()
    with pytest.raises(JobError, match="interrupted"):
        jobs.stop(folder.name)
    if not status.startswith("[["):
        assert jobs.resume(folder.name) == "queued"
        assert jobs.stop(folder.name) in ("stopping", "stopped")
        wait_for(lambda: state_of(folder) == "stopped", 5)
    jobs.delete(folder.name)
    assert not folder.exists()


@pytest.mark.parametrize(
    "run_id",
    [
        "", ".", "..", "../outside", "/etc", "a/", "./a", "a/.", "a/b", "a\\b", "c:run", ".hidden", "-x", "~root",
        "empty", "nowhere", "x" * 5000, "nul\0", "\udcff", "%2e%2e", None, 7,
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_only_a_run_directly_under_the_folder_is_reached(run_id: Any, runs: Path, serve, trained):
    shutil.copytree(trained.folder, runs.parent / "outside")
    for name in (".hidden", "-x", "~root", "a", "a/b", "a\\b"):
        shutil.copytree(trained.folder, runs / name)
    (runs / "empty").mkdir()
    (runs / layout.CONFIG).touch()
    jobs = serve()
    for action in (jobs.stop, jobs.resume, jobs.delete):
        with pytest.raises(JobError, match="run: there is no run"):
            action(run_id)
    assert (runs.parent / "outside" / layout.MODEL).exists()
    assert (runs / ".hidden" / layout.MODEL).exists()


def test_removing_a_link_leaves_what_it_points_at(runs: Path, serve, trained):
    shutil.copytree(trained.folder, runs.parent / "elsewhere")
    runs.mkdir()
    (runs / "linked").symlink_to(runs.parent / "elsewhere")
    serve().delete("linked")
    assert list(runs.glob("*linked*")) == list(runs.glob(".*linked*")) == []
    assert (runs.parent / "elsewhere" / layout.MODEL).exists()


def test_what_a_server_was_removing_when_it_ended_is_removed_by_the_next(runs: Path, serve):
    (runs / f".a-run.12ab{module.REMOVED}" / "attention").mkdir(parents=True)
    serve()
    wait_for(lambda: not list(runs.glob(f".*{module.REMOVED}")), 5)


def test_a_closed_server_leaves_no_zombie_and_no_thread(runs: Path, serve, config: RunConfig, stand_in):
    stand_in(WAITS)
    jobs = serve()
    folder = runs / jobs.start(config)
    wait_for(lambda: state_of(folder) == "starting")
    pid = status_of(folder)["pid"]
    jobs.close()
    assert state_of(folder) == "starting"
    assert "runs" not in [thread.name for thread in threading.enumerate()]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: process_state(pid) == "", 5)
    assert state_of(folder) == "interrupted"


def test_nothing_is_looked_at_while_nothing_happens(runs: Path, serve, trained, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(trained.folder, runs / "finished")
    jobs = serve()
    time.sleep(0.2)
    looks: list[str] = []
    for name in ("_statuses", "_settle_ended"):
        monkeypatch.setattr(jobs, name, lambda name=name: looks.append(name) or {})
    time.sleep(1.2)
    assert looks == []


def test_many_hands_at_once(runs: Path, serve, config: RunConfig, stand_in):
    """Runs are started, stopped, resumed and removed from many threads; none is lost, started twice or forgotten."""
    stand_in(WAITS)
    jobs = serve(per_device=3)
    surprises: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                run_id = jobs.start(config)
                jobs.queue()
                jobs.stop(run_id)
                wait_for(lambda run_id=run_id: state_of(runs / run_id) == "stopped", 10)
                jobs.resume(run_id)
                jobs.stop(run_id)
                wait_for(lambda run_id=run_id: state_of(runs / run_id) == "stopped", 10)
                jobs.delete(run_id)
        except BaseException as error:
            surprises.append(error)

    hands = [threading.Thread(target=work) for _ in range(6)]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    assert surprises == []
    assert [path.name for path in runs.iterdir()] == [module.QUEUE]
    wait_for(lambda: not jobs._children, 5)


def test_the_jobs_need_no_browser():
    code = (
        "import sys, explorer.runs.jobs; print([name for name in ('gradio', 'plotly', 'timm') if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
