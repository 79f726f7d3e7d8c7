"""Locks that the operating system knows of: a process that is killed holds none."""

from __future__ import annotations

import errno
import sys
from typing import IO

#: What the operating system answers where another holds the lock.
_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str], *, shared: bool) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[str], *, shared: bool) -> None:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def try_lock(file: IO[str], *, shared: bool = False) -> bool:
    """Take the lock of an open file, without waiting, until the file is closed or the process ends.

    Args:
        file: open for writing.
        shared: for looking whether another holds it: two who look at once do not keep each other out. Windows has
            no such locks; there it is one like any other.

    Returns:
        Whether the lock is ours now.

    Raises:
        OSError: where the file system has no locks.
    """
    try:
        _lock(file, shared=shared)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True
