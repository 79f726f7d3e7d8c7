"""Object masks at the stored size: where the object is, read once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam_core.benchmark.evaluation import count_decodes
from sam_core.datasets.base import Sample
from sam_core.datasets.masks import MaskStore

SIDE = 10  # 100 pixels: not a whole number of bytes


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Masks of three values, 0 to 2, whose regions differ; the last sample has none."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.fromarray(generator.integers(0, 3, (21, 33), dtype=np.uint8)).save(path)
        found.append(Sample(f"{number}", tmp_path / "any.jpg", 0, "train", mask_path=path))
    return [*found, Sample("none", tmp_path / "any.jpg", 0, "train")]


def expected(sample: Sample, first: int, last: int) -> torch.Tensor:
    values = np.asarray(Image.open(sample.mask_path).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    return torch.from_numpy((values >= first) & (values <= last))


@pytest.mark.parametrize("cached", [False, True])
def test_a_mask_is_set_where_the_nearest_pixel_is_on_the_object(cached: bool, samples: list[Sample], cache_root: Path):
    for _ in range(2):
        masks = MaskStore(samples, SIDE, cache_root=cache_root if cached else None)
        assert len(masks) == 4
        for row in range(3):
            assert torch.equal(masks[row], expected(samples[row], 1, 255))
        assert masks[3] is None


def test_the_values_on_the_object_are_each_samples_own(samples: list[Sample], cache_root: Path):
    samples[1] = replace(samples[1], mask_on=(2, 2))
    again = [replace(sample, mask_on=(1, 1)) for sample in samples]
    masks = MaskStore(samples, SIDE, cache_root=cache_root)
    assert torch.equal(masks[0], expected(samples[0], 1, 255))
    assert torch.equal(masks[1], expected(samples[1], 2, 2))
    assert torch.equal(MaskStore(again, SIDE, cache_root=cache_root)[1], expected(samples[1], 1, 1))


def test_a_second_start_decodes_no_mask(samples: list[Sample], cache_root: Path):
    for decodes in (3, 0):
        with count_decodes() as count:
            MaskStore(samples, SIDE, cache_root=cache_root)
        assert count.decodes == decodes


def test_a_mask_that_cannot_be_read_is_named_and_not_there(samples: list[Sample], cache_root: Path):
    samples[0].mask_path.write_bytes(samples[0].mask_path.read_bytes()[:60])
    Image.new("RGB", (4, 4), "red").save(samples[1].mask_path)
    samples[2].mask_path.unlink()
    for _ in range(2):
        masks = MaskStore(samples, SIDE, cache_root=cache_root)
        assert [masks[row] for row in range(4)] == [None] * 4
        said = {problem.path: (problem.kind, problem.detail) for problem in masks.problems}
        assert said["0"][0] == "truncated mask"
        assert said["1"] == ("unreadable mask", "a mask must have one channel, or be grey in all")
        assert said["2"] == ("unreadable mask", "the file does not exist")


def test_a_photograph_that_is_also_a_mask_is_two_things(samples: list[Sample], cache_root: Path):
    from sam_core.datasets.store import ImageStore

    both = [replace(sample, path=sample.mask_path) for sample in samples[:3]]
    assert len(ImageStore(both, SIDE, cache_root=cache_root)) == 3
    assert torch.equal(MaskStore(both, SIDE, cache_root=cache_root)[0], expected(both[0], 1, 255))
