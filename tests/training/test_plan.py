"""The course of a run is known before its first step, and does not depend on when it was interrupted."""

from __future__ import annotations

import math

import pytest

from sam_core.config import build_config
from sam_core.training.optimiser import attention_weight_at, learning_rate_factor
from sam_core.training.plan import Plan


def test_every_pass_shows_every_image_once_in_even_batches():
    plan = Plan.of(build_config({"epochs": 3, "batch_size": 16}), 40)
    assert (plan.steps_per_epoch, plan.steps, plan.epochs) == (3, 9, 3)
    for number in range(3):
        batches = [plan.batch(step) for step in range(3 * number, 3 * number + 3)]
        assert {pass_number for pass_number, _ in batches} == {number}
        assert sorted(place for _, places in batches for place in places) == list(range(40))
        assert sorted(len(places) for _, places in batches) == [13, 13, 14]
        assert [len(places) for _, places in batches] == [plan.images_in(3 * number + step) for step in range(3)]


def test_passes_differ_in_order_and_seeds_differ():
    plan = Plan.of(build_config({"epochs": 3, "batch_size": 40}), 40)
    other = Plan.of(build_config({"epochs": 3, "batch_size": 40, "seed": 1}), 40)
    assert len({tuple(plan.batch(step)[1]) for step in range(3)} | {tuple(other.batch(0)[1])}) == 4


def test_a_run_of_e_epochs_has_e_plus_one_recording_points():
    plan = Plan.of(build_config({"epochs": 5}), 40)
    assert plan.recording_points == (0, 1, 2, 3, 4, 5)


def test_the_last_epoch_is_recorded_whatever_the_interval():
    plan = Plan.of(build_config({"epochs": 7, "eval_every": 3}), 40)
    assert plan.recording_points == (0, 3, 6, 7)


def test_iterations_are_grouped_into_epochs_of_eval_every():
    plan = Plan.of(build_config({"iterations": 2500, "eval_every": 1000, "batch_size": 24}), 600)
    assert (plan.epochs, plan.recording_points) == (3, (0, 1, 2, 3))
    assert [plan.steps_until(epoch) for epoch in range(4)] == [0, 1000, 2000, 2500]
    assert plan.batch(25)[0] == 1  # 25 batches of 24 make one pass over 600 images


@pytest.mark.parametrize("images", [1, 2, 15, 16, 17])
def test_a_handful_of_images_is_enough(images: int):
    plan = Plan.of(build_config({"epochs": 1, "batch_size": 16}), images)
    seen = [place for step in range(plan.steps) for place in plan.batch(step)[1]]
    assert sorted(seen) == list(range(images))


def test_multistep_divides_by_ten_at_the_released_iterations():
    paper = build_config(preset="paper")
    factors = [learning_rate_factor(step, 30_000, paper) for step in (0, 5999, 6000, 11_999, 12_000, 18_000, 24_000)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 1e-3, 1e-4])


def test_cosine_falls_from_one_to_nearly_nothing():
    config = build_config()
    factors = [learning_rate_factor(step, 100, config) for step in range(100)]
    assert factors[0] == 1
    assert factors[50] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))
    assert factors == sorted(factors, reverse=True)


def test_the_attention_weight_warms_up_and_stays():
    config = build_config({"warmup": 0.1, "attention_weight": 0.3})
    weights = [attention_weight_at(step, 100, config) for step in range(100)]
    assert weights[0] == pytest.approx(0.03)
    assert weights[9:] == [0.3] * 91
    assert attention_weight_at(0, 100, build_config({"warmup": 0.0, "attention_weight": 0.3})) == 0.3
