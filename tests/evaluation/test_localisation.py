import math

import pytest
import torch

from sam_core.evaluation.localisation import (
    box_coverage,
    coverage,
    localisation,
    part_hits,
    pointing_hit,
    points_in_view,
    share_inside,
    share_inside_distribution,
    uniform_localisation,
    uniform_part_hits,
    uniform_pointing,
    uniform_share,
)


def some_maps(count: int = 4, *, seed: int = 0, grid: tuple[int, int] = (5, 7)) -> torch.Tensor:
    return torch.rand(count, *grid, generator=torch.Generator().manual_seed(seed)) + 0.01


def some_coverage(count: int = 4, *, seed: int = 9, grid: tuple[int, int] = (5, 7)) -> torch.Tensor:
    return torch.rand(count, *grid, generator=torch.Generator().manual_seed(seed))


def brute_force_coverage(mask: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Enlarge every pixel to H x W little ones, so that cells and pixels align, and average."""
    fine = mask.double().repeat_interleave(grid[0], dim=1).repeat_interleave(grid[1], dim=2)
    cells = fine.reshape(len(mask), grid[0], mask.shape[1], grid[1], mask.shape[2])
    return cells.mean(dim=(2, 4)).float()


@pytest.mark.parametrize(
    ("size", "grid"),
    [((14, 14), (7, 7)), ((10, 13), (3, 7)), ((15, 16), (7, 7)), ((3, 4), (5, 7)), ((1, 1), (2, 2))],
)
def test_coverage_is_exact_where_cells_and_pixels_do_not_align(size: tuple[int, int], grid: tuple[int, int]):
    mask = torch.rand(3, *size, generator=torch.Generator().manual_seed(0)) > 0.5
    torch.testing.assert_close(coverage(mask, grid), brute_force_coverage(mask, grid), rtol=1e-6, atol=0)


def test_coverage_splits_a_pixel_between_two_cells():
    mask = torch.tensor([[[False, True, False]]])
    assert torch.equal(coverage(mask, (1, 2)), torch.tensor([[[1 / 3, 1 / 3]]]))


def test_coverage_takes_soft_masks_and_is_not_rounded_under_autocast():
    mask = torch.rand(2, 9, 11, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cells = coverage(mask, (4, 3))
    assert cells.dtype == torch.float32
    torch.testing.assert_close(cells, brute_force_coverage(mask, (4, 3)))


def test_a_full_mask_covers_every_cell_exactly():
    assert torch.equal(coverage(torch.ones(1, 223, 225, dtype=torch.bool), (7, 7)), torch.ones(1, 7, 7))


def test_box_coverage_has_the_values_computed_by_hand():
    box = torch.tensor([[0.25, 0.0, 0.5, 0.25]])
    assert torch.equal(box_coverage(box, (2, 2)), torch.tensor([[[0.25, 0.25], [0.0, 0.0]]]))


def test_box_coverage_is_that_of_the_drawn_box():
    boxes = torch.tensor([[2, 3, 7, 4], [0, 0, 20, 16], [19, 15, 1, 1]])
    masks = torch.zeros(3, 16, 20, dtype=torch.bool)
    for mask, (left, top, width, height) in zip(masks, boxes.tolist(), strict=True):
        mask[top : top + height, left : left + width] = True
    fractions = boxes / torch.tensor([20, 16, 20, 16])
    torch.testing.assert_close(box_coverage(fractions, (7, 3)), coverage(masks, (7, 3)), rtol=1e-5, atol=1e-6)


def test_what_is_outside_the_view_is_cut_off_a_box():
    boxes = torch.tensor([[-0.5, -1.0, 1.0, 3.0], [1.2, 0.0, 0.5, 1.0], [-1.0, -1.0, 3.0, 3.0]])
    expected = torch.zeros(3, 2, 2)
    expected[0, :, 0] = 1
    expected[2] = 1
    assert torch.equal(box_coverage(boxes, (2, 2)), expected)


def test_share_inside_has_the_value_computed_by_hand():
    map = torch.tensor([[[1.0, 2.0], [5.0, -7.0]]])
    object_cells = torch.tensor([[[1.0, 0.5], [0.0, 1.0]]])
    assert share_inside(map, object_cells).item() == pytest.approx(2 / 8)


def test_the_scale_of_a_map_does_not_change_what_is_inside():
    map, object_cells = some_maps(), some_coverage()
    for factor in (1e-6, 1e6):
        torch.testing.assert_close(share_inside(factor * map, object_cells), share_inside(map, object_cells))
        assert torch.equal(pointing_hit(factor * map, object_cells), pointing_hit(map, object_cells))


def test_the_scale_of_a_map_does_change_its_softmax():
    map = torch.tensor([[[0.0, 1.0]]])
    object_cells = torch.tensor([[[0.0, 1.0]]])
    e = math.exp(1 / 0.4)
    assert share_inside_distribution(map, object_cells, 0.4).item() == pytest.approx(e / (1 + e))
    assert share_inside_distribution(map / 49, object_cells, 0.4).item() == pytest.approx(0.5, abs=0.02)
    assert share_inside_distribution(map / 49, object_cells, 0.4, scale="max").item() == pytest.approx(e / (1 + e))


def test_a_uniform_map_gets_exactly_the_uniform_control():
    object_cells = some_coverage()
    uniform = torch.full_like(object_cells, 3.0)
    measures = localisation(uniform, object_cells, 0.4)
    torch.testing.assert_close(measures["inside"], uniform_share(object_cells))
    torch.testing.assert_close(measures["inside_distribution"], uniform_share(object_cells))
    assert torch.equal(measures["pointing"], uniform_pointing(object_cells))


def test_a_map_that_is_the_object_gets_one():
    object_cells = (some_coverage() > 0.5).float()
    measures = localisation(object_cells, object_cells, 0.01)
    torch.testing.assert_close(measures["inside"], torch.ones(4))
    torch.testing.assert_close(measures["inside_distribution"], torch.ones(4))
    assert torch.equal(measures["pointing"], torch.ones(4))


def test_a_map_beside_the_object_gets_zero():
    object_cells = (some_coverage() > 0.5).float()
    measures = localisation(1 - object_cells, object_cells, 0.01)
    assert torch.equal(measures["inside"], torch.zeros(4))
    assert measures["inside_distribution"].max() < 1e-6
    assert torch.equal(measures["pointing"], torch.zeros(4))


def test_the_pointing_game_needs_half_a_cell_on_the_object():
    map = torch.tensor([[[1.0, 9.0]]]).expand(3, 1, 2)
    object_cells = torch.tensor([[[0.0, 0.5]], [[1.0, 0.49]], [[0.0, 1.0]]])
    assert pointing_hit(map, object_cells).tolist() == [1, 0, 1]
    assert uniform_pointing(object_cells).tolist() == [0.5, 0.5, 0.5]


def test_a_shared_peak_hits_by_its_share():
    map = torch.tensor([[[2.0, 2.0], [2.0, 1.0]]])
    object_cells = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert pointing_hit(map, object_cells).item() == pytest.approx(1 / 3)


def test_a_map_of_zeros_has_no_localisation():
    map = some_maps(2)
    map[0] = 0
    for name, values in localisation(map, some_coverage(2), 0.4).items():
        assert values.isnan().tolist() == [True, False], name


def test_an_image_without_a_box_has_no_localisation():
    boxes = torch.tensor([[math.nan] * 4, [0.1, 0.1, 0.8, 0.8]])
    object_cells = box_coverage(boxes, (5, 7))
    measures = localisation(some_maps(2), object_cells, 0.4)
    measures |= {"share": uniform_share(object_cells), "control": uniform_pointing(object_cells)}
    for name, values in measures.items():
        assert values.isnan().tolist() == [True, False], name


def test_parts_are_hit_in_the_strongest_cells():
    map = torch.zeros(1, 5, 5)
    map[0, 1, :] = torch.arange(5.0) + 1  # the strongest fifth of the cells is this row
    points = torch.tensor([[[0.1, 0.3], [0.9, 0.39], [0.5, 0.41], [0.5, 0.1], [math.nan, math.nan]]])
    assert part_hits(map, points).item() == 0.5


def test_parts_outside_the_view_do_not_count_and_edges_belong_to_the_last_cell():
    map = torch.zeros(1, 2, 2)
    map[0, 1, 1] = 1
    points = torch.tensor([[[1.0, 1.0], [1.2, 0.9], [0.9, -0.1]]])
    assert part_hits(map, points, share=0.25).item() == 1


def test_part_hits_are_nan_without_a_visible_part_or_an_order():
    nothing = torch.full((1, 2, 2), math.nan)
    assert part_hits(some_maps(1), nothing).isnan().all()
    assert part_hits(torch.ones(1, 3, 3), torch.full((1, 2, 2), 0.5)).isnan().all()


def test_the_control_of_part_hits_is_the_share_of_cells():
    assert uniform_part_hits((7, 7)) == 10 / 49
    # A part in every cell is hit exactly as often.
    y, x = torch.meshgrid((torch.arange(7) + 0.5) / 7, (torch.arange(7) + 0.5) / 7, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten()], dim=1)[None]
    assert part_hits(some_maps(1, grid=(7, 7)), points).item() == pytest.approx(10 / 49)


def test_each_image_stands_alone():
    map, object_cells = some_maps(), some_coverage()
    map[1] = 0
    points = torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(3))
    together = localisation(map, object_cells, 0.4) | {"parts": part_hits(map, points)}
    for i in range(4):
        one = slice(i, i + 1)
        alone = localisation(map[one], object_cells[one], 0.4) | {"parts": part_hits(map[one], points[one])}
        for name, values in alone.items():
            torch.testing.assert_close(values, together[name][one], equal_nan=True, msg=name)


def test_no_value_is_read_by_the_host():
    """Tensors on the meta device have no values, so whatever waits for one fails there."""
    maps = torch.empty(2, 5, 7, device="meta")
    object_cells = box_coverage(torch.empty(2, 4, device="meta"), (5, 7))
    assert all(values.shape == (2,) for values in localisation(maps, object_cells, 0.4).values())
    assert part_hits(maps, torch.empty(2, 3, 2, device="meta")).shape == (2,)


def test_all_measures_of_an_image_and_their_control_have_the_same_names_and_holes():
    map, object_cells = some_maps(), some_coverage()
    object_cells[1] = float("nan")  # an image whose object is not known
    parts = torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(2))
    parts[2] = float("nan")  # one whose parts are not
    measures = localisation(map, object_cells, 0.4, parts=parts)
    control = uniform_localisation(object_cells, parts=parts)
    assert measures.keys() == control.keys() | {"inside_distribution"}
    torch.testing.assert_close(measures["parts"], part_hits(map, parts), equal_nan=True)
    for name, unknown in (("inside", 1), ("pointing", 1), ("parts", 2)):
        for values in (measures[name], control[name]):
            assert values.isnan().tolist() == [at == unknown for at in range(4)]
    assert control["parts"][0].item() == pytest.approx(uniform_part_hits((5, 7)))
    assert "parts" not in localisation(map, object_cells, 0.4)
    assert "parts" not in uniform_localisation(object_cells)


def test_points_move_into_the_view():
    points = torch.tensor([[0.5, 0.5], [0.0, 1.0], [float("nan"), 0.5]])
    moved = points_in_view(points, (0.25, 0.0, 0.5, 0.5))
    torch.testing.assert_close(moved, torch.tensor([[0.5, 1.0], [-0.5, 2.0], [float("nan"), 1.0]]), equal_nan=True)
