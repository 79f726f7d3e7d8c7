"""Unpacking a published archive (tar.gz): one folder of it, as a whole or not at all, and nothing beside it."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from sam_core.datasets.base import DatasetError, Progress

#: Several times what the largest of the named datasets has.
MAX_MEMBERS = 200_000
MAX_BYTES = 20_000_000_000
#: What reading and writing the members of a broken archive raises; the last two where a file is also a folder.
_DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, FileExistsError, NotADirectoryError)


def unpack_tar(
    archive: Path,
    target: Path,
    *,
    progress: Progress | None = None,
    max_members: int = MAX_MEMBERS,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Unpack the folder of the archive that has the name of `target` as `target`.

    It is unpacked into a hidden folder beside `target` and put in place in one step, so that whatever cuts it short
    leaves nothing that looks like the dataset. What else is in the archive is left out.

    Args:
        archive: a tar file compressed by gzip.
        target: the folder to make; there must be none of this name, and nobody else may be making it.
        progress: told how many bytes of the archive are read, and of how many.
        max_members: the most files and folders that it may hold.
        max_bytes: the most bytes that they may have together.

    Raises:
        DatasetError: if the archive is damaged, holds more than the bounds allow, or a link, a device or a name that
            leads out of the folder; if it has no such folder; if there is a `target`; if the disk is full.
    """
    if target.exists():
        raise DatasetError(f"{archive.name} is not unpacked: there is {target} already", "move it away")
    remove_leftovers(target)
    draft = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        _unpack(archive, draft, progress, max_members, max_bytes)
        if not (draft / target.name).is_dir():
            raise DatasetError(f"{archive.name} holds no folder {target.name}", "is this the right archive?")
        (draft / target.name).rename(target)
    except _DAMAGE as error:
        raise DatasetError(
            f"{archive} is damaged: {error}", "delete it and run the same command again, which fetches it anew"
        ) from None
    except OSError as error:
        raise DatasetError(
            f"{archive.name} cannot be unpacked into {target.parent}: {error.strerror}",
            "make room, or make the folder writable, and run the same command again",
        ) from None
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def remove_leftovers(target: Path) -> None:
    """Remove what attempts to unpack `target` left that were killed."""
    for draft in target.parent.glob(f"{_prefix(target)}*"):
        shutil.rmtree(draft, ignore_errors=True)


def _prefix(target: Path) -> str:
    return f".{target.name}-unpacking-"


def _unpack(archive: Path, draft: Path, progress: Progress | None, max_members: int, max_bytes: int) -> None:
    size, members, unpacked = archive.stat().st_size, 0, 0
    with archive.open("rb") as packed, tarfile.open(fileobj=packed, mode="r:gz") as tar:
        for member in tar:
            members += 1
            unpacked += member.size
            if members > max_members or unpacked > max_bytes:
                raise DatasetError(
                    f"{archive.name} holds more than {max_members:,} files or {max_bytes:,} bytes",
                    "is this the right archive?",
                )
            _refuse_unsafe(archive, member)
            tar.extract(member, draft, filter="data")
            if progress:
                progress(packed.tell(), size)
    if progress:
        progress(size, size)


def _refuse_unsafe(archive: Path, member: tarfile.TarInfo) -> None:
    """The archives of datasets hold files and folders, nothing else."""
    name = member.name
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or re.search(r"[\\:\x00-\x1f\x7f]", name):
        raise _unsafe(archive, member, "leads out of the folder, or is no plain name")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise _unsafe(archive, member, "is a link, a device or a file with holes")


def _unsafe(archive: Path, member: tarfile.TarInfo, what: str) -> DatasetError:
    return DatasetError(f"{archive.name}: {member.name[:80]!r} {what}", "do not trust this archive; delete it")
