"""What a person is told of a run: its status as it was written, and whether its process is still there to keep it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam_core.recording import content, layout
from sam_core.recording.lock import is_locked

#: `starting`: its process loads what it needs, or opens its data. `interrupted`: it was running, and its process is
#: gone without a word (a power cut, kill -9). The others are as in status.json.
SHOWN_STATES = ("queued", "starting", "running", "stopping", "stopped", "interrupted", "finished", "failed")
#: Somebody is at work on the run.
ALIVE_STATES = ("starting", "running", "stopping")
#: The run has not come to an end: somebody is at work on it, or will be.
LIVE_STATES = ("queued", *ALIVE_STATES)

#: A run of another computer is taken to be alive if its status is not older than this: nothing else reaches that far.
ELSEWHERE_ALIVE_S = 120.0
#: The same for a process of this computer, where the system does not tell what a process is.
UNNAMED_ALIVE_S = 60.0
PROCESSES = Path("/proc")
#: A text of a run folder is shown up to this length.
LONGEST_TEXT = 2000


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a run folder, or an empty one where the file is damaged; `FileNotFoundError` without a file."""
    try:
        value = content.parse_json(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def shown_state(folder: Path, status: Mapping[str, Any]) -> str:
    """The state of a run, one of `SHOWN_STATES`; a status that makes no sense is that of an interrupted run.

    Args:
        folder: the run folder.
        status: what its status.json says, whoever wrote it.
    """
    state = status.get("state") if isinstance(status, Mapping) else None
    if state in ("queued", "stopped", "finished", "failed"):
        return str(state)
    if state not in ("running", "stopping") or not is_alive(folder, status):
        return "interrupted"
    if state == "stopping":
        return "stopping"
    steps = status.get("steps")
    return "running" if isinstance(steps, int) and steps > 0 else "starting"


def shown_status(value: Any) -> dict[str, Any]:
    """status.json as a page can rely on it: numbers where numbers belong, short texts, and nothing else.

    Args:
        value: what the file holds, whoever wrote it.
    """
    status = value if isinstance(value, Mapping) else {}
    counted = ("epoch", "epochs", "step", "steps", "eta_s", "updated")
    error = status.get("error")
    return {
        "state": shown_text(status.get("state")),
        "pid": _process_id(status),
        "host": shown_text(status.get("host")),
        **{name: shown_number(status.get(name)) for name in counted},
        "error": {name: shown_text(error.get(name)) for name in ("type", "message", "hint")}
        if isinstance(error, Mapping)
        else None,
    }


def shown_number(value: Any) -> int | float | None:
    """A number that a page can draw, or None: whole numbers in JSON may be longer than any float."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and abs(value) < 1e300 else None  # nan compares false


def shown_text(value: Any) -> str | None:
    """A text that a page can show, not too long, or None."""
    return value[:LONGEST_TEXT] if isinstance(value, str) else None


def is_alive(folder: Path, status: Mapping[str, Any]) -> bool:
    """Whether a process is at work on the run: on this computer, or by its word on another one."""
    host = status.get("host") if isinstance(status, Mapping) else None
    if not isinstance(host, str):
        return False
    if host != socket.gethostname():
        return _is_recent(status, ELSEWHERE_ALIVE_S)
    pid = _process_id(status)
    if pid is not None and _is_for_run(pid, folder, status):
        return True
    # A run that was begun on the command line does not have its id there, but it holds the lock.
    return is_locked(folder)


def process_of(folder: Path, status: Mapping[str, Any]) -> int | None:
    """The id of the run's process if a signal can be sent to it: it is on this computer, alive, and that run's own."""
    if not isinstance(status, Mapping) or status.get("host") != socket.gethostname():
        return None
    pid = _process_id(status)
    if pid is None or pid == os.getpid():
        return None
    return pid if _is_for_run(pid, folder, status) or _holds_lock(pid, folder) else None


def _process_id(status: Mapping[str, Any]) -> int | None:
    """The status's `pid` where it can be one; 0, 1 and negative ones would address more than one process."""
    pid = status.get("pid")
    return pid if isinstance(pid, int) and 1 < pid < 2**31 else None


def _is_for_run(pid: int, folder: Path, status: Mapping[str, Any]) -> bool:
    """Whether the process was started for this run, and is not another one that was given the same number since."""
    if not PROCESSES.is_dir():
        return _is_recent(status, UNNAMED_ALIVE_S) and _exists(pid)
    try:
        command = (PROCESSES / str(pid) / "cmdline").read_bytes()
        if not command:
            # For an instant a program that is just being loaded has no words yet. A zombie, and a part of the system's
            # core, never has any; but those have no program either.
            os.readlink(PROCESSES / str(pid) / "exe")
            return True
    except OSError:
        return False
    return any(os.path.basename(word) == os.fsencode(folder.name) for word in command.split(b"\0"))


def _holds_lock(pid: int, folder: Path) -> bool:
    """Whether the process has the run's lock file open, as only its writer has for longer than an instant."""
    if not PROCESSES.is_dir():
        return _exists(pid) and is_locked(folder)
    try:
        lock = os.stat(folder / layout.LOCK)
        descriptors = os.listdir(PROCESSES / str(pid) / "fd")
    except OSError:
        return False
    return any(_is_file(PROCESSES / str(pid) / "fd" / descriptor, lock) for descriptor in descriptors)


def _is_file(path: Path, known: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), known)
    except OSError:
        return False


def _exists(pid: int) -> bool:
    if os.name == "nt":
        return True  # there signal 0 is Ctrl-C; what the status and the lock say must do
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _is_recent(status: Mapping[str, Any], seconds: float) -> bool:
    updated, now = status.get("updated"), time.time()
    return isinstance(updated, int | float) and now - seconds < updated < now + seconds
