"""Runs as processes: started, queued, stopped, resumed and removed, each in a process that outlives this server.

All that is known of a run stands in its folder, and the queue is the run folders in state `queued`. So a server that is
closed, or killed, harms no run, and the next one over the same folder goes on where it was.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from explorer.runs.states import ALIVE_STATES, LIVE_STATES, process_of, read_object, shown_state
from sam_core.config import DATASETS, PROJECT_ROOT, ConfigError, RunConfig
from sam_core.recording import layout
from sam_core.recording.lock import take_lock
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunError, RunWriter
from sam_core.training.plan import Plan

#: In the folder of the runs: locked by whoever starts a run, or takes one into or out of the queue.
QUEUE = ".queue"
#: What is being removed is called `.RUN_ID.XXXX` and this.
REMOVED = ".removed"
#: Seconds between two looks at the own processes, and, while a run waits, at those that others have started.
LOOK_EVERY_S = 0.5
LOOK_AT_OTHERS_EVERY_S = 2.0
#: A run that is asked to stop says so itself, unless it is too deep in a computation to answer within so many seconds.
ANSWER_WITHIN_S = 0.15
#: A run that was asked to stop and has not for so long is ended when it is asked again.
PATIENCE_S = 20.0
#: Of what a process printed, its last words are looked for in so many bytes.
LAST_WORDS_BYTES = 65536
#: The exit code of a process that was interrupted and leaves a run to be resumed.
INTERRUPTED = 130

_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
#: Neither Ctrl-C nor the end of the terminal in which the server runs may reach a run.
_DETACHED: dict[str, Any] = (
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"start_new_session": True}
)
_log = logging.getLogger(__name__)


class JobError(RunError):
    """What cannot be done with a run, in a sentence; `hint` says what can."""


@dataclass(frozen=True)
class _Child:
    """A process that this server has started, and where in the run's worker.txt its own output begins.

    For a run by several processes it is torchrun, which starts and watches them. What status.json names, and what is
    spoken to, is the first of those.
    """

    process: subprocess.Popen[bytes]
    output_from: int
    processes: int = 1


class Jobs:
    """The runs under one folder, at most `per_device` of them at a time on each device. Safe to use from any thread.

    Args:
        runs: the folder of the run folders.
        per_device: how many runs may share a device.
    """

    def __init__(self, runs: Path, *, per_device: int = 1) -> None:
        self.runs = Path(runs).resolve()
        self.per_device = per_device
        self._lock = threading.RLock()
        self._children: dict[str, _Child] = {}
        self._asked_to_stop: dict[str, float] = {}  # when, on the monotonic clock
        self._read: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {}
        self._waiting = False
        self._closed = False
        self._changed = threading.Event()
        self._changed.set()  # the server before this one may have left a queue
        self._keeper = threading.Thread(target=self._look_after, name="runs", daemon=True)
        self._keeper.start()

    # --- what people do -----------------------------------------------------------------------------------------

    def start(self, config: RunConfig, *, processes: int = 1) -> str:
        """Queue a new run and return its id at once; its process starts as soon as the device is free.

        Args:
            config: what to train.
            processes: how many train it together, each on a GPU of its own.

        Raises:
            JobError: naming the option, if that cannot be run here; or if the run folder cannot be made.
        """
        _refuse_unavailable(config)
        _refuse_too_many(processes, possible_processes(config.device))
        # How many epochs a run has does not depend on how many images they show.
        epochs = Plan.of(config, images=1).epochs
        try:
            writer = RunWriter.create(
                self.runs, config, epochs=epochs, state="queued",
                environment={"processes": processes} if processes > 1 else None,
            )  # fmt: skip
        except OSError as error:
            raise JobError(
                f"the run folder cannot be made in {self.runs}: {error.strerror or error}",
                "free some space there, or start the explorer with a --runs folder that can be written to",
            ) from error
        writer.close()
        self._changed.set()
        return writer.folder.name

    def stop(self, run_id: str) -> str:
        """Ask a run to stop after the step at hand, or take it out of the queue; returns the state it then shows.

        A run that is asked again after `PATIENCE_S` is ended at once. Either way it can be resumed.

        Raises:
            JobError: if nothing is at work on the run, or what is cannot be reached from here.
        """
        folder = self._folder(run_id)
        if self._leave_queue(folder):
            return "stopped"
        with self._lock:
            state = self._state(folder)
            if state not in ALIVE_STATES:
                raise JobError(f"run {run_id} is {state}: nothing is at work on it", "only a live run can be stopped")
            expected = ("stopping", "stopped", "finished", "failed")
            asked = self._asked_to_stop.get(run_id)
            if asked is None:
                self._send(folder, signal.SIGTERM)
                self._asked_to_stop[run_id] = time.monotonic()
            elif time.monotonic() - asked >= PATIENCE_S:
                self._send(folder, _KILL)
                expected = expected[1:]
        state = self._wait_for(folder, expected)
        if state in ("starting", "running"):
            state = self._answer_for(folder)
        self._changed.set()
        return state

    def resume(self, run_id: str) -> str:
        """Queue a run that was stopped, has failed or was interrupted; returns the state it then shows.

        Raises:
            JobError: if there is nothing to go on with, or something is at work on it.
        """
        folder = self._folder(run_id)
        with self._alone():
            state = self._state(folder)
            if state == "finished":
                raise JobError(f"run {run_id} has finished", "start a new run with more epochs")
            if state in LIVE_STATES:
                raise JobError(f"run {run_id} is {state} already", "there is nothing to be done")
            with _writing(folder) as writer:
                writer.take_over(state="queued")
        self._changed.set()
        return self._state(folder)

    def delete(self, run_id: str) -> None:
        """Remove a run and all it recorded. It is out of sight at once, however long the disk takes.

        Raises:
            JobError: while something is at work on it, or if the disk refuses.
        """
        folder = self._folder(run_id)
        removed = self.runs / f".{run_id}.{secrets.token_hex(4)}{REMOVED}"
        with self._alone():
            state = self._state(folder)
            if state in ALIVE_STATES:
                raise JobError(f"run {run_id} is {state}: a process is at work on it", "stop it first")
            try:
                folder.rename(removed)
            except OSError as error:
                raise JobError(
                    f"run {run_id} cannot be removed: {error.strerror}", "see who owns its folder"
                ) from error
        _remove(removed)

    def queue(self) -> list[str]:
        """The runs that wait for a device on this computer, the next one first."""
        host = socket.gethostname()
        with self._lock:
            waiting = {
                run_id: status
                for run_id, status in self._statuses().items()
                if status.get("state") == "queued" and status.get("host") == host
            }
        return sorted(waiting, key=lambda run_id: (_time_of(waiting[run_id]), run_id))

    def close(self) -> None:
        """Look after nothing any more. Every run goes on, and every queued one waits for the next server."""
        self._closed = True
        self._changed.set()
        self._keeper.join(timeout=10)
        with self._lock:
            children = list(self._children.values())
            self._children.clear()
        for child in children:  # as long as this process lives, it is the one to bury them
            threading.Thread(target=child.process.wait, daemon=True).start()

    # --- one run ------------------------------------------------------------------------------------------------

    def _folder(self, run_id: str) -> Path:
        """The folder of a run that somebody named: one directly under `runs`, and nothing else."""
        if isinstance(run_id, str) and run_id and run_id == Path(run_id).name and "\\" not in run_id:
            # Hidden folders are no runs; the command line of the process takes `-` for an option and `~` for a home.
            with contextlib.suppress(OSError):
                if run_id[0] not in ".-~" and (self.runs / run_id / layout.CONFIG).is_file():
                    return self.runs / run_id
        raise JobError(f"run: there is no run {run_id!r} here", "choose one from the list")

    def _state(self, folder: Path) -> str:
        return shown_state(folder, _status_of(folder))

    def _leave_queue(self, folder: Path) -> bool:
        """Take a run out of the queue; False if it is not in it."""
        if self._state(folder) != "queued":
            return False
        with self._alone():
            if self._state(folder) != "queued":
                return False  # it was started just now
            with _writing(folder) as writer:
                writer.last_status(state="stopped")
        self._changed.set()
        return True

    def _send(self, folder: Path, number: int) -> None:
        """Send the run's process a signal; of several the first, which tells the others."""
        child = self._children.get(folder.name)
        status = _status_of(folder)
        pid = process_of(folder, status)
        if child is not None and child.process.poll() is None:
            if child.processes == 1:
                child.process.send_signal(number)
                return
            if pid in (None, child.process.pid):
                # Only torchrun knows the processes that it has just started. It ends them; nobody would, were it gone.
                child.process.send_signal(signal.SIGTERM)
                return
        if pid is None:
            host = f"on {status.get('host')}" if status.get("host") != socket.gethostname() else "by a process"
            raise JobError(f"run {folder.name} is being trained {host}, out of reach from here", "stop it there")
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it has just ended by itself
        except PermissionError as error:
            raise JobError(f"run {folder.name} belongs to another user", "ask them to stop it") from error

    def _wait_for(self, folder: Path, expected: tuple[str, ...]) -> str:
        """Wait a moment for a run that was sent a signal to be in one of these states; returns the one it is in."""
        end = time.monotonic() + ANSWER_WITHIN_S
        while True:
            self._settle_ended()
            state = self._state(folder)
            if state in expected or time.monotonic() > end:
                return state
            time.sleep(0.01)

    def _answer_for(self, folder: Path) -> str:
        """Say that a run stops, in the place of its process that is too deep in a computation to say so."""
        status = _status_of(folder)
        # Only its own process may write this file while it lives. That one will do so again as soon as it answers, and
        # if it finishes in the very moment between reading and writing, its exit code mends this (`_settle`).
        if status.get("state") == "running":
            changes = {"state": "stopping", "updated": time.time()}
            with contextlib.suppress(OSError):
                layout.write_json(folder / layout.STATUS, status | changes, durable=False)
        return self._state(folder)

    # --- the keeper's thread ------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Start what waits and settle what has ended; sleep without end while there is nothing of either."""
        self._quietly(self._remove_leftovers)
        looked = float("-inf")
        while not self._closed:
            busy = self._waiting or self._children or self._asked_to_stop
            changed = self._changed.wait(LOOK_EVERY_S if busy else None)
            self._changed.clear()
            changed = bool(self._quietly(self._settle_ended)) or changed
            if not self._closed and (changed or (self._waiting and time.monotonic() - looked > LOOK_AT_OTHERS_EVERY_S)):
                looked = time.monotonic()
                self._quietly(self._start_waiting)

    def _quietly(self, work: Callable[[], Any]) -> Any:
        """Do something that must not end the thread, whatever happens; it is tried again later."""
        try:
            return work()
        except JobError as error:
            _log.info("%s", error)
        except Exception:
            _log.exception("looking after the runs in %s", self.runs)

    def _remove_leftovers(self) -> None:
        """Finish what a server was removing when it was ended."""
        for path in self.runs.glob(f".*{REMOVED}"):
            _remove(path)

    def _start_waiting(self) -> None:
        """Start the runs of the queue whose device is free, in their order."""
        self._waiting = bool(self.queue())
        if not self._waiting:
            return
        with self._alone():
            busy = Counter(self._device_of(run_id) for run_id in self._alive())
            for run_id in self.queue():
                device = self._device_of(run_id)
                # A run that was stopped and resumed waits for the end of its first process.
                if busy[device] < self.per_device and run_id not in self._children:
                    with contextlib.suppress(JobError):  # of this one; the next one may start
                        self._launch(run_id)
                        busy[device] += 1
            self._waiting = bool(self.queue())

    def _launch(self, run_id: str) -> None:
        """Start the process of a queued run, and write down that it is there, or why it could not be."""
        folder = self.runs / run_id
        processes = min(_processes_wanted(folder), possible_processes(self._device_of(run_id)))
        command = worker_command(run_id, self.runs)
        if processes > 1:
            command = team_command(command, processes)
        with _writing(folder) as writer:
            try:
                with open(folder / layout.WORKER_OUTPUT, "ab") as output:
                    output_from = output.tell()
                    process = subprocess.Popen(
                        command,
                        cwd=PROJECT_ROOT,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        **_DETACHED,
                    )
            except OSError as error:
                message = f"no process could be started for the run: {error.strerror or error}"
                hint = "free some memory or disk space, then resume it"
                writer.last_status(state="failed", error={"type": "worker", "message": message, "hint": hint})
                raise
            self._children[run_id] = _Child(process, output_from, processes)
            try:
                writer.take_over(pid=process.pid)
            except OSError:
                writer.last_status()  # on a full disk, where the old file was

    def _settle_ended(self) -> bool:
        """Reap the processes that have ended, and write down what they left unsaid; returns whether one has ended."""
        with self._lock:
            ended = {run_id: child for run_id, child in self._children.items() if child.process.poll() is not None}
            for run_id, child in ended.items():
                del self._children[run_id]
                self._settle(run_id, child)
            others = [run_id for run_id in self._asked_to_stop if run_id not in self._children]
            gone = [run_id for run_id in others if self._state(self.runs / run_id) not in ALIVE_STATES]
            for run_id in gone:
                del self._asked_to_stop[run_id]
                self._write_end(run_id, state="stopped")
        return bool(ended or gone)

    def _settle(self, run_id: str, child: _Child) -> None:
        """Write down how a process of this server has ended, where it has not done so itself."""
        code, pid = child.process.returncode, child.process.pid if child.processes == 1 else None
        asked = self._asked_to_stop.pop(run_id, None) is not None
        # torchrun ends with 1 whatever its processes have ended with.
        killed = code < 0 or sys.platform == "win32" or child.processes > 1
        if code == 0:
            self._write_end(run_id, pid, state="finished")
        elif code == INTERRUPTED or (asked and killed):
            self._write_end(run_id, pid, state="stopped")
        elif code > 0:
            self._write_end(run_id, pid, state="failed", error=_last_words(self.runs / run_id, child))
        # Killed, and nobody here had asked for it: the status stays as it was, and is shown as interrupted.

    def _write_end(self, run_id: str, pid: int | None = None, **changes: Any) -> None:
        """Change the status of a run that says it is running and is not; of process `pid`, if that is known."""
        folder = self.runs / run_id
        try:
            with _writing(folder) as writer:
                status = _status_of(folder)
                is_its_own = pid == status.get("pid") if pid is not None else process_of(folder, status) is None
                if status.get("state") in ("running", "stopping") and is_its_own:
                    writer.last_status(eta_s=None, **changes)
        except JobError:
            pass  # its folder is gone, or somebody else is going on with it

    # --- the folder of the runs ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Meanwhile nobody else, in this server or another, starts a run, or takes one into or out of the queue."""
        with self._lock:
            try:
                (self.runs / QUEUE).mkdir(exist_ok=True)
                lock = take_lock(self.runs / QUEUE)
            except OSError:
                # Where the disk is full or the folder not ours, no other server can begin anything either.
                lock = contextlib.nullcontext()
            if lock is None:
                raise JobError("another explorer is just at work on the same runs", "try again in a moment")
            with lock:
                yield

    def _alive(self) -> list[str]:
        """The runs that a process of this computer is at work on, whoever started it."""
        host = socket.gethostname()
        return [
            run_id
            for run_id, status in self._statuses().items()
            if status.get("state") in ("running", "stopping")
            and status.get("host") == host
            and shown_state(self.runs / run_id, status) in ALIVE_STATES
        ]

    def _device_of(self, run_id: str) -> str:
        """The device that a run uses on this computer."""
        try:
            device = Run(self.runs / run_id).config.device
        except RunError:
            return "unknown"  # its configuration cannot be read; its process will say so
        return _automatic_device() if device == "auto" else device

    def _statuses(self) -> dict[str, dict[str, Any]]:
        """The status of every run; a file that has not changed is not read again."""
        read: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {}
        try:
            names = [name for name in os.listdir(self.runs) if not name.startswith(".")]
        except OSError:
            names = []
        for name in names:
            try:
                file = os.stat(os.path.join(self.runs, name, layout.STATUS))
            except OSError:
                continue
            version = (file.st_mtime_ns, file.st_ino, file.st_size)
            known = self._read.get(name)
            read[name] = known if known and known[0] == version else (version, _status_of(self.runs / name))
        self._read = read
        return {name: status for name, (_, status) in read.items()}


def worker_command(run_id: str, runs: Path) -> list[str]:
    """The command line of the process that trains a run."""
    return [sys.executable, "-m", "sam_core", "train", "--resume", run_id, "--runs", str(runs)]


def team_command(command: list[str], processes: int) -> list[str]:
    """The command line that has several processes do what `command`, of this Python, would do alone."""
    python, *arguments = command
    return [python, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *arguments]


def possible_processes(device: str) -> int:
    """How many processes can train a run together here: one for each GPU, where the run uses them."""
    return max(1, torch.cuda.device_count()) if device in ("auto", "cuda") and _is_available("cuda") else 1


def _refuse_too_many(processes: int, possible: int) -> None:
    if isinstance(processes, bool) or not isinstance(processes, int) or not 1 <= processes <= possible:
        here = f"there are {possible} GPUs for it" if possible > 1 else "only one process can train a run"
        raise JobError(f"processes: must be 1 to {possible}, not {processes!r}: {here} here", "choose fewer")


def _processes_wanted(folder: Path) -> int:
    """How many processes a run was started with, or is to be started with: environment.json is written by both."""
    wanted = _object_in(folder, layout.ENVIRONMENT).get("processes")
    return wanted if isinstance(wanted, int) and wanted > 1 else 1


def _refuse_unavailable(config: RunConfig) -> None:
    """Refuse what this computer does not have, before the run has a folder."""
    from sam_core.models.backbones import data_config  # timm takes a second to import, and only a start needs it

    if config.dataset not in DATASETS and not Path(config.dataset).exists():
        names = ", ".join(DATASETS)
        raise JobError(
            f"dataset: there is no folder {config.dataset}", f"give a folder or zip of photographs, or {names}"
        )
    if config.weights not in ("imagenet", "none") and not Path(config.weights).is_file():
        raise JobError(f"weights: there is no file {config.weights}", "give imagenet, none, or a weights file")
    if config.device in ("cuda", "mps") and not _is_available(config.device):
        raise JobError(f"device: there is no {config.device} here", "take auto or cpu")
    try:
        data_config(config.backbone)
    except ConfigError as error:
        raise JobError(str(error), "choose another backbone") from error


def _is_available(device: str) -> bool:
    # No more than this is asked: what goes further takes memory of the GPU for the server.
    return torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()


@functools.cache
def _automatic_device() -> str:
    """The device that `auto` takes."""
    return next((device for device in ("cuda", "mps") if _is_available(device)), "cpu")


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[RunWriter]:
    """The writer of a run that no process is at work on; what stands in its way becomes a `JobError`."""
    try:
        with contextlib.closing(RunWriter(folder)) as writer:
            yield writer
    except RunError as error:
        raise JobError(str(error), error.hint) from error
    except OSError as error:
        message = f"the folder of run {folder.name} cannot be written to: {error.strerror or error}"
        raise JobError(message, "free some space on its disk, or see who owns it") from error


def _status_of(folder: Path) -> dict[str, Any]:
    """What status.json says; nothing, if that makes no sense."""
    return _object_in(folder, layout.STATUS)


def _object_in(folder: Path, name: str) -> dict[str, Any]:
    try:
        return read_object(folder / name)
    except FileNotFoundError:
        return {}


def _time_of(status: dict[str, Any]) -> float:
    updated = status.get("updated")
    return updated if isinstance(updated, int | float) else 0.0


def _last_words(folder: Path, child: _Child) -> dict[str, Any]:
    """Why a process has ended, from what it printed: its last `error:` line, and the hint that follows it."""
    message = f"its process ended with exit code {child.process.returncode}"
    hint = f"{layout.WORKER_OUTPUT} in the run folder has what it printed"
    for line in _tail(folder / layout.WORKER_OUTPUT, child.output_from).splitlines():
        if line.startswith("error: "):
            message = line.removeprefix("error: ")
        elif line.startswith("hint: "):
            hint = line.removeprefix("hint: ")
    return {"type": "worker", "message": message, "hint": hint}


def _tail(path: Path, start: int) -> str:
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - LAST_WORDS_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink(missing_ok=True)  # what it points at is not ours
    else:
        shutil.rmtree(path, ignore_errors=True)
