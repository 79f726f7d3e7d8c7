"""Where a run computes, and in which precision."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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


def choose_machine(device: str = "auto", precision: str = "auto", *, place: int | None = None) -> Machine:
    """Turn `--device` and `--precision` into what this computer has.

    Args:
        device: as in the configuration.
        precision: as in the configuration.
        place: which of several processes this is on its computer: each has a GPU of its own, or they share the CPU.

    Raises:
        ConfigError: if the device asked for is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[device]:
        there = ", ".join(name for name, present in available.items() if present)
        raise ConfigError("device", f"there is no {device} here; use auto, or one of: {there}")
    if place is not None:
        device = _device_at(place, device)
    if device == "cpu":
        keep_freed_memory()
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.backends.cudnn.benchmark = True  # batches have one or two sizes: the fastest kernels are looked for once
    bfloat16 = precision == "bfloat16" or (precision == "auto" and on_gpu and torch.cuda.is_bf16_supported())
    return Machine(torch.device(device), bfloat16)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a GPU; of memory that it shares with the CPU, what is recommended and not yet taken."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return 0


def send(values: Tensor, device: torch.device) -> Tensor:
    """Values of the CPU on the device, which nobody waits for: work given to it later finds them there."""
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


class Arriving:
    """Values on their way from a device to the CPU, while the device goes on with other work."""

    def __init__(self, values: Sequence[Tensor]) -> None:
        on_cuda = any(value.device.type == "cuda" for value in values)
        self._values = [value.detach().to("cpu", non_blocking=on_cuda) for value in values]
        self._arrival = torch.cuda.current_stream().record_event() if on_cuda else None

    def wait(self) -> list[Tensor]:
        """The values, on the CPU, as soon as they are there."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return self._values


def visible_gpus() -> list[str]:
    """The CUDA devices that this process may use, each as CUDA_VISIBLE_DEVICES names it; none without a GPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(count)] if chosen is None else chosen.split(",")
    return [name.strip() for name in names[:count]]


def _device_at(place: int, device: str) -> str:
    """The device of one of several processes."""
    if device == "mps":
        raise ConfigError("device", "several processes cannot share an mps device; use one process, or cpu")
    if device == "cuda":
        if place >= torch.cuda.device_count():
            gpus = torch.cuda.device_count()
            raise ConfigError("device", f"there are more processes than GPUs here; use --nproc-per-node={gpus}, or cpu")
        torch.cuda.set_device(place)
        return f"cuda:{place}"
    return device
