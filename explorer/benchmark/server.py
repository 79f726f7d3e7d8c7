"""The explorer as a person starts it, in a process of its own, for as long as a measurement needs it."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sam_core.config import PROJECT_ROOT

#: Seconds between two looks at what the starting server has said.
INTERVAL_S = 0.01
#: A server that is not there after so long will not come.
PATIENCE_S = 180.0
#: Seconds that a server may take to end before it is ended.
GOODBYE_S = 30.0


class ServerError(RuntimeError):
    """The server did not start, or answered with something else than what it was asked for."""


@dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Attributes:
        address: `http://127.0.0.1:PORT`.
        pid: its process.
        ready_s: seconds from the start of the process until its page was there.
    """

    address: str
    pid: int
    ready_s: float


@contextlib.contextmanager
def running_server(runs: Path, *, data_root: Path | None = None) -> Iterator[RunningServer]:
    """Start a server over these run folders, wait for its page, and end it at last.

    Args:
        runs: the folder of its run folders.
        data_root: a folder whose images it may show.
    """
    command = [sys.executable, "-m", "explorer", "--no-browser", "--port", "0", "--runs", str(runs)]
    if data_root is not None:
        command += ["--data-root", str(data_root)]
    with tempfile.TemporaryDirectory(prefix="sam-benchmark-") as place:
        said = Path(place) / "said.txt"
        started = time.perf_counter()
        with open(said, "wb") as errors:
            process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            address = _address(process, said)
            _wait_for_page(address)
            yield RunningServer(address, process.pid, time.perf_counter() - started)
        finally:
            _end(process)


def _address(process: subprocess.Popen[bytes], said: Path) -> str:
    """What the server says its address is, as soon as it does."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        ready = re.search(r"is ready: (http://\S+)\s", said.read_text(encoding="utf-8", errors="replace"))
        if ready:
            return ready[1]
        time.sleep(INTERVAL_S)
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    reason = next((line for line in reversed(lines) if line.startswith("error:")), lines[-1])
    raise ServerError(f"the server did not start: {reason}")


def _wait_for_page(address: str) -> None:
    with contextlib.closing(Visitor(address)) as visitor:
        visitor.get("/")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT if os.name != "nt" else signal.SIGTERM)
    try:
        process.wait(timeout=GOODBYE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Visitor:
    """One browser's connection, kept open from request to request."""

    def __init__(self, address: str) -> None:
        place = urlsplit(address)
        self._connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)

    def get(self, path: str) -> bytes:
        """What the server answers, as it comes over the wire.

        Raises:
            ServerError: if that is anything but yes.
        """
        self._connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise ServerError(f"{path} was answered with {answer.status}: {content[:200]!r}")
        return content

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def processor_seconds(pid: int) -> float | None:
    """The processor time that a process has taken so far, all threads; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
