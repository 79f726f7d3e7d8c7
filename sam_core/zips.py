"""What every zip that comes from a stranger is asked, whatever it holds, and how its files are copied out of it."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from typing import IO

#: What reading raises where there is no zip, or a damaged one. (What the disk raises is an `OSError`.)
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError)
#: Unpacking leaves this much of the disk free.
KEPT_FREE = 256 * 1024**2

#: Bits of an entry: encrypted, strongly encrypted, its directory masked.
_ENCRYPTED = 0x1 | 0x40 | 0x2000


def is_encrypted(entry: zipfile.ZipInfo) -> bool:
    """Whether a password is needed to read an entry."""
    return bool(entry.flag_bits & _ENCRYPTED)


def is_link_or_device(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is neither a file nor a folder."""
    return stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR)


def is_unusually_packed(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is compressed by something else than what every zip program writes."""
    return entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def copy_exactly(packed: IO[bytes], file: IO[bytes], size: int) -> bool:
    """Copy as many bytes as an entry declared, by which the free space was measured, and not one more.

    Returns:
        Whether there were just so many.
    """
    left = size
    while block := packed.read(1 << 20):
        left -= len(block)
        if left < 0:
            break
        file.write(block)
    return left == 0


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:,.0f} MB"
