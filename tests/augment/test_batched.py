"""A batch rendered at once is the batch rendered one by one: the views of a GPU have the distribution of a CPU's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from sam_core.augment.batched import render_batch
from sam_core.augment.operations import OPERATIONS
from sam_core.augment.rendering import train_views
from sam_core.augment.views import View, draw_view

SIDE, SIZE = 80, 70


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Six smooth colourful images, as photographs are."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 10, 10, generator=generator) * 300 - 20
    return F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 255).to(torch.uint8)


def drawn(augment: str, count: int = 6, crop_scale: float = 0.1) -> list[View]:
    return [
        draw_view(f"{augment}/{key}", augment=augment, side=SIDE, size=SIZE, crop_scale=crop_scale)
        for key in range(count)
    ]


@pytest.mark.parametrize("augment", ["none", "flip", "crop"])
def test_crops_resized_and_mirrored_are_the_same_to_a_level(augment: str, images: torch.Tensor):
    views = drawn(augment)
    differences = train_views(images, views, SIZE).int() - render_batch(images, views, SIZE).int()
    assert differences.abs().max() <= 1


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("strength", [-1 / 3, 1 / 3, 1.0])
def test_every_operation_is_the_same(name: str, strength: float, images: torch.Tensor):
    views = [View(5, 3, SIZE, SIZE, mirrored=bool(at % 2), operations=((name, strength),)) for at in range(6)]
    assert torch.equal(train_views(images, views, SIZE), render_batch(images, views, SIZE))


def test_images_with_different_operations_share_a_batch(images: torch.Tensor):
    views = [replace(view, top=5, left=3, height=SIZE, width=SIZE) for view in drawn("randaugment", count=60)]
    for start in range(0, 60, 6):
        batch = views[start : start + 6]
        assert torch.equal(train_views(images, batch, SIZE), render_batch(images, batch, SIZE))


def test_after_a_resize_the_operations_see_a_level_more_or_less(images: torch.Tensor):
    """A level is rounded either way, which `posterize` and `equalize` make several: the distribution is the same."""
    views = drawn("randaugment", count=120)
    differences = [
        (train_views(images, batch, SIZE).int() - render_batch(images, batch, SIZE).int()).float()
        for batch in (views[start : start + 6] for start in range(0, 120, 6))
    ]
    assert torch.stack(differences).abs().mean() < 0.25
    assert torch.stack(differences).mean().abs() < 0.05


def test_an_image_is_the_same_alone_and_in_a_batch(images: torch.Tensor):
    views = drawn("randaugment")
    together = render_batch(images, views, SIZE)
    for at in range(6):
        assert torch.equal(render_batch(images[at : at + 1], views[at : at + 1], SIZE)[0], together[at])


def test_memory_is_channels_last_for_the_network(images: torch.Tensor):
    rendered = render_batch(images, drawn("crop"), SIZE)
    assert rendered.dtype == torch.uint8
    assert rendered.is_contiguous(memory_format=torch.channels_last)


def test_a_view_smaller_and_larger_than_the_crop_is_that_of_an_antialiased_resize(images: torch.Tensor):
    for height, width in ((80, 80), (80, 20), (20, 80), (7, 9)):
        views = [View(0, 0, height, width)] * 6
        differences = train_views(images, views, SIZE).int() - render_batch(images, views, SIZE).int()
        assert differences.abs().max() <= 1


def test_no_view_is_a_batch_too(images: torch.Tensor):
    assert render_batch(images[:0], [], SIZE).shape == (0, 3, SIZE, SIZE)
