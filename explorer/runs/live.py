"""What is new in one run since a page last asked: curve points, status, the log's end, recorded epochs.

The files of a run are read once, as they grow, however many pages watch it. A page holds a cursor and is sent what lies
behind it; when nothing does, it is sent nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explorer.kept import Kept
from explorer.runs.states import shown_number, shown_state, shown_status
from sam_core.recording import content, layout
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunError

#: The log's end that a page shows.
LOG_BYTES = 12_000
#: Two pages that ask within this time share one look at the files.
SHARED_LOOK_S = 0.2
#: Runs whose points are kept in memory; the one asked for longest ago goes first.
KEPT_FEEDS = 16
#: At most so many points are sent at once; a page asks for the rest straight away.
POINTS_PER_ANSWER = 5_000
#: So much of metrics.jsonl is read at one look; what an epoch writes is a thousandth of it.
BYTES_PER_LOOK = 16_000_000
#: A measure lies no deeper than this in an epoch's line: `localisation`, the map, the measure.
DEEPEST_MEASURE = 5

STEP_VALUES = ("epoch", "step", "loss", "classification", "attention", "lr")


class Feeds:
    """The feeds of the runs that pages watch."""

    def __init__(self) -> None:
        self._feeds: Kept[Path, RunFeed] = Kept(KEPT_FEEDS)

    def of(self, folder: Path) -> RunFeed:
        """The feed of a run folder."""
        return self._feeds.get(folder, lambda: RunFeed(folder))


class RunFeed:
    """One run's points and state. A cursor is text that only this class reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._generation = 0
        self._metrics_file: tuple[int, int] = (0, 0)  # inode, and how far it has been read
        self._steps: list[dict[str, Any]] = []
        self._epochs: list[dict[str, Any]] = []
        self._status: dict[str, Any] = {}
        self._state = ""
        self._log: tuple[int, str] = (0, "")
        self._recorded: list[int] = []
        self._answers: dict[str, bytes] = {}  # by cursor, until the next look: most pages ask with the same

    def news_json(self, cursor: str) -> bytes | None:
        """As `news`, in JSON."""
        with self._lock:
            self._look()
            if cursor not in self._answers:
                news = self._news(cursor)
                self._answers[cursor] = b"" if news is None else layout.dump_json(news).encode()
            return self._answers[cursor] or None

    def news(self, cursor: str) -> dict[str, Any] | None:
        """What lies behind `cursor` (empty: everything), or None.

        Returns:
            `cursor`; `reset`: whether what is known so far must go; `steps` and `epochs`: new points; `status` and
            `state`; `recorded`: further epochs whose maps can be seen; `log`: its end, if it grew.

        Raises:
            FileNotFoundError: if the run folder is gone.
        """
        with self._lock:
            self._look()
            return self._news(cursor)

    def _news(self, cursor: str) -> dict[str, Any] | None:
        steps, epochs, log, recorded, known_status = self._read_cursor(cursor)
        new_steps = self._steps[steps : steps + POINTS_PER_ANSWER]
        new_epochs = self._epochs[epochs : epochs + POINTS_PER_ANSWER]
        status_mark = f"{self._state}/{self._status.get('updated')}"
        more = new_steps or new_epochs or log != self._log[0] or recorded != len(self._recorded)
        if cursor and not more and known_status == status_mark:
            return None
        position = (steps + len(new_steps), epochs + len(new_epochs), self._log[0], len(self._recorded))
        reset = not (steps or epochs)
        return {
            "cursor": "|".join(map(str, (self._generation, *position, status_mark))),
            "reset": reset,
            "steps": new_steps,
            "epochs": new_epochs,
            "state": self._state,
            "status": self._status,
            "recorded": self._recorded[0 if reset else recorded :],
            "log": self._log[1] if reset or log != self._log[0] else None,
        }

    # --- looking --------------------------------------------------------------------------------------------------

    def _read_cursor(self, cursor: str) -> tuple[int, int, int, int, str]:
        parts = cursor.split("|", 5)
        try:
            generation, steps, epochs, log, recorded = (int(part) for part in parts[:5])
        except ValueError:
            return 0, 0, -1, 0, ""
        if generation != self._generation or len(parts) < 6 or min(steps, epochs, recorded) < 0:
            return 0, 0, -1, 0, ""
        return steps, epochs, log, recorded, parts[5]

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < SHARED_LOOK_S:
            return
        self._answers.clear()
        self._status = self._read_status()
        self._state = shown_state(self.folder, self._status)
        self._read_metrics()
        self._log = _log_end(self.folder)
        recorded = recorded_epochs(self.folder)
        if recorded[: len(self._recorded)] != self._recorded:  # not those known and more: pages have to begin anew
            self._generation = time.time_ns()
        self._recorded = recorded
        self._looked = now

    def _read_status(self) -> dict[str, Any]:
        try:
            return shown_status(content.parse_json((self.folder / layout.STATUS).read_bytes()))
        except FileNotFoundError:
            if not self.folder.is_dir():
                raise
            return {}
        except (OSError, ValueError):
            return self._status

    def _read_metrics(self) -> None:
        """Parse what was appended. A file that was replaced or became shorter (a resumed run) is read anew."""
        try:
            with open(self.folder / layout.METRICS, "rb") as file:
                about = os.fstat(file.fileno())
                inode, position = self._metrics_file
                if about.st_ino != inode or about.st_size < position:
                    self._start_anew()
                    position = 0
                file.seek(position)
                new = file.read(BYTES_PER_LOOK)
        except FileNotFoundError:
            if self._metrics_file != (0, 0):
                self._start_anew()
                self._metrics_file = (0, 0)
            return
        except OSError:
            return  # not readable now; the points so far stay
        whole = new[: new.rfind(b"\n") + 1] or (new if len(new) == BYTES_PER_LOOK else b"")  # such a line is no line
        self._metrics_file = (about.st_ino, position + len(whole))
        for line in whole.splitlines():
            self._add(line)

    def _start_anew(self) -> None:
        self._generation = time.time_ns()
        self._steps, self._epochs = [], []

    def _add(self, line: bytes) -> None:
        try:
            entry = content.parse_json(line)
        except ValueError:
            return
        if not isinstance(entry, dict):
            return
        if entry.get("kind") == "step":
            values = {name: shown_number(entry.get(name)) for name in STEP_VALUES}
            self._steps.append({name: value for name, value in values.items() if value is not None})
        elif entry.get("kind") == "epoch":
            self._epochs.append(epoch_point(entry))


def epoch_point(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch's line of metrics.jsonl as a flat point: `test.top1`, `agreement.cam-learned.kl`, ...

    Agreement and localisation are those of the test images, in the names that the figures use.
    """
    point: dict[str, Any] = {name: shown_number(entry.get(name)) for name in ("epoch", "seconds")}
    for group in ("train", "validation", "test", "swapped"):
        point |= _flat(group, entry.get(group))
    attention = entry.get("attention")
    test = attention.get("test") if isinstance(attention, dict) else None
    for part in ("agreement", "localisation"):
        point |= _flat(part, test.get(part) if isinstance(test, dict) else None)
    return point


def _flat(prefix: str, value: Any, depth: int = 0) -> dict[str, float]:
    if isinstance(value, dict) and depth < DEEPEST_MEASURE:
        items = (_flat(f"{prefix}.{key}", item, depth + 1) for key, item in value.items())
        return {name: number for flat in items for name, number in flat.items()}
    number = shown_number(value)
    return {} if number is None else {sys.intern(prefix): number}  # every epoch has the same names


def recorded_epochs(folder: Path) -> list[int]:
    """The epochs whose maps are whole, rising; none where nothing is recorded yet."""
    try:
        return Run(folder).recorded_epochs.tolist()
    except RunError:
        return []


def _log_end(folder: Path) -> tuple[int, str]:
    """Size and last lines of the log; before there is one, of what the worker's process said."""
    for name in (layout.LOG, layout.WORKER_OUTPUT):
        try:
            with open(folder / name, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - LOG_BYTES))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            continue
        if size > LOG_BYTES:
            text = text[text.find("\n") + 1 :]
        if size:
            return size, text
    return 0, ""
