"""Under what a run was made: enough to repeat it, nothing that is private."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from typing import Any

import torch

from sam_core.config import PROJECT_ROOT

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "safetensors")


def describe_environment() -> dict[str, Any]:
    """Versions, device, threads of this process and the revision of this program."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "revision": _git_revision(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    if not (PROJECT_ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(PROJECT_ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
