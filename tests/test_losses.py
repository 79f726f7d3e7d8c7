"""The attention loss against values worked out by hand and in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sam_core.losses import TARGET_SCALES, attention_distribution, attention_loss, attention_target


def random_maps(batch: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pseudo = torch.randn(batch, 5, 6, generator=generator).relu() * 3
    return pseudo, torch.randn(batch, 5, 6, generator=generator).relu()


def divergence_by_hand(pseudo: Tensor, learned: Tensor, temperature: float, target_scale: str) -> float:
    """One image's loss, number by number, in double precision."""
    values = [float(value) for value in pseudo.flatten()]
    if max(values) == 0:
        return 0.0
    if target_scale == "sum":
        target = [value / math.fsum(values) for value in values]
    else:
        size = max(values) if target_scale == "max" else 1.0
        powers = [math.exp(value / size / temperature) for value in values]
        target = [power / math.fsum(powers) for power in powers]
    powers = [math.exp(float(value) / temperature) for value in learned.flatten()]
    fitted = [power / math.fsum(powers) for power in powers]
    return math.fsum(t * math.log(t / q) for t, q in zip(target, fitted, strict=True) if t > 0)


@pytest.mark.parametrize("target_scale", TARGET_SCALES)
@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_loss_is_the_mean_over_images_of_the_divergence_summed_over_positions(target_scale, temperature):
    pseudo, learned = random_maps()
    expected = sum(
        divergence_by_hand(one, other, temperature, target_scale) for one, other in zip(pseudo, learned, strict=True)
    )
    loss = attention_loss(pseudo, learned, temperature=temperature, target_scale=target_scale)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected / len(pseudo), rel=1e-4)


@pytest.mark.parametrize("target_scale", TARGET_SCALES)
def test_a_target_is_a_distribution_for_every_map_even_one_that_is_zero_tiny_or_huge(target_scale):
    pseudo, _ = random_maps()
    maps = torch.cat([pseudo, torch.zeros(1, 5, 6), pseudo[:1] * 1e-30, pseudo[:1] * 1e30])
    target = attention_target(maps, temperature=0.4, target_scale=target_scale)
    assert target.shape == maps.shape
    assert (target >= 0).all()
    torch.testing.assert_close(target.sum(dim=(1, 2)), torch.ones(7))
    torch.testing.assert_close(target[4], torch.full((5, 6), 1 / 30))


def test_sum_and_max_targets_do_not_feel_the_size_of_the_map_and_raw_does():
    pseudo, _ = random_maps()
    for target_scale, same in (("raw", False), ("sum", True), ("max", True)):
        one = attention_target(pseudo, temperature=0.4, target_scale=target_scale)
        other = attention_target(pseudo * 37, temperature=0.4, target_scale=target_scale)
        assert torch.allclose(one, other, atol=1e-6) == same


def test_the_sum_target_is_the_map_itself_at_any_temperature():
    pseudo, _ = random_maps()
    expected = pseudo / pseudo.sum(dim=(1, 2), keepdim=True)
    for temperature in (0.1, 5.0):
        torch.testing.assert_close(attention_target(pseudo, temperature=temperature, target_scale="sum"), expected)


def test_the_learned_distribution_is_a_softmax_over_positions():
    _, learned = random_maps()
    result = attention_distribution(learned, 0.4)
    expected = torch.exp(learned.double() / 0.4)
    torch.testing.assert_close(result.double(), expected / expected.sum(dim=(1, 2), keepdim=True), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("target_scale", TARGET_SCALES)
def test_a_map_that_is_zero_everywhere_adds_nothing_and_still_counts_in_the_mean(target_scale):
    pseudo, learned = random_maps()
    pseudo[2] = 0
    learned.requires_grad_()
    loss = attention_loss(pseudo, learned, temperature=0.4, target_scale=target_scale)
    others = attention_loss(pseudo[[0, 1, 3]], learned[[0, 1, 3]], temperature=0.4, target_scale=target_scale)
    torch.testing.assert_close(loss, others * 3 / 4)
    loss.backward()
    assert (learned.grad[2] == 0).all()
    assert (learned.grad[[0, 1, 3]].abs().amax(dim=(1, 2)) > 0).all()


@pytest.mark.parametrize("target_scale", TARGET_SCALES)
def test_a_batch_of_empty_maps_has_a_loss_of_zero_and_a_gradient_of_zero(target_scale):
    _, learned = random_maps()
    learned.requires_grad_()
    loss = attention_loss(torch.zeros(4, 5, 6), learned, temperature=0.4, target_scale=target_scale)
    assert loss.item() == 0
    loss.backward()
    assert (learned.grad == 0).all()


@pytest.mark.parametrize("target_scale", TARGET_SCALES)
def test_a_perfect_fit_costs_nothing_and_anything_else_costs_something(target_scale):
    pseudo, learned = random_maps()
    target = attention_target(pseudo, temperature=0.4, target_scale=target_scale)
    # The softmax of temperature times the logarithm is the target again; a position of weight zero is far below all.
    fitted = 0.4 * target.clamp_min(1e-30).log()
    perfect = attention_loss(pseudo, fitted, temperature=0.4, target_scale=target_scale)
    assert perfect.item() == pytest.approx(0, abs=1e-5)
    assert attention_loss(pseudo, learned, temperature=0.4, target_scale=target_scale) > 0.01


@pytest.mark.parametrize("target_scale", TARGET_SCALES)
def test_the_gradient_is_fit_minus_target_over_temperature_and_batch(target_scale):
    pseudo, learned = random_maps()
    learned.requires_grad_()
    attention_loss(pseudo, learned, temperature=0.4, target_scale=target_scale).backward()
    target = attention_target(pseudo, temperature=0.4, target_scale=target_scale)
    expected = (attention_distribution(learned, 0.4) - target) / 0.4 / 4
    torch.testing.assert_close(learned.grad, expected.detach(), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("target_scale", TARGET_SCALES)
def test_no_gradient_goes_to_the_pseudo_attention(target_scale):
    pseudo, learned = random_maps()
    pseudo.requires_grad_()
    learned.requires_grad_()
    attention_loss(pseudo, learned, temperature=0.4, target_scale=target_scale).backward()
    assert pseudo.grad is None


def test_each_image_stands_alone():
    pseudo, learned = random_maps()
    for target_scale in TARGET_SCALES:
        together = attention_target(pseudo, temperature=0.4, target_scale=target_scale)
        for index in range(4):
            alone = attention_target(pseudo[index : index + 1], temperature=0.4, target_scale=target_scale)
            torch.testing.assert_close(alone[0], together[index])
        losses = [
            attention_loss(one[None], other[None], temperature=0.4, target_scale=target_scale)
            for one, other in zip(pseudo, learned, strict=True)
        ]
        whole = attention_loss(pseudo, learned, temperature=0.4, target_scale=target_scale)
        torch.testing.assert_close(torch.stack(losses).mean(), whole)


@pytest.mark.parametrize("target_scale", TARGET_SCALES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_map_that_is_not_finite_is_not_hidden(target_scale, bad):
    pseudo, learned = random_maps()
    pseudo[1] = bad  # the whole map: one that is not a number anywhere is not empty
    assert not attention_loss(pseudo, learned, temperature=0.4, target_scale=target_scale).isfinite()


@pytest.mark.parametrize("target_scale", TARGET_SCALES)
def test_half_precision_maps_are_compared_in_single_precision(target_scale):
    pseudo, learned = random_maps()
    loss = attention_loss(pseudo.bfloat16(), learned.bfloat16(), temperature=0.4, target_scale=target_scale)
    expected = attention_loss(
        pseudo.bfloat16().float(), learned.bfloat16().float(), temperature=0.4, target_scale=target_scale
    )
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


def test_an_unknown_target_scale_is_refused_with_the_choices():
    pseudo, learned = random_maps()
    with pytest.raises(ValueError, match=r"target_scale.*'mean'.*raw, sum, max"):
        attention_loss(pseudo, learned, temperature=0.4, target_scale="mean")
