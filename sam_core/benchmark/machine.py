"""On what machine the figures were measured, in terms that say nothing of whose it is."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sam_core.recording.environment import describe_environment

#: What makes two machines the same kind. Versions are not among them: to see what a new version costs is the point.
KIND = ("cpu", "cores", "memory_gb", "gpu", "device", "system")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """CPU, memory, GPU, versions, threads, and how busy the machine was before anything was measured."""
    environment = describe_environment()
    return {
        "cpu": _cpu_model(),
        "cores": _usable_cores(),
        "memory_gb": _memory_gb(),
        "gpu": environment["cuda"],
        "device": device.type,
        "system": environment["system"],
        "python": environment["python"],
        "packages": environment["packages"],
        "threads": environment["threads"],
        "revision": environment["revision"],
        "load_before": _load(),
    }


def same_kind(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether figures of the two machines can be held against each other."""
    return all(first.get(name) == second.get(name) for name in KIND)


def in_words(machine: Mapping[str, Any]) -> str:
    """One line for people."""
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    load = "unknown" if machine["load_before"] is None else f"{machine['load_before']:.1f}"
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB{gpu}; "
        f"torch {machine['packages']['torch']}, {machine['threads']} threads; load before the start: {load}"
    )


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gb() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    except (AttributeError, ValueError, OSError):
        return None


def _load() -> float | None:
    """Processes that wanted a core, on average over the last minute."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None
