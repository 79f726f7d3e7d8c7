"""Which device a process computes on, alone and beside others."""

from __future__ import annotations

import pytest
import torch

from sam_core.config import ConfigError
from sam_core.device import Arriving, choose_machine, send, visible_gpus


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A computer that says it has three GPUs; returns those that were made the current one."""
    chosen: list[int] = []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    return chosen


def test_alone_a_process_takes_the_gpu_that_is_current(gpus: list[int]):
    machine = choose_machine()
    assert machine.device == torch.device("cuda")
    assert machine.bfloat16
    assert torch.backends.cudnn.benchmark
    assert gpus == []


def test_each_of_several_processes_has_a_gpu_of_its_own(gpus: list[int]):
    assert [choose_machine(place=place).device.index for place in range(3)] == [0, 1, 2]
    assert gpus == [0, 1, 2]
    machine = choose_machine("cuda", place=1)
    assert machine.device == torch.device("cuda:1")
    assert machine.bfloat16
    with pytest.raises(ConfigError, match="--nproc-per-node=3"):
        choose_machine(place=3)


def test_several_processes_share_a_cpu_but_no_mps_device(gpus: list[int], monkeypatch: pytest.MonkeyPatch):
    assert choose_machine("cpu", place=5).device == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ConfigError, match="mps"):
        choose_machine("mps", place=0)


def test_gpus_are_named_as_their_environment_names_them(gpus: list[int], monkeypatch: pytest.MonkeyPatch):
    assert visible_gpus() == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-7f,6")
    assert visible_gpus() == ["4", "GPU-7f", "6"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert visible_gpus() == []


def test_values_go_to_a_device_and_come_back_as_they_are():
    values = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(send(values, torch.device("cpu")), values)
    there = [values.requires_grad_(), torch.tensor([1, 2])]
    here = Arriving(there).wait()
    assert [torch.equal(one, other) for one, other in zip(here, there, strict=True)] == [True, True]
    assert not here[0].requires_grad
