"""Where a run computes, and in which precision."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from sam_core.config import ConfigError
from sam_core.process import keep_freed_memory


@dataclass(frozen=True)
class Machine:
    """A device and the precision of the network's passes on it."""

    device: torch.device
    bfloat16: bool

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context in which the network runs."""
        if not self.bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def choose_machine(device: str = "auto", precision: str = "auto") -> Machine:
    """Turn `--device` and `--precision` into what this computer has.

    Raises:
        ConfigError: if the device asked for is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[device]:
        there = ", ".join(name for name, present in available.items() if present)
        raise ConfigError("device", f"there is no {device} here; use auto, or one of: {there}")
    if device == "cpu":
        keep_freed_memory()
    bfloat16 = precision == "bfloat16" or (precision == "auto" and device == "cuda" and torch.cuda.is_bf16_supported())
    return Machine(torch.device(device), bfloat16)
