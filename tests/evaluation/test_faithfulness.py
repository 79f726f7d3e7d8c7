import pytest
import torch

from sam_core.evaluation.faithfulness import (
    baseline_images,
    cell_ranks,
    deletion_insertion,
    deletion_insertion_control,
    deletion_insertion_curves,
)

GRID = (4, 4)
SIZE = 32


def striped_images(count: int = 2) -> torch.Tensor:
    """Images of fine stripes, which both baselines turn grey."""
    stripes = (torch.arange(SIZE) % 2).float()
    return stripes.expand(count, 3, SIZE, SIZE).contiguous()


def looks_at_one_cell(images: torch.Tensor) -> torch.Tensor:
    """A classifier whose first class is the contrast in cell (1, 2) and nothing else; (B, 3, S, S) -> (B, 2)."""
    patch = images[:, :, 9:15, 17:23]  # inside the cell, off its border
    contrast = (patch.amax(dim=(1, 2, 3)) - patch.amin(dim=(1, 2, 3))).clamp(0, 1)
    return torch.stack([contrast, 1 - contrast], dim=1)


def map_of_the_cell(count: int = 2) -> torch.Tensor:
    maps = torch.full((count, *GRID), 0.1)
    maps[:, 1, 2] = 1
    return maps


@pytest.mark.parametrize("baseline", ["blur", "mean"])
def test_a_perfect_map_deletes_early_and_inserts_early_and_its_inverse_late(baseline: str):
    images, labels = striped_images(), torch.zeros(2, dtype=torch.int64)
    right = deletion_insertion(looks_at_one_cell, images, map_of_the_cell(), labels, steps=None, baseline=baseline)
    wrong = deletion_insertion(
        looks_at_one_cell, images, 1.1 - map_of_the_cell(), labels, steps=None, baseline=baseline
    )
    assert (right["deletion"] < 0.1).all()
    assert (right["insertion"] > 0.9).all()
    assert (wrong["deletion"] > 0.9).all()
    assert (wrong["insertion"] < 0.1).all()


def test_areas_have_the_values_computed_by_hand():
    """The score falls from 1 to 0 when the first of 16 cells goes, and is followed by the trapezoid rule."""
    labels = torch.zeros(1, dtype=torch.int64)
    areas = deletion_insertion(
        looks_at_one_cell, striped_images(1), map_of_the_cell(1), labels, steps=None, baseline="mean"
    )
    assert areas["deletion"].item() == pytest.approx(0.5 / 16)
    assert areas["insertion"].item() == pytest.approx(15.5 / 16)


def test_the_other_class_is_followed_where_the_label_says_so():
    labels = torch.tensor([0, 1])
    areas = deletion_insertion(looks_at_one_cell, striped_images(), map_of_the_cell(), labels, steps=8, baseline="mean")
    torch.testing.assert_close(areas["deletion"][0], 1 - areas["deletion"][1])
    torch.testing.assert_close(areas["insertion"][0], 1 - areas["insertion"][1])


def test_the_control_is_between_a_right_and_a_wrong_map():
    images, labels = striped_images(1), torch.zeros(1, dtype=torch.int64)
    control = deletion_insertion_control(looks_at_one_cell, images, GRID, labels, orders=8, steps=None)
    assert 0.1 < control["deletion"].item() < 0.9
    assert control["deletion"].item() + control["insertion"].item() == pytest.approx(1, abs=0.01)


def test_a_uniform_map_is_the_random_order_of_its_seed():
    images, labels = striped_images(1), torch.zeros(1, dtype=torch.int64)
    results = []
    for seed in range(6):
        uniform = torch.full((1, *GRID), 0.7)
        areas = deletion_insertion(looks_at_one_cell, images, uniform, labels, steps=None, seed=seed)
        control = deletion_insertion_control(looks_at_one_cell, images, GRID, labels, orders=1, steps=None, seed=seed)
        assert torch.equal(areas["deletion"], control["deletion"])
        results.append(areas["deletion"].item())
    assert len(set(results)) > 1


def test_the_control_is_the_mean_over_the_orders_of_successive_seeds():
    images, labels = striped_images(1), torch.zeros(1, dtype=torch.int64)
    uniform = torch.ones(1, *GRID)
    single = [deletion_insertion(looks_at_one_cell, images, uniform, labels, seed=seed) for seed in (5, 6, 7)]
    control = deletion_insertion_control(looks_at_one_cell, images, GRID, labels, orders=3, seed=5)
    for name, values in control.items():
        torch.testing.assert_close(values, torch.stack([areas[name] for areas in single]).mean(dim=0))


def test_curves_run_from_the_whole_image_to_the_baseline_and_back():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, SIZE, SIZE, generator=generator)
    maps = torch.rand(2, *GRID, generator=generator)
    labels = torch.tensor([0, 1])
    curves = deletion_insertion_curves(looks_at_one_cell, images, maps, labels, steps=5)
    whole = looks_at_one_cell(images)[torch.arange(2), labels]
    nothing = looks_at_one_cell(baseline_images(images, "blur", grid=GRID))[torch.arange(2), labels]
    assert torch.equal(curves.deletion[0], whole)
    assert torch.equal(curves.deletion[-1], nothing)
    assert torch.equal(curves.insertion[0], nothing)
    assert torch.equal(curves.insertion[-1], whole)
    # Fifths of 16 cells, rounded to whole ones.
    assert curves.fractions.tolist() == [count / 16 for count in (0, 3, 6, 10, 13, 16)]


def test_cells_are_exchanged_whole_and_strongest_first_at_sizes_that_do_not_divide():
    seen = []

    def score(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.clone())
        return torch.ones(len(images), 1)

    image = torch.arange(3 * 5 * 5, dtype=torch.float32).reshape(1, 3, 5, 5)
    maps = torch.tensor([[[0.0, 3.0], [2.0, 1.0]]])
    deletion_insertion_curves(score, image, maps, torch.zeros(1, dtype=torch.int64), steps=4, baseline="mean")
    mean = image.mean(dim=(2, 3), keepdim=True).expand_as(image)
    expected = image.clone()
    expected[:, :, :3, 3:] = mean[:, :, :3, 3:]  # of 5 pixels, the first cell has 3 and the second 2
    assert torch.equal(seen[2], expected)
    inserted = mean.clone()
    inserted[:, :, :3, 3:] = image[:, :, :3, 3:]
    assert torch.equal(seen[3], inserted)
    expected[:, :, 3:, :3] = mean[:, :, 3:, :3]
    assert torch.equal(seen[4], expected)


def test_a_grid_that_is_not_square_keeps_its_rows_and_columns():
    seen = []

    def score(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.clone())
        return torch.ones(len(images), 1)

    maps = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
    images = striped_images(1)[:, :, :12, :12]
    deletion_insertion_curves(score, images, maps, torch.zeros(1, dtype=torch.int64), steps=None, baseline="mean")
    changed = (seen[2] != images).any(dim=1)[0]
    assert changed[:6, 8:].all()
    assert changed.sum() == 6 * 4


def test_the_network_runs_twice_per_step_and_never_more_often_than_there_are_cells():
    calls = 0

    def score(images: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return looks_at_one_cell(images)

    arguments = (score, striped_images(), map_of_the_cell(), torch.zeros(2, dtype=torch.int64))
    deletion_insertion(*arguments, steps=5)
    assert calls == 10
    calls = 0
    deletion_insertion(*arguments, steps=1000)
    assert calls == 32


def test_a_map_of_zeros_has_no_areas_and_its_neighbours_keep_theirs():
    maps = map_of_the_cell()
    maps[0] = 0
    labels = torch.zeros(2, dtype=torch.int64)
    together = deletion_insertion(looks_at_one_cell, striped_images(), maps, labels)
    alone = deletion_insertion(looks_at_one_cell, striped_images(1), maps[1:], labels[1:])
    for name, values in together.items():
        assert values[0].isnan()
        torch.testing.assert_close(values[1:], alone[name])


def test_the_scale_of_a_map_changes_nothing():
    maps = torch.rand(2, *GRID, generator=torch.Generator().manual_seed(4))
    labels = torch.zeros(2, dtype=torch.int64)
    first = deletion_insertion(looks_at_one_cell, striped_images(), maps, labels)
    second = deletion_insertion(looks_at_one_cell, striped_images(), 1000 * maps, labels)
    assert torch.equal(first["deletion"], second["deletion"])
    assert torch.equal(first["insertion"], second["insertion"])


def test_ranks_follow_the_map_and_equal_cells_the_same_shuffle_in_every_image():
    maps = torch.tensor([[[0.0, 5.0, 0.0], [0.0, 9.0, -3.0]], [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]])
    ranks = cell_ranks(maps, seed=1)
    assert ranks[0, 1, 1] == 0
    assert ranks[0, 0, 1] == 1
    assert all(sorted(image.flatten().tolist()) == list(range(6)) for image in ranks)
    assert torch.equal(cell_ranks(maps[1:], seed=1), ranks[1:])
    tied = maps[0].clamp(min=0) == 0
    assert torch.equal(ranks[0][tied].argsort(), ranks[1][tied].argsort())
    assert any(not torch.equal(cell_ranks(maps[1:], seed=seed), ranks[1:]) for seed in range(2, 5))


def test_baselines_keep_the_mean_colour_and_lose_what_a_cell_shows():
    images = striped_images(1)
    images[:, 0] *= 0.5
    mean = baseline_images(images, "mean", grid=GRID)
    torch.testing.assert_close(mean[0, :, 7, 9], torch.tensor([0.25, 0.5, 0.5]))
    blur = baseline_images(images, "blur", grid=GRID)
    torch.testing.assert_close(blur[0, :, 16, 16], mean[0, :, 16, 16], atol=0.01, rtol=0)
    constant = torch.full((1, 3, SIZE, SIZE), 0.3)
    torch.testing.assert_close(baseline_images(constant, "blur", grid=GRID), constant)


def test_an_unknown_baseline_and_no_steps_are_refused():
    with pytest.raises(ValueError, match="blur, mean"):
        baseline_images(striped_images(), "black", grid=GRID)
    with pytest.raises(ValueError, match="steps"):
        deletion_insertion(
            looks_at_one_cell, striped_images(), map_of_the_cell(), torch.zeros(2, dtype=torch.int64), steps=0
        )


def test_no_value_is_read_by_the_host():
    """Tensors on the meta device have no values, so whatever waits for one fails there."""
    images, maps = torch.empty(2, 3, SIZE, SIZE, device="meta"), torch.empty(2, *GRID, device="meta")
    labels = torch.empty(2, dtype=torch.int64, device="meta")
    areas = deletion_insertion(looks_at_one_cell, images, maps, labels, baseline="mean")
    control = deletion_insertion_control(looks_at_one_cell, images, GRID, labels, baseline="mean")
    assert areas["deletion"].shape == control["insertion"].shape == (2,)


def test_no_gradient_is_kept():
    images = striped_images().requires_grad_()
    areas = deletion_insertion(looks_at_one_cell, images, map_of_the_cell(), torch.zeros(2, dtype=torch.int64), steps=2)
    assert not areas["deletion"].requires_grad
    assert images.grad is None
