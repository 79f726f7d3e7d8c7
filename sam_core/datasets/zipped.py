"""A dataset that comes as one zip: unpacked after every check, whole or not at all, and the same zip only once.

A zip may come from a stranger. Its names must stay below the folder, its size is bounded and must fit on the disk, and
of its files only photographs and lists (`.txt`, `.mat`) are unpacked.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import os
import re
import shutil
import tempfile
import time
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from sam_core.datasets.base import DatasetError, Problem, Progress
from sam_core.datasets.images import SUFFIXES
from sam_core.datasets.listing import MAX_LIST_BYTES, read_lines, shown
from sam_core.zips import (
    DAMAGE,
    KEPT_FREE,
    copy_exactly,
    is_encrypted,
    is_link_or_device,
    is_unusually_packed,
    megabytes,
)

MAX_ENTRIES = 200_000
MAX_BYTES = 100 * 1024**3
#: Photographs hardly get smaller in a zip. One that unpacks to more than so many times its size is made to fill the
#: disk; drawings and lists may do the same, so up to `RATIO_FREE_BYTES` nobody asks.
MAX_RATIO = 100
RATIO_FREE_BYTES = 256 * 1024**2
#: When the room on the disk is measured, every file counts in whole blocks.
BLOCK = 4096
LIST_SUFFIXES = (".txt", ".mat")
#: Below a data root: where `unpack_once` keeps what it unpacked.
UNPACKED = ".unpacked"
#: In an unpacked folder: how many files were left in the zip, and how their names end.
LEFT_OUT = ".left-in-zip.txt"

#: How much of a zip is looked at at once while its entries are counted.
READ_BYTES = 1 << 22
_MAX_DEPTH = 32
_STALE_SECONDS = 24 * 3600
#: How each entry of a zip's directory begins.
_ENTRY_MARK = b"PK\x01\x02"


class _FolderExistsError(Exception):
    """The folder to unpack into is there already."""


def unpack_once(archive: Path, data_root: Path, *, progress: Progress | None = None) -> Path:
    """Unpack a zip below a data root, unless one with the same content is there already.

    Any number of processes may do so at once: the first to finish wins, and the others use what it unpacked.

    Args:
        archive: the zip.
        data_root: it is unpacked into `data_root/.unpacked/NAME-DIGEST/NAME`.
        progress: told how many files are unpacked, and of how many.

    Returns:
        The folder where the dataset begins: where a single folder holds everything, that folder.

    Raises:
        DatasetError: as `unpack_photographs`.
    """
    with _archive_errors(archive):
        facts = archive.stat()
        digest = _digest(archive, facts.st_size, facts.st_mtime_ns)
    unpacked = Path(data_root).expanduser().resolve() / UNPACKED
    folders = (path for path in unpacked.glob(f"*-{digest}/*") if path.is_dir() and not path.name.startswith("."))
    if folder := next(folders, None):
        return _beginning(folder)
    name = re.sub(r"[^\w.-]+", "-", archive.stem).strip("-._")[:60] or "photographs"
    folder = unpacked / f"{name}-{digest}" / name
    try:
        _unpack(archive, folder, progress)
    except _FolderExistsError:
        pass  # another process was faster
    finally:
        with contextlib.suppress(OSError):  # holds the dataset, unless unpacking failed
            folder.parent.rmdir()
    return _beginning(folder)


@functools.lru_cache(maxsize=64)  # a page asks after the same zip again and again
def _digest(archive: Path, size: int, modified_ns: int) -> str:
    """Of a file's content; the size and time of its last change only tell it from an earlier one."""
    with open(archive, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def unpack_photographs(archive: Path, folder: Path, *, progress: Progress | None = None) -> Path:
    """Check a zip, and unpack its photographs and lists into a new folder, which appears whole or not at all.

    Everything is checked before anything is written. What the system adds (`__MACOSX`, names with a leading dot) is
    passed over; what else is no photograph or list is counted, and reported by `left_in_zip`.

    Args:
        archive: the zip.
        folder: where to; it must not exist.
        progress: told how many files are unpacked, and of how many.

    Returns:
        The folder where the dataset begins: `folder`, or below it where a single folder holds everything.

    Raises:
        DatasetError: if the folder exists, or the zip is damaged, encrypted, too large, holds no photograph, or has a
            name that leads out of the folder, a link, or two files of one name.
    """
    folder = Path(folder).expanduser().resolve()
    try:
        _unpack(archive, folder, progress)
    except _FolderExistsError:
        raise DatasetError(f"dataset: {folder} exists already", "choose another name, or move it away") from None
    return _beginning(folder)


def left_in_zip(folder: Path) -> tuple[Problem, ...]:
    """What was not unpacked into a folder because it is no photograph; nothing for any other folder."""
    if not (folder / LEFT_OUT).is_file():
        return ()
    rows = (line.partition(" ") for _, line in read_lines(folder / LEFT_OUT))
    detail = "files of this kind were left in the zip: they are no photographs that can be read, and no lists"
    return tuple(Problem("left in the zip", f"*{suffix}", f"{count} {detail}") for count, _, suffix in rows)


def _unpack(archive: Path, folder: Path, progress: Progress | None) -> None:
    """As `unpack_photographs`.

    Raises:
        _FolderExistsError: if the folder exists, now or once everything is unpacked.
    """
    if folder.exists():
        raise _FolderExistsError(folder)
    with _archive_errors(archive):
        _refuse_too_many(archive)
        with zipfile.ZipFile(archive) as opened:
            entries, left_out = _check(archive, opened)
            _refuse_without_room(archive, entries, folder)
            folder.parent.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".unpacking", dir=folder.parent))
            try:
                draft.chmod(0o755)  # a temporary folder is the maker's alone; the dataset may be shared
                _write(opened, entries, draft, progress or (lambda done, total: None))
                if left_out:
                    lines = "".join(f"{count} {suffix}\n" for suffix, count in left_out.most_common(100))
                    (_beginning(draft) / LEFT_OUT).write_text(lines, encoding="utf-8")
                _put_in_place(draft, folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)


def _beginning(folder: Path) -> Path:
    """Where the dataset in a folder begins: below single folders, down to a known layout or to folders of classes."""
    for _ in range(_MAX_DEPTH):
        inner = _only_folder(folder)
        # What is in train/, or in the only folder of photographs, loses its meaning without that folder's name.
        if inner is None or inner.name in ("train", "test") or not any(path.is_dir() for path in inner.iterdir()):
            break
        if _is_known(folder):
            break
        folder = inner
    return folder


def _is_known(folder: Path) -> bool:
    """Whether a folder is one of the known layouts, or has some directly below it."""
    from sam_core.datasets.catalog import LAYOUTS, recognise  # which itself unpacks zips

    try:
        return recognise(folder)[0] != LAYOUTS[-1]
    except DatasetError:
        return True  # there are several


def _only_folder(folder: Path) -> Path | None:
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else None


# --- Checks -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _archive_errors(archive: Path) -> Iterator[None]:
    """Whatever reading a stranger's zip raises becomes a `DatasetError`."""
    try:
        yield
    except DatasetError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise DatasetError(
            f"dataset: {archive} cannot be unpacked: {reason}", "see that it is there and the disk has space"
        ) from error
    except DAMAGE as error:
        raise DatasetError(
            f"dataset: {archive} is no zip archive, or a damaged one: {error}", "pack or fetch it again"
        ) from error


def _refuse(archive: Path, reason: str, hint: str = "") -> DatasetError:
    return DatasetError(f"dataset: {archive} {reason}", hint or "pack the photographs again, as plain files in folders")


def _refuse_too_many(archive: Path) -> None:
    """Count the entries without parsing them: a few megabytes could hold millions."""
    count, end = 0, b""
    with open(archive, "rb") as file:
        while block := file.read(READ_BYTES):
            block = end + block  # a mark may lie across two blocks
            count += block.count(_ENTRY_MARK)
            end = block[-len(_ENTRY_MARK) + 1 :]
            if count > MAX_ENTRIES:
                raise _refuse(archive, f"holds more than {MAX_ENTRIES:,} files", "split it into several datasets")


def _check(archive: Path, opened: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], Counter[str]]:
    """Check every entry.

    Returns:
        The entries to unpack by their paths, and how many others there are by the end of their name.
    """
    entries: dict[str, zipfile.ZipInfo] = {}
    left_out: Counter[str] = Counter()
    seen: dict[str, str] = {}
    for info in opened.infolist():
        path = _plain_path(archive, info)
        if path is None:
            continue
        if not _is_wanted(path, info):
            left_out[path.suffix.lower()[:20] or " files without an ending"] += 1
            continue
        _check_packing(archive, info)
        # What differs only in case, or in how an accent is written, is one file on some systems.
        key = unicodedata.normalize("NFC", str(path)).casefold()
        if key in seen:
            raise _refuse(archive, f"holds {shown(seen[key])} twice, the second time as {shown(str(path))}")
        seen[key] = str(path)
        entries[str(path)] = info
    folders = {str(parent) for key in seen for parent in PurePosixPath(key).parents}
    if clash := next((key for key in seen if key in folders), None):
        raise _refuse(archive, f"holds {shown(seen[clash])} as a file and as a folder")
    if not any(path.lower().endswith(SUFFIXES) for path in entries):
        raise _refuse(archive, f"holds no photograph ({sum(left_out.values()):,} other files)")
    return entries, left_out


def _plain_path(archive: Path, info: zipfile.ZipInfo) -> PurePosixPath | None:
    """The path of an entry below the folder; None for a folder and for what the system hid there."""
    name = info.orig_filename.replace("\\", "/")  # as it stands in the archive: zipfile itself cuts it at a zero byte
    parts = [part for part in name.split("/") if part not in ("", ".")]
    colon = ":" in name if os.name == "nt" else re.match("[A-Za-z]:", name)
    odd = any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
    if name.startswith("/") or ".." in parts or colon or odd or len(parts) > _MAX_DEPTH:
        raise _refuse(archive, f"holds {shown(info.orig_filename)}, which is no plain name inside a folder")
    if is_link_or_device(info):
        raise _refuse(archive, f"holds {shown(info.orig_filename)}, which is a link or a device, not a file")
    if name.endswith("/") or not parts or any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return None
    return PurePosixPath(*parts)


def _is_wanted(path: PurePosixPath, info: zipfile.ZipInfo) -> bool:
    suffix = path.suffix.lower()
    return suffix in SUFFIXES or (suffix in LIST_SUFFIXES and info.file_size <= MAX_LIST_BYTES)


def _check_packing(archive: Path, info: zipfile.ZipInfo) -> None:
    if is_encrypted(info):
        raise _refuse(archive, "is encrypted", "pack it without a password")
    if is_unusually_packed(info):
        raise _refuse(archive, f"holds {shown(info.orig_filename)}, which is compressed in an unusual way")


def _refuse_without_room(archive: Path, entries: Mapping[str, zipfile.ZipInfo], folder: Path) -> None:
    size = sum(info.file_size for info in entries.values())
    if size > MAX_BYTES:
        raise _refuse(archive, f"has {megabytes(size)} when unpacked, the limit is {megabytes(MAX_BYTES)}")
    packed = archive.stat().st_size
    if size > max(MAX_RATIO * packed, RATIO_FREE_BYTES):
        raise _refuse(archive, f"of {megabytes(packed)} unpacks to {megabytes(size)}, which photographs never do")
    place = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(place).free - KEPT_FREE
    needed = size + BLOCK * len(entries)
    if needed > free:
        room = f"{megabytes(needed)}, and {place} has {megabytes(max(free, 0))} to spare"
        raise _refuse(archive, f"needs {room}", "make space and try again, or name another folder with --data-root")


# --- Writing ------------------------------------------------------------------------------------------------------


def _write(opened: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], draft: Path, progress: Progress) -> None:
    made = set()
    for done, (name, info) in enumerate(entries.items(), start=1):
        path = draft / name
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        with opened.open(info) as packed, open(path, "xb") as file:
            is_whole = copy_exactly(packed, file, info.file_size)
        if not is_whole:
            raise zipfile.BadZipFile(f"{shown(info.orig_filename)} has another size than it declares")
        progress(done, len(entries))


def _put_in_place(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError:
        # What a system calls the error differs; that somebody else was faster is seen from the folder.
        if folder.exists():
            raise _FolderExistsError(folder) from None
        raise


def _sweep(folder: Path) -> None:
    """Remove what was left behind by a process that was killed long ago."""
    for draft in folder.parent.glob(f".{glob.escape(folder.name)}-*.unpacking"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(draft, ignore_errors=True)
