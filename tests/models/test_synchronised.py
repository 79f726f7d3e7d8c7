"""Batch-norm over several processes is batch-norm over their images together; threads stand in for the processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from sam_core.config import ConfigError
from sam_core.models import synchronised
from sam_core.models.sam_net import build_model
from sam_core.models.synchronised import SynchronisedBatchNorm, synchronise_batch_norm

CHANNELS = 5


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list]:
    """Runs a function in as many threads as there are arguments, with an `all_reduce` between them."""

    def run(work: Callable[[Tensor], object], parts: Sequence[Tensor]) -> list:
        barrier, given = threading.Barrier(len(parts), timeout=30), {}

        def all_reduce(values: Tensor) -> None:
            given[threading.get_ident()] = values.clone()
            barrier.wait()
            total = sum(given.values())
            barrier.wait()
            values.copy_(total)

        monkeypatch.setattr(synchronised.distributed, "all_reduce", all_reduce)
        monkeypatch.setattr(synchronised.distributed, "is_initialized", lambda: True)
        with ThreadPoolExecutor(len(parts)) as pool:
            return list(pool.map(work, parts))

    return run


def plain_norm(kind: type[nn.Module], **options: object) -> nn.Module:
    generator = torch.Generator().manual_seed(1)  # threads would draw from the common one in any order
    norm = kind(CHANNELS, **options).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 1, 0.5, generator)
    return norm


def shape_of(kind: type[nn.Module]) -> tuple[int, ...]:
    return (CHANNELS,) if kind is nn.BatchNorm1d else (CHANNELS, 3, 4)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, BatchNormAct2d])
@pytest.mark.parametrize("shares", [(3, 3), (1, 5), (0, 6), (2, 1, 3)], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}], ids=str
)
def test_output_gradients_and_statistics_are_those_of_the_whole_batch(
    kind: type[nn.Module], shares: tuple[int, ...], options: dict, together
):
    generator = torch.Generator().manual_seed(0)
    # Channels far from zero, of which a difference of two squares would lose the variance.
    images = torch.randn(sum(shares), *shape_of(kind), generator=generator).double() + 1000
    wanted = torch.randn(images.shape, generator=generator).double()
    whole, x = plain_norm(kind, **options), images.clone().requires_grad_()
    for _ in range(2):
        output = whole(x)
    (output * wanted).sum().backward()

    def pass_through(part: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
        places = part.tolist()
        network = nn.Sequential(plain_norm(kind, **options))
        synchronise_batch_norm(network)
        own = images[places].requires_grad_()
        for _ in range(2):
            output = network(own)
        (output * wanted[places]).sum().backward()
        return network[0], output, own.grad

    found = together(pass_through, torch.arange(sum(shares)).split(shares))
    torch.testing.assert_close(torch.cat([output for _, output, _ in found]), output)
    torch.testing.assert_close(torch.cat([gradient for _, _, gradient in found]), x.grad, rtol=1e-6, atol=1e-6)
    for norm, _, _ in found:
        for name, buffer in whole.named_buffers():
            torch.testing.assert_close(norm.get_buffer(name), buffer, rtol=1e-9, atol=1e-9)
    for name, parameter in whole.named_parameters():
        total = sum(norm.get_parameter(name).grad for norm, _, _ in found)
        torch.testing.assert_close(total, parameter.grad, rtol=1e-6, atol=1e-6)


def test_single_precision_keeps_the_variance_of_channels_far_from_zero(together):
    images = torch.randn(6, CHANNELS, 3, 4, generator=torch.Generator().manual_seed(0)) + 1000
    wanted = nn.BatchNorm2d(CHANNELS)(images)
    found = together(SynchronisedBatchNorm(nn.BatchNorm2d(CHANNELS)), images.split(3))
    torch.testing.assert_close(torch.cat(found), wanted, rtol=1e-3, atol=1e-3)


def test_half_precision_goes_through_with_statistics_in_full(together):
    images = torch.randn(4, CHANNELS, 3, 4) + 3

    def output(part: Tensor) -> tuple[Tensor, nn.Module]:
        norm = SynchronisedBatchNorm(nn.BatchNorm2d(CHANNELS))
        own = part.bfloat16().requires_grad_()
        result = norm(own)
        result.sum().backward()
        assert own.grad.dtype == torch.bfloat16
        return result, norm

    found = together(output, images.split(2))
    assert found[0][0].dtype == torch.bfloat16
    torch.testing.assert_close(found[0][1].running_mean, images.bfloat16().float().mean(dim=(0, 2, 3)) * 0.1)


def test_alone_or_in_evaluation_it_is_plain_batch_norm(together):
    images = torch.randn(4, CHANNELS, 3, 4)
    plain = nn.BatchNorm2d(CHANNELS)
    plain.running_mean.normal_()
    norm = SynchronisedBatchNorm(plain).eval()
    torch.testing.assert_close(together(norm, [images, images[:1]])[1], plain.eval()(images[:1]))


def test_without_other_processes_it_is_plain_batch_norm():
    images = torch.randn(4, CHANNELS, 3, 4)
    norm = SynchronisedBatchNorm(nn.BatchNorm2d(CHANNELS))
    assert torch.equal(norm(images), nn.BatchNorm2d(CHANNELS)(images))


@pytest.mark.parametrize("backbone", ["test_resnet", "tf_efficientnet_lite0", "mobilenetv3_small_050"])
def test_the_network_keeps_its_weights_their_names_and_what_it_says(backbone: str):
    torch.manual_seed(0)
    model = build_model(backbone=backbone, classes=3, method="sam-bilinear", pooling="compact", attention_maps=4)
    model.eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before, state, parameters = model(images), model.state_dict(), list(model.parameters())
        synchronise_batch_norm(model)
        after = model(images)
    assert list(model.state_dict()) == list(state)
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert torch.equal(before.scores, after.scores)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(norm, SynchronisedBatchNorm) for norm in norms)


def test_a_batch_norm_of_an_unknown_kind_is_refused():
    class Ghost(nn.BatchNorm2d):
        pass

    with pytest.raises(ConfigError, match="Ghost"):
        synchronise_batch_norm(nn.Sequential(nn.Sequential(Ghost(3))))
