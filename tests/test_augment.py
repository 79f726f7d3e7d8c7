"""Views: drawn from three numbers, rendered without a neighbour's influence."""

from __future__ import annotations

import pytest
import torch

from sam_core.augment import OPERATIONS, View, centre_views, draw_view, normalise, ten_crop_views, train_views, view_box


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=generator)


def view(key: str, augment: str = "randaugment") -> View:
    return draw_view(key, augment=augment, side=64, size=56, crop_scale=0.2)


def test_a_view_depends_on_its_key_alone():
    assert view("0/1/2") == view("0/1/2")
    assert len({view(f"0/1/{index}") for index in range(20)}) == 20


def test_an_image_is_rendered_alike_alone_and_in_a_batch(images: torch.Tensor):
    views = [view(f"{index}") for index in range(4)]
    together = train_views(images, views, 56)
    for index in range(4):
        assert torch.equal(train_views(images[index : index + 1], views[index : index + 1], 56)[0], together[index])


def test_without_augmentation_the_training_view_is_the_test_view(images: torch.Tensor):
    views = [view(str(index), "none") for index in range(4)]
    assert torch.equal(train_views(images, views, 56), centre_views(images, 56))


def test_crops_stay_inside_and_keep_at_least_the_smallest_area():
    for index in range(500):
        drawn = view(str(index), "crop")
        assert drawn.top >= 0
        assert drawn.left >= 0
        assert drawn.top + drawn.height <= 64
        assert drawn.left + drawn.width <= 64
        assert drawn.height * drawn.width >= 0.18 * 64 * 64  # whole pixels round a little


def test_half_of_the_views_are_mirrored():
    mirrored = sum(view(str(index), "flip").mirrored for index in range(1000))
    assert 440 < mirrored < 560


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_shape_and_type_and_most_change_the_image(images: torch.Tensor, name: str):
    for strength in (-1 / 3, 1 / 3):
        changed = OPERATIONS[name](images[0], strength)
        assert changed.shape == images[0].shape
        assert changed.dtype == torch.uint8
    if name not in ("identity", "autocontrast"):
        assert not torch.equal(OPERATIONS[name](images[0], 1.0), images[0])


def test_ten_crops_are_corners_and_centre_each_with_its_mirror_image(images: torch.Tensor):
    crops = ten_crop_views(images, 56)
    assert crops.shape == (10, 4, 3, 56, 56)
    assert torch.equal(crops[0], centre_views(images, 56))
    assert torch.equal(crops[1], images[..., :56, :56])
    assert torch.equal(crops[4], images[..., 8:, 8:])
    assert torch.equal(crops[5], crops[0].flip(-1))


def test_normalisation_is_that_of_the_weights(images: torch.Tensor):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(normalise(images, mean, std), expected, rtol=1e-5, atol=1e-5)


def test_the_view_box_is_the_centre_in_fractions():
    assert view_box(256, 224) == (0.0625, 0.0625, 0.875, 0.875)
