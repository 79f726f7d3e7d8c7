"""How a process of ours uses the machine: memory that is kept, threads that do not fight over cores, its team.

This is what has to be known before torch is imported, or without it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

#: glibc's mallopt: the size above which memory comes straight from the system, and how much free memory is kept.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_GIGABYTE = 1 << 30

#: What torchrun tells a process of its place among those that it has started.
PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def started_together(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started as one of several that work together."""
    return all(name in environment for name in PLACE) and environment["WORLD_SIZE"] != "1"


def follows(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several and not the first, which speaks for all."""
    return started_together(environment) and environment["RANK"] != "0"


def is_restarted_after_errors(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun starts this process, and the others with it, once more if it ends with an error."""
    allowed, used = (int(environment.get(f"TORCHELASTIC_{name}", 0)) for name in ("MAX_RESTARTS", "RESTART_COUNT"))
    return allowed > used


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores() -> None:
    """Let idle threads of the tensor library sleep soon. Must be called before torch is imported.

    By default they wait actively for milliseconds, which pays only on a machine that does nothing else: with a second
    busy process on two cores (a browser will do) a training step takes 15 times as long. Measured on two cores,
    efficientnet-lite0, 14 images: 0.47 s a step alone and 7.3 s beside a second run; with this 0.51 s and 1.1 s.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def keep_freed_memory() -> None:
    """Let the allocator keep what large tensors free, in place of giving it back and asking for it again every layer.

    The system clears each page it hands out. Measured on two cores: a training step of efficientnet-lite0 takes
    0.47 s in place of 0.68 s, evaluation 0.11 s in place of 0.18 s, at the same peak of memory. Linux with glibc only.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library; its allocator is its own affair
    mallopt(_M_MMAP_THRESHOLD, _GIGABYTE)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
