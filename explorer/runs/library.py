"""The list of runs: a summary of every run folder, kept up to date at the price of a few file dates.

A page asks again and again; what it is told is only what changed since it last asked. Finished runs are looked at
rarely, live ones at every look, and all viewers share one look.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explorer.files import modified
from explorer.places import Places
from explorer.runs.states import LIVE_STATES, read_object, shown_number, shown_state, shown_status, shown_text
from sam_core.recording import content, layout
from sam_core.recording.notes import read_notes

#: Seconds between two looks at live runs, and between two looks at the others.
LOOK_EVERY_S = 0.4
LOOK_AT_ALL_EVERY_S = 4.0
#: Enough of the end of metrics.jsonl to hold the last epoch's line.
TAIL_BYTES = 16_384

#: What of a run's configuration its summary shows.
SHOWN_CHOICES = (
    "dataset", "method", "pseudo", "pooling", "label_ratio", "num_classes", "backbone", "epochs", "iterations", "seed",
    "split_seed",
)  # fmt: skip


@dataclass
class _Entry:
    folder: Path
    dates: tuple[int, ...] = ()
    version: int = 0
    choices: Mapping[str, Any] = field(default_factory=dict)
    default_name: str = ""
    summary: dict[str, Any] = field(default_factory=dict)


class Library:
    """All runs that this server knows, with a version that grows whenever one of them changes."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._entries: dict[str, _Entry] = {}
        self._removed: list[tuple[int, str]] = []
        # A restarted server must not be taken for the one before: versions begin at the time.
        self._version = int(time.time() * 1000)
        self._lock = threading.Lock()
        self._looked = self._looked_at_all = float("-inf")
        self._answers: tuple[int, dict[int, bytes]] = (0, {})  # of one version, by the version that a page knows

    def changes_json(self, version: int) -> bytes | None:
        """As `changes_since`, in JSON; made once for all pages that know the same version."""
        changes = self.changes_since(version)
        if changes is None:
            return None
        with self._lock:
            if self._answers[0] != changes["version"]:
                self._answers = (changes["version"], {})
            answers = self._answers[1]
            if version not in answers:
                answers[version] = layout.dump_json(changes).encode()
            return answers[version]

    def changes_since(self, version: int) -> dict[str, Any] | None:
        """What changed after `version` (0: everything), or None.

        Returns:
            `version`, `runs` (summaries), `removed` (ids), and `whole`: whether the list replaces what was known.
        """
        with self._lock:
            self._look()
            if version == self._version:
                return None
            oldest = self._removed[0][0] if self._removed else 0
            whole = version <= 0 or version > self._version or version < oldest - 1
            return {
                "version": self._version,
                "whole": whole,
                "runs": [entry.summary for entry in self._entries.values() if whole or entry.version > version],
                "removed": [] if whole else [run_id for at, run_id in self._removed if at > version],
            }

    def summaries(self) -> list[dict[str, Any]]:
        """Every run, newest first."""
        with self._lock:
            self._look()
            return sorted((entry.summary for entry in self._entries.values()), key=lambda run: run["id"], reverse=True)

    def summary(self, run_id: str) -> dict[str, Any] | None:
        """One run as the list has it."""
        with self._lock:
            self._look()
            entry = self._entries.get(run_id)
            return entry.summary if entry else None

    def look_again(self) -> None:
        """Look at everything the next time somebody asks: something was just changed here."""
        with self._lock:
            self._looked = self._looked_at_all = float("-inf")

    # --- looking --------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        at_all = now - self._looked_at_all >= LOOK_AT_ALL_EVERY_S
        if at_all:
            self._looked_at_all = now
            self._find_folders()
        for entry in list(self._entries.values()):
            if at_all or entry.summary["state"] in LIVE_STATES:
                self._refresh(entry)

    def _find_folders(self) -> None:
        found = dict(self._folders())
        for run_id in [run_id for run_id in self._entries if run_id not in found]:
            self._forget(run_id)
        for run_id, folder in found.items():
            if run_id not in self._entries:
                self._entries[run_id] = _Entry(folder, summary={"state": "queued"})

    def _folders(self) -> Iterator[tuple[str, Path]]:
        for parent in (self._places.demo, self._places.runs):
            try:
                with os.scandir(parent) as entries:
                    names = [entry.name for entry in entries if entry.name[0] != "." and entry.is_dir()]
            except OSError:
                continue  # not made yet
            for name in names:
                if name in self._entries or (parent / name / layout.CONFIG).is_file():
                    yield name, parent / name

    def _forget(self, run_id: str) -> None:
        self._version += 1
        del self._entries[run_id]
        self._removed = [*self._removed[-999:], (self._version, run_id)]

    def _refresh(self, entry: _Entry) -> None:
        """Read a run again if its files are newer than its summary; a folder that is gone is forgotten."""
        dates = (
            modified(entry.folder / layout.STATUS),
            modified(entry.folder / layout.NOTES),
            modified(entry.folder / layout.METRICS),
        )
        live = entry.summary["state"] in LIVE_STATES
        if dates == entry.dates and not live:
            return
        try:
            if dates != entry.dates or not entry.version:
                summary = self._summarise(entry)
            else:  # nothing was written; but the process may be gone
                status = read_object(entry.folder / layout.STATUS)
                summary = entry.summary | {"state": shown_state(entry.folder, status)}
        except FileNotFoundError:
            if not entry.folder.is_dir():
                self._forget(entry.folder.name)
            return
        entry.dates = dates
        if summary != entry.summary:
            self._version += 1
            entry.summary, entry.version = summary, self._version

    def _summarise(self, entry: _Entry) -> dict[str, Any]:
        if not entry.choices:
            config = read_object(entry.folder / layout.CONFIG)
            entry.choices = {name: _shown_choice(config.get(name)) for name in SHOWN_CHOICES}
            entry.choices["dataset"] = Path(shown_text(config.get("dataset")) or "").name
            entry.default_name = shown_text(config.get("name")) or ""
        status = read_object(entry.folder / layout.STATUS)
        shown = shown_status(status)
        notes = read_notes(entry.folder, entry.default_name)
        return {
            "id": entry.folder.name,
            "name": notes.name,
            "notes": notes.notes,
            "demo": self._places.is_demo(entry.folder),
            "state": shown_state(entry.folder, status),
            "choices": entry.choices,
            **{name: shown[name] for name in ("epoch", "epochs", "step", "steps", "eta_s", "updated", "error")},
            "accuracy": _last_accuracy(entry.folder / layout.METRICS),
        }


def _shown_choice(value: Any) -> str | int | float | None:
    """A choice of a configuration that anyone may have written."""
    return shown_number(value) if shown_text(value) is None else shown_text(value)


def _last_accuracy(path: Path) -> float | None:
    """Test top-1 (percent) of the last evaluated epoch."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        if b'"test"' in line:
            try:
                return shown_number(content.parse_json(line)["test"]["top1"])
            except (ValueError, KeyError, TypeError):
                continue  # the first line may be cut, the last one is being written
    return None
