"""The optimiser's update is that of the equations, whatever order the weights' numbers have in memory."""

from __future__ import annotations

import copy

import pytest
import torch

from sam_core.config import build_config
from sam_core.models.sam_net import build_model
from sam_core.training.optimiser import build_optimiser, set_learning_rates
from sam_core.training.step import training_losses


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_sgd_with_nesterov_momentum(momentum: float, memory_format: torch.memory_format):
    torch.manual_seed(0)
    config = build_config({"momentum": momentum, "weight_decay": 0.01, "lr": 0.1, "head_lr": 0.2, "attention_lr": 0.3})
    model = build_model(backbone="test_resnet", classes=3, method="sam", pooling="gap", attention_maps=4)
    model = model.to(memory_format=memory_format)
    optimiser = build_optimiser(model, config)
    expected = copy.deepcopy(dict(model.named_parameters()))
    velocity: dict[str, torch.Tensor] = {}
    rates = {"backbone": 0.1, "head": 0.2, "attention_head": 0.3}
    images, labels = torch.randn(6, 3, 64, 64), torch.tensor([0, 1, 2, 0, 1, 2])
    for step in range(4):
        set_learning_rates(optimiser, 1 / (step + 1))
        optimiser.zero_grad()
        training_losses(model, images.to(memory_format=memory_format), labels, config, 0.3)["loss"].backward()
        for name, weight in model.named_parameters():
            gradient = weight.grad + 0.01 * expected[name].detach()
            velocity[name] = momentum * velocity[name] + gradient if name in velocity else gradient
            direction = gradient + momentum * velocity[name]
            rate = rates[name.split(".")[0]] / (step + 1)
            expected[name] = expected[name].detach() - rate * direction
        optimiser.step()
        for name, weight in model.named_parameters():
            torch.testing.assert_close(weight.detach(), expected[name], msg=lambda text, name=name: f"{name}: {text}")
            with torch.no_grad():
                expected[name] = weight.detach().clone()  # rounding does not add up
