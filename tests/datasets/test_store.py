"""The decoded images of a run: what the network sees is what is in the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sam_core.datasets.base import Sample
from sam_core.datasets.images import read_image
from sam_core.datasets.store import ImageStore

SIDE = 24


def samples_of(folder: Path) -> list[Sample]:
    paths = sorted(folder.rglob("*.png"))
    return [Sample(f"{path.parent.name}/{path.name}", path, label % 3, "train") for label, path in enumerate(paths)]


def plain(path: Path) -> torch.Tensor:
    """(3, side, side), by the shortest way."""
    image = read_image(path).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def test_images_are_taken_in_the_order_asked_for(photographs: Path):
    samples = samples_of(photographs / "train")
    store = ImageStore(samples, SIDE)
    positions = [3, 0, 3, 11]
    taken = store.take(torch.tensor(positions))
    assert taken.dtype == torch.uint8
    assert taken.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(taken, torch.stack([plain(samples[position].path) for position in positions]))


def test_a_batch_is_a_copy_that_may_be_written_to(photographs: Path, cache_root: Path):
    store = ImageStore(samples_of(photographs / "train"), SIDE, cache_root=cache_root)
    before = store.take(torch.tensor([0])).clone()
    store.take(torch.tensor([0])).zero_()
    assert torch.equal(store.take(torch.tensor([0])), before)


def test_a_cached_store_gives_the_same_images_to_the_bit(photographs: Path, cache_root: Path):
    samples = samples_of(photographs / "train")
    everything = torch.arange(len(samples))
    expected = ImageStore(samples, SIDE).take(everything)
    for _ in range(2):
        assert torch.equal(ImageStore(samples, SIDE, cache_root=cache_root).take(everything), expected)


def test_a_reduced_jpeg_is_cached_as_it_is_decoded(tmp_path: Path, cache_root: Path):
    Image.effect_noise((301, 203), 80).convert("RGB").save(tmp_path / "large.jpg")
    samples = [Sample("large", tmp_path / "large.jpg", 0, "train")]
    stores = [ImageStore(samples, SIDE), *(ImageStore(samples, SIDE, cache_root=cache_root) for _ in range(2))]
    first, *others = [store.take(torch.tensor([0])) for store in stores]
    assert all(torch.equal(other, first) for other in others)


def test_what_cannot_be_read_is_left_out_and_named_at_every_start(photographs: Path, cache_root: Path):
    samples = samples_of(photographs / "train")
    samples[1].path.write_text("no photograph")
    for _ in range(2):
        store = ImageStore(samples, SIDE, cache_root=cache_root)
        assert len(store) == len(samples) - 1
        assert [(problem.kind, problem.path) for problem in store.problems] == [("unreadable image", samples[1].id)]
        assert samples[1].id not in store.index
        assert store.labels.tolist() == [sample.label for sample in samples if sample is not samples[1]]
        last = store.index[samples[-1].id]
        assert torch.equal(store.take(torch.tensor([last]))[0], plain(samples[-1].path))
