import math

import pytest
import torch

from sam_core.evaluation.agreement import (
    agreement,
    as_distribution,
    cosine_similarity,
    kl_divergence,
    mix_with_uniform,
    top_cell_count,
    top_cells,
    top_share_iou,
)


def some_maps(count: int = 3, *, seed: int = 0, grid: tuple[int, int] = (4, 5)) -> torch.Tensor:
    return torch.rand(count, *grid, generator=torch.Generator().manual_seed(seed)) + 0.01


def test_sum_scale_gives_each_cell_its_share():
    map = torch.tensor([[[1.0, 3.0], [0.0, 4.0]]])
    assert torch.equal(as_distribution(map), torch.tensor([[[0.125, 0.375], [0.0, 0.5]]]))


def test_negative_values_count_as_zero():
    map = torch.tensor([[[1.0, -3.0], [0.0, 3.0]]])
    assert torch.equal(as_distribution(map), torch.tensor([[[0.25, 0.0], [0.0, 0.75]]]))


def test_softmax_scale_feels_the_size_of_a_map_and_max_scale_does_not():
    map = torch.tensor([[[math.log(2.0), 0.0]]])
    torch.testing.assert_close(as_distribution(map, temperature=1.0, scale="softmax"), torch.tensor([[[2 / 3, 1 / 3]]]))
    torch.testing.assert_close(as_distribution(map, temperature=0.5, scale="softmax"), torch.tensor([[[0.8, 0.2]]]))
    one_scale = as_distribution(map, temperature=0.4, scale="max")
    torch.testing.assert_close(one_scale, as_distribution(1000 * map, temperature=0.4, scale="max"))
    e = math.exp(1 / 0.4)
    torch.testing.assert_close(one_scale, torch.tensor([[[e / (e + 1), 1 / (e + 1)]]]))


@pytest.mark.parametrize("scale", ["sum", "softmax", "max"])
def test_every_distribution_adds_up_to_one_in_half_precision_too(scale: str):
    shares = as_distribution(some_maps().half(), temperature=0.4, scale=scale)
    assert shares.dtype == torch.float32
    torch.testing.assert_close(shares.sum(dim=(1, 2)), torch.ones(3))


def test_a_map_of_zeros_has_no_shares_but_a_uniform_softmax():
    zeros = torch.zeros(1, 2, 2)
    assert as_distribution(zeros).isnan().all()
    for scale in ("softmax", "max"):
        assert torch.equal(as_distribution(zeros, temperature=0.4, scale=scale), torch.full((1, 2, 2), 0.25))


def test_a_softmax_needs_a_temperature_and_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="temperature"):
        as_distribution(some_maps(), scale="softmax")
    with pytest.raises(ValueError, match="temperature"):
        as_distribution(some_maps(), scale="max", temperature=0)
    with pytest.raises(ValueError, match="sum, softmax, max"):
        as_distribution(some_maps(), scale="raw")


def test_kl_divergence_has_the_value_computed_by_hand():
    target = torch.tensor([[[0.5, 0.5]], [[1.0, 0.0]], [[0.25, 0.75]]])
    learned = torch.tensor([[[0.25, 0.75]], [[0.5, 0.5]], [[0.25, 0.75]]])
    expected = [0.5 * math.log(2) + 0.5 * math.log(2 / 3), math.log(2), 0.0]
    assert kl_divergence(target, learned).tolist() == pytest.approx(expected, abs=1e-7)


def test_kl_divergence_is_that_of_torch():
    target = as_distribution(some_maps(seed=1))
    learned = as_distribution(some_maps(seed=2))
    expected = torch.nn.functional.kl_div(learned.log(), target, reduction="none").sum(dim=(1, 2))
    torch.testing.assert_close(kl_divergence(target, learned), expected)


def test_kl_divergence_is_infinite_where_the_learned_map_misses_mass_and_a_uniform_share_makes_it_finite():
    target = torch.tensor([[[0.5, 0.5]]])
    learned = torch.tensor([[[1.0, 0.0]]])
    assert kl_divergence(target, learned).isinf().all()
    mixed = kl_divergence(mix_with_uniform(target), mix_with_uniform(learned))
    assert mixed.item() == pytest.approx(0.5 * math.log(0.5 / 0.995) + 0.5 * math.log(0.5 / 0.005), rel=1e-5)


def test_cosine_has_the_value_computed_by_hand():
    p = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]], [[2.0, -9.0]]])
    q = torch.tensor([[[4.0, 3.0]], [[0.0, 1.0]], [[5.0, 0.0]]])
    torch.testing.assert_close(cosine_similarity(p, q), torch.tensor([24 / 25, 0.0, 1.0]))


def test_cosine_survives_values_whose_squares_vanish():
    map = some_maps()
    torch.testing.assert_close(cosine_similarity(map * 1e-30, map), torch.ones(3))


def test_the_top_cells_are_exactly_the_share_rounded_up():
    assert top_cell_count(49) == 10
    assert top_cell_count(25) == 5
    assert top_cell_count(100, 0.07) == 7
    assert top_cell_count(3, 1.0) == 3
    map = some_maps(grid=(7, 7))
    chosen = top_cells(map)
    assert chosen.sum(dim=(1, 2)).tolist() == [10, 10, 10]
    assert all(map[i][chosen[i]].min() > map[i][~chosen[i]].max() for i in range(3))


def test_equal_cells_are_taken_in_reading_order():
    map = torch.tensor([[[0.0, 1.0, 1.0], [1.0, 0.0, 2.0]]])
    assert top_cells(map, 0.5).tolist() == [[[False, True, True], [False, False, True]]]


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_outside_its_range_is_refused(share: float):
    with pytest.raises(ValueError, match="share"):
        top_cells(some_maps(), share)


def test_overlap_has_the_value_computed_by_hand():
    p = torch.tensor([[[9.0, 8.0, 1.0, 0.0, 0.0]]])
    q = torch.tensor([[[9.0, 0.0, 1.0, 0.0, 0.5]]])
    assert top_share_iou(p, q, 0.4).item() == pytest.approx(1 / 3)
    assert top_share_iou(p, p, 0.4).item() == 1
    assert top_share_iou(p, p.flip(2), 0.4).item() == 0


def test_overlap_of_a_constant_map_is_nan():
    maps = torch.stack([torch.zeros(3, 3), torch.ones(3, 3), torch.arange(9.0).reshape(3, 3)])
    other = some_maps(grid=(3, 3))
    assert top_share_iou(maps, other).isnan().tolist() == [True, True, False]
    assert top_share_iou(other, maps).isnan().tolist() == [True, True, False]


def test_a_map_agrees_with_itself_at_any_scale():
    map = some_maps()
    measures = agreement(map, 49 * map, temperature=0.4)
    torch.testing.assert_close(measures["kl"], torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(measures["cosine"], torch.ones(3))
    assert torch.equal(measures["iou"], torch.ones(3))


def test_on_the_softmax_scale_a_map_and_its_multiple_disagree():
    map = some_maps()
    assert (agreement(map, 49 * map, temperature=0.4, scale="softmax")["kl"] > 0.1).all()
    assert (agreement(map, 49 * map, temperature=0.4, scale="max")["kl"] < 1e-6).all()


def test_the_scale_of_either_map_changes_no_recorded_measure():
    p, q = some_maps(seed=3), some_maps(seed=4)
    expected = agreement(p, q, temperature=0.4)
    scaled = agreement(1000 * p, q / 1000, temperature=0.4)
    for name, values in expected.items():
        torch.testing.assert_close(scaled[name], values, msg=name)


def test_maps_without_a_common_cell_disagree_as_much_as_is_possible():
    p, q = torch.zeros(1, 7, 7), torch.zeros(1, 7, 7)
    p[0, 0, 0] = 1
    q[0, 6, 6] = 1
    measures = agreement(p, q, temperature=0.4)
    floor = 0.01 / 49
    assert measures["kl"].item() == pytest.approx(0.99 * math.log((0.99 + floor) / floor), rel=1e-4)
    assert measures["kl"].item() < 8.5
    assert measures["cosine"].item() == 0


def test_a_map_of_zeros_agrees_with_nothing_on_every_scale():
    maps = some_maps(2)
    maps[0] = 0
    for scale in ("sum", "softmax", "max"):
        for measures in (
            agreement(maps, some_maps(2), temperature=0.4, scale=scale),
            agreement(some_maps(2), maps, temperature=0.4, scale=scale),
        ):
            for name, values in measures.items():
                assert values.isnan().tolist() == [True, False], (name, scale)


def test_a_map_that_is_not_finite_gives_nan():
    maps = some_maps(3)
    maps[0, 1, 1] = math.nan
    maps[1, 1, 1] = math.inf
    for name, values in agreement(maps, some_maps(3, seed=8), temperature=0.4).items():
        assert values.isnan().tolist() == [True, True, False], name


def test_each_image_stands_alone():
    p, q = some_maps(4, seed=5), some_maps(4, seed=6)
    p[2] = 0
    together = agreement(p, q, temperature=0.4)
    for i in range(4):
        for name, values in agreement(p[i : i + 1], q[i : i + 1], temperature=0.4).items():
            torch.testing.assert_close(values, together[name][i : i + 1], equal_nan=True, msg=name)


def test_no_value_is_read_by_the_host():
    """Tensors on the meta device have no values, so whatever waits for one fails there."""
    maps = torch.empty(2, 4, 5, device="meta")
    for scale in ("sum", "softmax", "max"):
        assert all(values.shape == (2,) for values in agreement(maps, maps, temperature=0.4, scale=scale).values())
