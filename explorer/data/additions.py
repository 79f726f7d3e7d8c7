"""Photographs that a person adds from the page: a zip becomes a folder of the first data root, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import threading
import time
from pathlib import Path

from explorer.places import Places
from sam_core.config import ConfigError
from sam_core.datasets.base import DatasetError, Progress
from sam_core.datasets.catalog import open_dataset

#: In a folder that was added from the page: what it was made from. Only a folder that has it can be deleted there.
MARKER = ".added-by-explorer.json"
#: Folders that are being made or removed are called so, and out of sight.
BEING_ADDED, BEING_REMOVED = ".adding-", ".removing-"
#: What a server left half-made, because it was ended, is removed when it is older than this.
STALE_S = 24 * 3600
LONGEST_NAME = 60
#: Names that Windows keeps for devices.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)


class Additions:
    """Adds and deletes datasets below the first data root. Safe to use from any thread."""

    def __init__(self, places: Places) -> None:
        self.root = places.data_roots[0]
        self._lock = threading.Lock()

    def add(self, archive: Path, filename: str, *, progress: Progress | None = None) -> Path:
        """Unpack a zip of photographs into a new folder that is named after it; returns the folder.

        Args:
            archive: the zip, wherever it was received.
            filename: what the person calls it.
            progress: told of unpacking.

        Raises:
            DatasetError: if it is no zip, not safe to unpack, or no dataset; nothing of it is left then.
        """
        from sam_core.datasets.zipped import unpack_photographs

        self._remove_stale()
        workplace = self.root / f"{BEING_ADDED}{secrets.token_hex(4)}"
        workplace.mkdir(parents=True)
        try:
            plain = Path(filename.replace("\\", "/")).name[:200]
            shown = plain or "the zip"
            try:
                unpacked = unpack_photographs(archive, workplace / "photographs", progress=progress)
                beginning = open_dataset(str(unpacked), data_root=self.root).root
            except DatasetError as error:
                # Where it was unpacked, and under which name it was received, means nothing to anybody.
                hidden = sorted({str(workplace / "photographs"), str(archive), archive.name}, key=len, reverse=True)
                message, hint = str(error), error.hint
                for text in hidden:
                    message, hint = message.replace(text, shown), hint.replace(text, shown)
                raise DatasetError(message, hint) from error
            marker = {"from": shown, "added": time.time()}
            (beginning / MARKER).write_text(json.dumps(marker), encoding="utf-8")
            with self._lock:
                folder = self._free_folder(plain)
                beginning.rename(folder)
            return folder
        finally:
            shutil.rmtree(workplace, ignore_errors=True)

    def delete(self, folder: Path) -> None:
        """Remove a dataset that was added from the page.

        Raises:
            ConfigError: for any other; or if the disk refuses.
        """
        if not self.is_own(folder):
            raise ConfigError(
                "dataset", f"{folder.name[:80]!r} was not added from this page, so it is not deleted here"
            )
        removed = self.root / f"{BEING_REMOVED}{secrets.token_hex(4)}"
        try:
            folder.rename(removed)
        except OSError as error:
            raise ConfigError("dataset", f"{folder.name} cannot be removed: {error.strerror or error}") from error
        shutil.rmtree(removed, ignore_errors=True)

    def is_own(self, folder: Path) -> bool:
        """Whether a folder was added from the page."""
        return folder.parent == self.root and not folder.is_symlink() and (folder / MARKER).is_file()

    def _free_folder(self, filename: str) -> Path:
        name = folder_name(filename)
        number, folder = 1, self.root / name
        while folder.exists():
            number += 1
            folder = self.root / f"{name}-{number}"
        return folder

    def _remove_stale(self) -> None:
        for path in (*self.root.glob(f"{BEING_ADDED}*"), *self.root.glob(f"{BEING_REMOVED}*")):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_S:
                    shutil.rmtree(path, ignore_errors=True)


def folder_name(filename: str) -> str:
    """A plain folder name after a file's: letters, digits, `-` and `_`, on any system and not among those kept back."""
    stem = Path(filename).stem if filename.lower().endswith(".zip") else filename
    plain = re.sub(r"[^\w-]+", "-", stem).strip("-_")[:LONGEST_NAME].strip("-_")
    # The program's own drawings have such names, and are passed over in the list.
    is_kept_back = _RESERVED.fullmatch(plain) or plain.startswith("fieldguide-")
    return f"photographs-{plain}" if is_kept_back else plain or "photographs"
