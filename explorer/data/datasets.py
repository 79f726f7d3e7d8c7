"""The datasets that a person can choose: those with a name, and the folders and zips of photographs under the data
roots.

Which there are is seen from names alone. How many classes and images they have takes reading them, which is done in a
thread, one after the other, and not again before their files change.
"""

from __future__ import annotations

import logging
import os
import shlex
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explorer.data.additions import Additions
from explorer.data.shelf import Selection, Shelf
from explorer.places import Places
from sam_core.datasets.base import Dataset, DatasetError
from sam_core.datasets.catalog import DATASETS, recognise
from sam_core.datasets.fieldguide import planned_fieldguide
from sam_core.datasets.images import is_image_name

#: The data roots are looked through anew when somebody asks after so long.
LISTING_LIVES_S = 10.0
#: A data root with more folders than this is no place to look for datasets by itself.
MAX_FOLDERS = 200
#: Folders that somebody named by their path, deeper than the list looks, are remembered; so many of them.
MAX_REMEMBERED = 20
#: What a page or a form waits for before it goes on with what is known so far.
PATIENCE_S = 0.5

_log = logging.getLogger("explorer")


@dataclass
class _Candidate:
    """Something that may be a dataset, and what is known of it.

    `state` is `unread`, `ready`, `refused`, `closed` (a zip that nobody has opened yet), or `outside`: a link that
    leads out of the data roots, and is not followed.
    """

    name: str
    label: str
    description: str
    state: str = "unread"
    files: str = ""
    found: dict[str, Any] = field(default_factory=dict)


class Datasets:
    """The list of datasets, shared by all pages. Safe to use from any thread."""

    def __init__(self, places: Places, shelf: Shelf, additions: Additions) -> None:
        self._places, self._shelf, self._additions = places, shelf, additions
        self._lock = threading.Lock()
        self._candidates: dict[str, _Candidate] = {}
        self._remembered: list[str] = []
        self._looked = float("-inf")
        self._reader: threading.Thread | None = None
        self._asked_again = False

    def rows(self, *, wait_s: float | None = PATIENCE_S) -> list[dict[str, Any]]:
        """Every dataset and what is known of it after `wait_s` seconds (None: when all is); the rest is being read.

        Returns:
            `name`, `key` (what a link names it by), `label`, `description`, `state` (unread, ready, refused, closed),
            `place` (its folder), `added` (whether it came through the page), and of those that are ready `layout`,
            `classes` and `images` by split, of those refused `message`, `hint` and `holds_images`.
        """
        with self._lock:
            if time.monotonic() - self._looked > LISTING_LIVES_S:
                self._looked = time.monotonic()
                self._find()
                self._begin_reading()
            reader = self._reader
        if reader is not None:
            reader.join(timeout=wait_s)
        with self._lock:
            return [self._row(candidate) for candidate in self._candidates.values()]

    def usable(self) -> list[dict[str, Any]]:
        """The datasets that a run can be started on, as `rows`; waits until all of them are read."""
        return [row for row in self.rows(wait_s=None) if row["state"] == "ready"]

    def choices(self, *, wait_s: float = PATIENCE_S) -> list[tuple[str, str]]:
        """What a dropdown offers: (words, value). A dataset that is still being read is offered too."""
        offered = [row for row in self.rows(wait_s=wait_s) if row["state"] in ("ready", "unread")]
        return [
            (f"{row['label']} ({row['classes']} classes)" if "classes" in row else row["label"], row["name"])
            for row in offered
        ]

    def absent(self) -> list[dict[str, str]]:
        """The named datasets that are under no data root, each with the command that fetches it."""
        root = shlex.quote(str(self._places.data_roots[0]))
        return [
            {"name": name, "label": info.label, "description": info.description,
             "command": f"python -m sam_core data get {name} --root {root}"}
            for name, info in DATASETS.items()
            if info.folders and self._places.named_folder(name) is None
        ]  # fmt: skip

    def remember(self, name: str) -> None:
        """List a folder or zip that somebody named by its path, from now on and until the server ends."""
        with self._lock:
            if name not in DATASETS and name not in self._candidates:
                self._remembered = [*self._remembered[1 - MAX_REMEMBERED :], name]
        self.look_again()

    def look_again(self) -> None:
        """Look at the folders the next time somebody asks: something was just changed here."""
        with self._lock:
            self._looked = float("-inf")

    # --- finding --------------------------------------------------------------------------------------------------

    def _find(self) -> None:
        """See what there is; what was known of it stays."""
        candidates = {}
        for found in (*self._named(), *self._others()):
            candidates.setdefault(found.name, self._candidates.get(found.name, found))
        self._candidates = candidates

    def _named(self) -> Iterator[_Candidate]:
        for name, info in DATASETS.items():
            if name == "fieldguide" or self._places.named_folder(name) is not None:
                yield _Candidate(name, info.label, info.description)

    def _others(self) -> Iterator[_Candidate]:
        named = {self._places.named_folder(name) for name in DATASETS if DATASETS[name].folders}
        for path in (*(path for root in self._places.data_roots for path in _within(root)), *self._remembered_paths()):
            if path in named:
                continue
            name = str(path.resolve())
            if not self._places.may_read(path):
                message, hint = f"it is a link to {name}, which is not below a data root", f"add --data-root {name}"
                found = {"message": message, "hint": hint, "holds_images": True}
                yield _Candidate(name, path.name, "a link", state="outside", found=found)
            elif path.suffix.lower() == ".zip":
                yield _Candidate(name, path.name, "a zip of photographs", state="closed")
            else:
                yield _Candidate(name, path.name, "a folder of photographs")

    def _remembered_paths(self) -> Iterable[Path]:
        return [path for path in map(Path, self._remembered) if path.exists()]

    # --- reading --------------------------------------------------------------------------------------------------

    def _begin_reading(self) -> None:
        if self._reader is not None and self._reader.is_alive():
            self._asked_again = True
            return
        self._reader = threading.Thread(target=self._read_all, name="reading datasets", daemon=True)
        self._reader.start()

    def _read_all(self) -> None:
        while True:
            with self._lock:
                self._asked_again = False
                waiting = list(self._candidates.values())
            for candidate in waiting:
                self._read(candidate)
            with self._lock:
                if not self._asked_again:
                    self._reader = None
                    return

    def _read(self, candidate: _Candidate) -> None:
        """Find out how many classes and images a dataset has, unless its files are as they were."""
        if candidate.state == "outside" or (candidate.state == "closed" and not self._shelf.has(candidate.name)):
            return
        files = "planned" if candidate.name == "fieldguide" else self._shelf.state(candidate.name)
        if candidate.files == files:
            return
        try:
            if candidate.name == "fieldguide":
                dataset = planned_fieldguide()  # known without a file, and before it is drawn
            else:
                dataset = self._shelf.open(Selection(candidate.name)).dataset
        except DatasetError as error:
            # In a list that has its name already, the path would only be in the way.
            message = str(error).removeprefix("dataset: ").replace(candidate.name, candidate.label)
            state, found = "refused", {"message": message, "hint": error.hint}
        except Exception as error:  # one dataset that is broken in a new way must not hide the others
            _log.exception("reading %s", candidate.name)
            state, found = "refused", {"message": f"it cannot be read ({type(error).__name__}: {error})", "hint": ""}
        else:
            state, found = "ready", _counts(dataset)
        if state == "refused":
            found["holds_images"] = _holds_images(candidate.name)
        with self._lock:
            candidate.state, candidate.found, candidate.files = state, found, files

    def _row(self, candidate: _Candidate) -> dict[str, Any]:
        place = self._places.named_folder(candidate.name) or Path(candidate.name)
        return {
            "name": candidate.name,
            "key": self._places.short_name(candidate.name),
            "label": candidate.label,
            "description": candidate.description,
            "state": "refused" if candidate.state == "outside" else candidate.state,
            "place": "" if candidate.name == "fieldguide" else str(place),
            "added": self._additions.is_own(place),
            **candidate.found,
        }


def _counts(dataset: Dataset) -> dict[str, Any]:
    layout = "drawn by the program" if dataset.name == "fieldguide" else dataset.layout
    images = {split: len(dataset.split(split)) for split in dataset.splits}
    return {"layout": layout, "classes": len(dataset.classes), "images": images}


def _within(root: Path) -> list[Path]:
    """What may be a dataset in a data root: the folders and zips directly below it, or the root itself."""
    try:
        below = [path for path in sorted(root.iterdir()) if not path.name.startswith((".", "fieldguide-", "_"))]
    except OSError:
        return []
    folders = [path for path in below if path.is_dir()][:MAX_FOLDERS]
    zips = [path for path in below if path.suffix.lower() == ".zip" and path.is_file()][:MAX_FOLDERS]
    return [root, *zips] if _is_dataset(root, folders) else [*folders, *zips]


def _is_dataset(root: Path, folders: list[Path]) -> bool:
    """Whether a data root is itself one dataset, so that there are none below it."""
    try:
        layout, place = recognise(root)
    except DatasetError:
        return False  # several are below it
    if layout != "folder":
        return place == root
    are_classes = len(folders) > 1 and all(_has_image(folder) for folder in folders)
    return are_classes or any(folder.name == "train" for folder in folders)


def _has_image(folder: Path) -> bool:
    """Whether there is an image directly in a folder."""
    try:
        with os.scandir(folder) as entries:
            return any(is_image_name(Path(entry.name)) for entry in entries)
    except OSError:
        return False


def _holds_images(name: str) -> bool:
    """Whether there is an image anywhere in a folder: if not, nobody took it for a dataset."""
    return any(is_image_name(Path(file)) for _, _, files in os.walk(name) for file in files)
