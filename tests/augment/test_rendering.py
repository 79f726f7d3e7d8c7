"""Views are rendered without a neighbour's influence."""

from __future__ import annotations

import pytest
import torch

from sam_core.augment import View, centre_views, draw_view, normalise, ten_crop_views, train_views


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=generator)


def view(key: str, augment: str = "randaugment") -> View:
    return draw_view(key, augment=augment, side=64, size=56, crop_scale=0.2)


def test_an_image_is_rendered_alike_alone_and_in_a_batch(images: torch.Tensor):
    views = [view(f"{index}") for index in range(4)]
    together = train_views(images, views, 56)
    for index in range(4):
        assert torch.equal(train_views(images[index : index + 1], views[index : index + 1], 56)[0], together[index])


def test_without_augmentation_the_training_view_is_the_test_view(images: torch.Tensor):
    views = [view(str(index), "none") for index in range(4)]
    assert torch.equal(train_views(images, views, 56), centre_views(images, 56))


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
