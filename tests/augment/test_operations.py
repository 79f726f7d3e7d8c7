"""RandAugment's operations."""

from __future__ import annotations

import pytest
import torch

from sam_core.augment.operations import CHANGES, MOTIONS, OPERATIONS, apply


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=generator)


def test_every_operation_that_can_be_drawn_is_a_motion_or_a_change():
    assert sorted(OPERATIONS) == sorted([*MOTIONS, *CHANGES])


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_shape_and_type_and_most_change_the_image(images: torch.Tensor, name: str):
    for strength in (-1 / 3, 1 / 3):
        changed = apply(name, images[0], strength)
        assert changed.shape == images[0].shape
        assert changed.dtype == torch.uint8
    if name not in ("identity", "autocontrast"):
        assert not torch.equal(apply(name, images[0], 1.0), images[0])
