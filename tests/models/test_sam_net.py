"""The whole network: what it returns, which parameters learn at which rate, and what reaches the backbone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sam_core.models import SAMNet, SAMOutput, build_model, learned_attention


class Convolution(nn.Module):
    feature_channels = 6

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3, stride=4, padding=1)

    def forward_features(self, images: Tensor) -> Tensor:
        return self.layer(images).relu()


def test_a_forward_pass_gives_scores_features_and_attention():
    output = SAMNet(Convolution(), 5, pooling="gap", attention_maps=4)(torch.randn(2, 3, 32, 32))
    assert isinstance(output, SAMOutput)
    assert output.scores.shape == (2, 5)
    assert output.features.shape == (2, 6, 8, 8)
    assert output.attention.shape == (2, 4, 8, 8)
    assert (output.attention >= 0).all()


@pytest.mark.parametrize("maps", [None, 0])
def test_without_maps_there_is_no_attention(maps):
    model = SAMNet(Convolution(), 5, pooling="gap", attention_maps=maps)
    assert model.attention_head is None
    assert model(torch.randn(2, 3, 32, 32)).attention is None
    assert [group["name"] for group in model.parameter_groups(1, 2, 3)] == ["backbone", "classifier"]


@pytest.mark.parametrize("pooling", ["gap", "compact"])
def test_the_groups_hold_every_parameter_once_at_its_own_rate(pooling):
    model = SAMNet(Convolution(), 5, pooling=pooling, attention_maps=4)
    groups = model.parameter_groups(lr=0.1, head_lr=1.0, attention_lr=0.5)
    assert [(group["name"], group["lr"]) for group in groups] == [
        ("backbone", 0.1),
        ("classifier", 1.0),
        ("attention", 0.5),
    ]
    held = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(held) == sorted(id(weight) for weight in model.parameters())
    torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)


def test_parameters_that_the_features_do_not_depend_on_are_left_out_of_the_groups():
    model = build_model(
        backbone="mobilenetv3_small_100", classes=3, method="finetune", pooling="gap", attention_maps=16
    )
    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    assert frozen
    held = {id(weight) for group in model.parameter_groups(1, 1, 1) for weight in group["params"]}
    assert held.isdisjoint(id(weight) for weight in frozen)
    model.train()(torch.randn(2, 3, 64, 64)).scores.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def test_under_autocast_everything_above_the_backbone_is_in_single_precision():
    model = SAMNet(Convolution(), 5, pooling="bilinear", attention_maps=4)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.randn(2, 3, 32, 32))
    assert {values.dtype for values in output} == {torch.float32}
    output.scores.sum().backward()
    assert model.backbone.layer.weight.grad.isfinite().all()


def test_the_loss_of_the_attention_reaches_the_backbone_under_every_pooling():
    for pooling in ("gap", "bilinear", "attention", "compact"):
        model = SAMNet(Convolution(), 5, pooling=pooling, attention_maps=4)
        output = model(torch.randn(2, 3, 32, 32))
        learned_attention(output.attention).square().sum().backward()
        assert model.backbone.layer.weight.grad.abs().sum() > 0
        assert model.head.classifier.weight.grad is None


@pytest.mark.parametrize(
    ("method", "pooling", "maps", "has_head"),
    [
        ("finetune", "gap", 16, False),
        ("finetune", "bilinear", 16, True),
        ("sam", "gap", 1, True),
        ("sam", "attention", 16, True),
        ("sam-bilinear", "bilinear", 16, True),
        ("sam-bilinear", "compact", 16, True),
    ],
)
def test_a_run_gets_the_head_that_its_method_and_pooling_need(method, pooling, maps, has_head):
    model = build_model(backbone="resnet18", classes=3, method=method, pooling=pooling, attention_maps=maps)
    output = model.eval()(torch.randn(1, 3, 64, 64))
    assert output.scores.shape == (1, 3)
    assert output.features.shape == (1, 512, 2, 2)
    assert (output.attention is not None) == has_head
    assert model.weights_origin == "random weights, nothing was loaded"
    if has_head:
        assert output.attention.shape == (1, maps, 2, 2)


def test_the_weights_go_through_a_state_dict_and_give_the_same_scores():
    images = torch.randn(2, 3, 32, 32)
    for pooling in ("gap", "bilinear", "attention", "compact"):
        one = SAMNet(Convolution(), 5, pooling=pooling, attention_maps=4).eval()
        other = SAMNet(Convolution(), 5, pooling=pooling, attention_maps=4).eval()
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(images).scores, other(images).scores)
