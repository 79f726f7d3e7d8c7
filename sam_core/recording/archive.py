"""A run travels as one zip: packed with the pictures that its maps lie on, unpacked after every check.

An archive comes from a stranger: nothing of it is written before all of it has been found to be a run (`checks`). And
it goes to strangers: what names places on this machine (paths, host, process) stays here.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO

from PIL import Image

from sam_core.config import DATASETS, PROJECT_ROOT
from sam_core.recording import layout
from sam_core.recording.checks import RUN_FILE, RUN_ID, check_content, check_names, checked, parse_json, refusal
from sam_core.recording.content import META, as_object, as_samples
from sam_core.recording.reader import Run
from sam_core.recording.views import Allowed, PictureError, view_mask, view_picture
from sam_core.recording.writer import RunError
from sam_core.zips import DAMAGE, KEPT_FREE, copy_exactly, megabytes

MAX_BYTES = 20 * 1024**3
MAX_FILES = 200_000
#: What a process was unpacking or making, and has not touched for so long, is left over from one that was killed.
ABANDONED_S = 24 * 3600
VIEW_SIDE = 336
JPEG_QUALITY = 88

#: What stays where the run was made: its lock, what only resuming needs, what the worker's process said.
STAYS_BEHIND = (layout.LOCK, layout.LAST, layout.WORKER_OUTPUT)
#: The choices that are the path of something unless they are one of these words.
_PLACE_CHOICES = {"dataset": DATASETS, "weights": ("imagenet", "none"), "data_root": ()}
#: One folder of a path in a text, and the beginning of an absolute one.
_FOLDER = r"""[^\s/\\:;,'"()]+[/\\]"""
_ROOT = rf"(?:[A-Za-z]:)?[/\\]{{1,2}}{_FOLDER}"


# --- Packing ------------------------------------------------------------------------------------------------------


def pack_run(
    run: Run,
    target: Path | BinaryIO,
    *,
    allowed: Allowed | None = None,
    view_side: int = VIEW_SIDE,
    weights: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write a run as one zip, with a picture of every recorded sample, so that it can be looked at anywhere.

    What only resuming needs is left out. Paths of this machine are reduced to their last name, or to the sample's id.

    Args:
        run: a run that is not being trained.
        target: a file's path, replaced once the zip is whole, or a file open for writing (it need not seek).
        allowed: whether a photograph may be read; left out, every one may.
        view_side: the long side of the pictures in pixels.
        weights: whether the trained weights travel too.
        progress: called with how many files and samples are done, and how many there are.

    Returns:
        A sentence for everything that could not be packed, such as a photograph that is gone.

    Raises:
        RunError: if the run is being trained, is damaged, or the zip cannot be written.
    """
    if run.is_alive:
        raise RunError(f"run {run.id} is being trained", "wait for it to end, or stop it first")
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(layout.replacing(Path(target))) if isinstance(target, str | Path) else target
            archive = stack.enter_context(zipfile.ZipFile(file, "w", strict_timestamps=False))
            packer = _Packer(run, archive, allowed=allowed, view_side=view_side, weights=weights)
            packer.pack(progress or (lambda done, total: None))
            return packer.skipped
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"run {run.id} cannot be packed: {reason}", "see that the disk has space") from error


class _Packer:
    """One run on its way into one zip. `skipped` says what could not come along."""

    def __init__(
        self, run: Run, archive: zipfile.ZipFile, *, allowed: Allowed | None, view_side: int, weights: bool
    ) -> None:
        self.run = run
        self.archive = archive
        self.allowed = allowed
        self.view_side = view_side
        self.skipped: list[str] = []
        self.top = run.id if RUN_ID.fullmatch(run.id) else _plain_id(run.id)
        self.files = self._find_files(weights)
        self.samples = (
            checked(as_samples, self._json(layout.SAMPLES), layout.SAMPLES) if layout.SAMPLES in self.files else []
        )
        self.path_in_text = self._path_pattern()
        self.changes: dict[str, Callable[[Any], Any]] = {
            layout.CONFIG: config_elsewhere,
            layout.STATUS: lambda status: self._without_places(status_elsewhere(status)),
            layout.SAMPLES: samples_elsewhere,
            layout.EVALUATION: self._without_places,
        }

    def pack(self, progress: Callable[[int, int], None]) -> None:
        """Write every file of the run folder that travels, then a picture and a mask of every sample."""
        total = len(self.files) + len(self.samples)
        for done, name in enumerate(sorted(self.files), start=1):
            self._write_file(name)
            progress(done, total)
        for done, sample in enumerate(self.samples, start=1):
            self._write_views(done - 1, sample["id"])
            progress(len(self.files) + done, total)

    def _find_files(self, weights: bool) -> set[str]:
        """The names of the files that travel, as they are or changed."""
        found = set()
        left_out = () if weights else (layout.MODEL, f"{layout.KEPT}/")
        for parent, folders, names in os.walk(self.run.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for path in (Path(parent, name) for name in names if not name.startswith(".")):
                name = path.relative_to(self.run.folder).as_posix()
                if name in STAYS_BEHIND or name.startswith(left_out):
                    continue
                # A link could lead to any file of this machine.
                if RUN_FILE.fullmatch(name) and path.is_file() and not path.is_symlink():
                    found.add(name)
                else:
                    self.skipped.append(f"{name} stays behind: it is no part of a recorded run")
        if META in found:
            return found
        return {name for name in found if not name.startswith(f"{layout.ATTENTION}/")}  # cut while it was being made

    def _path_pattern(self) -> re.Pattern[str]:
        """Matches the folders of an absolute path within a text: `/home/ada/photos` up to `photos`."""
        config = checked(as_object, self._json(layout.CONFIG), layout.CONFIG)
        named = [str(config.get(choice)) for choice, words in _PLACE_CHOICES.items() if config.get(choice) not in words]
        folders = {
            PROJECT_ROOT,
            self.run.folder.parent,
            Path(os.path.expanduser("~")),
            *(Path(place).parent for place in named),
        }
        # Those of this run are known, so their names may have spaces in them; the longest first.
        known = sorted({str(folder) for folder in folders if len(folder.parts) > 1}, key=len, reverse=True)
        begin = "|".join([*(re.escape(place) + r"[/\\]" for place in known), _ROOT])
        return re.compile(rf"(?<![\w.~:/\\])(?:{begin})(?:{_FOLDER})*")

    def _write_file(self, name: str) -> None:
        path, inside = self.run.folder / name, f"{self.top}/{name}"
        if name in self.changes:
            value = self.changes[name](self._json(name))
            self.archive.writestr(inside, layout.dump_json(value, indent=2), zipfile.ZIP_DEFLATED)
        elif name == layout.LOG:
            entry = zipfile.ZipInfo.from_file(path, inside, strict_timestamps=False)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with open(path, encoding="utf-8", errors="replace") as lines, self.archive.open(entry, "w") as packed:
                packed.writelines(self._without_places(line).encode() for line in lines)
        else:
            # Arrays get smaller; weights and pictures hardly do.
            stored = name.endswith((".safetensors", ".jpg", ".png"))
            self.archive.write(path, inside, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)

    def _write_views(self, row: int, sample_id: str) -> None:
        """The picture and the mask of one sample, unless the run folder carries them already."""
        for place, read, encode in ((layout.view_file, view_picture, _jpeg), (layout.mask_file, view_mask, _png)):
            name = place(Path(), row).as_posix()
            if name in self.files:
                continue
            try:
                picture = read(self.run, row, side=self.view_side, allowed=self.allowed)
            except PictureError as error:
                self.skipped.append(f"{sample_id}: {error}")
                return
            if picture is not None:
                self.archive.writestr(f"{self.top}/{name}", encode(picture), zipfile.ZIP_STORED)

    def _json(self, name: str) -> Any:
        return parse_json((self.run.folder / name).read_bytes(), name)

    def _without_places(self, value: Any) -> Any:
        """A text with every absolute path in it reduced to its last name; the texts of any JSON value."""
        if isinstance(value, str):
            return self.path_in_text.sub("", value)
        if isinstance(value, Mapping):
            return {key: self._without_places(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._without_places(item) for item in value]
        return value


def _jpeg(picture: Image.Image) -> bytes:
    picture.info.clear()  # what a camera wrote into its photograph is nobody else's business
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _png(mask: Image.Image) -> bytes:
    file = io.BytesIO()
    mask.save(file, "PNG", optimize=True)
    return file.getvalue()


def _plain_id(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:150] or "run"


# --- The same run on another machine ------------------------------------------------------------------------------


def config_elsewhere(config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json without the folders of the machine it was written on."""
    changed = dict(config)
    for choice, words in _PLACE_CHOICES.items():
        value = changed.get(choice)
        if isinstance(value, str) and value not in words:
            last = PureWindowsPath(value).name  # takes either slash for one
            # A folder called `fieldguide` is not the dataset of that name.
            changed[choice] = f"./{last}" if last in words else last
    return changed


def status_elsewhere(status: Any) -> dict[str, Any]:
    """status.json of a run that no process here has anything to do with."""
    return {**checked(as_object, status, layout.STATUS), "pid": 0, "host": ""}


def samples_elsewhere(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """samples.json with each path replaced by the sample's id, and each mask's by its last name."""
    return [
        {**sample, "path": sample["id"], "mask": PureWindowsPath(sample.get("mask") or "").name or None}
        for sample in samples
    ]


# --- Unpacking ----------------------------------------------------------------------------------------------------


def unpack_run(source: Path | BinaryIO, runs: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> str:
    """Check a zip that `pack_run` may have written, and unpack it under `runs`.

    Everything is checked before anything is written: names, sizes, JSON, the headers of all arrays. The run appears
    whole or not at all. A run that had not finished is `stopped` here.

    Args:
        source: the zip's path, or a file open for reading.
        runs: where run folders are kept.
        max_bytes: how large a run may be when unpacked.
        max_files: how many files it may have.

    Returns:
        The run's id: as in the zip, or with `-2`, `-3`, ... where that is taken.

    Raises:
        RunError: if the zip is not that of a run, is damaged or too large, or cannot be written here.
    """
    with _archive_errors(), zipfile.ZipFile(source) as archive:
        run_id, entries = check_names(archive.infolist(), max_files)
        size = sum(info.file_size for info in entries.values())
        if size > max_bytes:
            raise RunError(
                f"the run has {megabytes(size)} when unpacked, the limit is {megabytes(max_bytes)}",
                "pack it without its weights, or copy the run folder by other means",
            )
        values = check_content(archive, entries)
        runs.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(runs)
        if size + KEPT_FREE > shutil.disk_usage(runs).free:
            raise RunError(f"the disk has no room for the {megabytes(size)} of the run", "make space and try again")
        temporary = runs / f".{run_id}.{secrets.token_hex(4)}.tmp"
        try:
            _write_entries(archive, entries, _changed_here(values), temporary)
            return _move_in(temporary, runs, run_id)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _archive_errors() -> Iterator[None]:
    """Whatever reading a stranger's zip raises becomes a `RunError`."""
    try:
        yield
    except RunError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(
            f"the run cannot be unpacked: {reason}", "see that the file is there and the disk has space"
        ) from error
    except DAMAGE as error:
        raise RunError(f"the file is no zip archive, or a damaged one: {error}", "pack or upload it again") from error


def _changed_here(values: Mapping[str, Any]) -> dict[str, Any]:
    """The files that are not written as they came, by name: a stranger's paths and process mean nothing here."""
    status = status_elsewhere(values[layout.STATUS])
    if status.get("state") != "finished":
        status |= {"state": "stopped", "eta_s": None}
    changed = {layout.CONFIG: config_elsewhere(values[layout.CONFIG]), layout.STATUS: status}
    if layout.SAMPLES in values:
        changed[layout.SAMPLES] = samples_elsewhere(values[layout.SAMPLES])
    return changed


def _write_entries(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], changed: Mapping[str, Any], folder: Path
) -> None:
    """Write every file of a checked archive into a new folder."""
    for name, info in entries.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in changed:
            layout.write_json(path, changed[name], durable=False)
            continue
        with archive.open(info) as packed, open(path, "xb") as file:
            is_whole = copy_exactly(packed, file, info.file_size)
        if not is_whole:
            raise refusal(info.orig_filename, "has another size than it declares")


def _remove_abandoned(runs: Path) -> None:
    """Remove what killed processes left half made, which can be as large as a run."""
    for path in runs.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink() and time.time() - path.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)


def _move_in(temporary: Path, runs: Path, run_id: str) -> str:
    """Give the unpacked folder the run's id, or the first with a number that is free."""
    free_id, number = run_id, 1
    while os.path.lexists(runs / free_id):
        number += 1
        free_id = f"{run_id}-{number}"
    temporary.rename(runs / free_id)
    return free_id
