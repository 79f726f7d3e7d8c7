"""The path through a GPU, on tensors that have a device and no numbers.

Such tensors refuse what a GPU would have to be waited for (to read a number, to count what is not zero), and to be
mixed with those of another device; so this holds on a machine without a GPU what would be a stall or an error on one.
What they cannot do is run a backward pass: gradients are put in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from sam_core.augment import rendering
from sam_core.config import PSEUDO_ATTENTIONS, RunConfig
from sam_core.device import Machine
from sam_core.evaluation import evaluator
from sam_core.evaluation.evaluator import EvaluationGroup, evaluate_group
from sam_core.evaluation.groups import build_groups, choose_recorded
from sam_core.evaluation.maps import kinds_of
from sam_core.training.loop import Trainer
from sam_core.training.messages import Messages

GPU = torch.device("cuda")
METHOD_CHOICES = [
    {"method": "finetune"},
    {"method": "sam", "pseudo": "cam"},
    {"method": "sam", "pseudo": "gradcam"},
    {"method": "sam", "pooling": "attention"},
    {"method": "sam-bilinear"},
    {"method": "sam-bilinear", "pooling": "compact"},
]


class FakeImages:
    """In the place of the images on the device."""

    def __init__(self, side: int, classes: int) -> None:
        self.side, self.classes = side, classes

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """As `DeviceImages.take`."""
        count = len(positions)
        images = torch.zeros((count, self.side, self.side, 3), dtype=torch.uint8, device=GPU)
        return images.permute(0, 3, 1, 2), torch.zeros(count, dtype=torch.long, device=GPU)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    """A GPU that computes nothing; memory is pinned and events are recorded in name only."""
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    event = SimpleNamespace(synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(record_event=lambda: event))
    rendering._scale_and_shift.cache_clear()
    yield FakeTensorMode(allow_non_fake_inputs=True)
    rendering._scale_and_shift.cache_clear()


@contextmanager
def moved(trainer: Trainer, mode: FakeTensorMode, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A trainer whose network and images are on the GPU, its host's work included."""
    with mode:
        for module in trainer.model.modules():
            for name, weight in list(module._parameters.items()):
                if weight is not None:
                    module._parameters[name] = nn.Parameter(torch.empty(weight.shape, device=GPU))
            for name, values in list(module._buffers.items()):
                if values is not None:
                    module._buffers[name] = torch.empty(values.shape, dtype=values.dtype, device=GPU)
        for group, new in zip(trainer.optimiser.param_groups, trainer.model.parameter_groups(1, 1, 1), strict=True):
            group["params"] = new["params"]
            group["fused"] = False  # that operation has no fake
        trainer.machine = Machine(GPU, bfloat16=True)
        trainer.images = FakeImages(trainer.data.store.side, len(trainer.data.classes))

        def backward(loss: Tensor) -> None:
            assert loss.requires_grad
            for weight in trainer.model.parameters():
                weight.grad = torch.empty_like(weight)

        def grad(outputs: Tensor, leaf: Tensor) -> tuple[Tensor]:
            return (torch.empty_like(leaf),)

        monkeypatch.setattr(Tensor, "backward", backward)
        monkeypatch.setattr(torch.autograd, "grad", grad)
        yield


@pytest.fixture
def trainer_of(shared_photographs: Path, tiny):
    def make(**changes: object) -> Trainer:
        return Trainer(tiny(shared_photographs, **changes), Messages(quiet=True))

    return make


@pytest.mark.parametrize("augment", ["none", "flip", "crop", "randaugment"])
def test_a_batch_is_rendered_on_the_gpu_without_waiting(augment: str, trainer_of, gpu, monkeypatch):
    trainer = trainer_of(augment=augment)
    with moved(trainer, gpu, monkeypatch):
        images, labels = trainer._batch(0)
        assert (images.device.type, labels.device.type) == ("cuda", "cuda")
        assert images.shape == (len(labels), 3, 64, 64)
        assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("choice", METHOD_CHOICES, ids=lambda choice: "-".join(choice.values()))
def test_a_step_waits_for_nothing(choice: dict[str, str], trainer_of, gpu, monkeypatch):
    trainer = trainer_of(**choice)
    trainer.model.train()
    with moved(trainer, gpu, monkeypatch):
        losses = trainer._step(0)
        assert {value.device.type for value in losses.values()} == {"cuda"}
        assert {value.dtype for value in losses.values()} == {torch.float32}


@pytest.mark.parametrize("pseudo", PSEUDO_ATTENTIONS)
def test_no_pseudo_attention_waits(pseudo: str, trainer_of, gpu, monkeypatch):
    trainer = trainer_of(pseudo=pseudo)
    trainer.model.train()
    with moved(trainer, gpu, monkeypatch):
        assert trainer._step(0)["attention"].device.type == "cuda"


def evaluated(trainer: Trainer, group: EvaluationGroup, record, config: RunConfig) -> None:
    evaluate_group(
        trainer.model, trainer.images, group, config, trainer.machine, normalisation=trainer.normalisation,
        kinds=kinds_of(config), record=record, keep_scores=True,
    )  # fmt: skip


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an evaluation found is read at its end, once; here it is not."""
    monkeypatch.setattr(evaluator.AccuracyMeter, "result", lambda meter: {})
    monkeypatch.setattr(evaluator.NanMean, "nested", lambda means, team: {})


@pytest.mark.parametrize("choice", METHOD_CHOICES, ids=lambda choice: "-".join(choice.values()))
@pytest.mark.parametrize("crops", [1, 10])
def test_an_evaluation_waits_for_nothing_until_its_end(
    choice: dict[str, str], crops: int, trainer_of, gpu, unread, monkeypatch
):
    trainer = trainer_of(**choice, test_crops=crops)
    group = build_groups(trainer.data, choose_recorded(trainer.data, None), image_size=64, grid=(2, 2))["test"]
    images = len(group.positions)
    some = group.rows.copy()
    some[1] = -1  # one image is not recorded
    group = replace(group, rows=some, coverage=torch.full((images, 2, 2), 0.5), parts=torch.full((images, 3, 2), 0.5))
    recorded: list[np.ndarray] = []

    def record(rows, maps, predicted, confidence) -> None:
        assert {values.device.type for values in (*maps.values(), predicted, confidence)} == {"cpu"}
        assert set(maps) == set(kinds_of(trainer.config))
        recorded.append(rows)

    with moved(trainer, gpu, monkeypatch):
        evaluated(trainer, group, record, trainer.config)
    assert np.concatenate(recorded).tolist() == some[some >= 0].tolist()


def test_what_is_to_be_found_out_is_found_out(trainer_of, gpu, monkeypatch):
    trainer = trainer_of()
    with moved(trainer, gpu, monkeypatch):
        values = trainer._step(0)["loss"].expand(3)
        with pytest.raises(DataDependentOutputException):
            values[0].item()
        with pytest.raises(DynamicOutputShapeException):
            values[values > 0]
        with pytest.raises(RuntimeError, match="device"):
            values + torch.zeros(3)
