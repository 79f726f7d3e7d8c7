"""Images that stay on a device: the same images, brought there once, as many as it has room for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sam_core.datasets.base import Sample
from sam_core.datasets.on_device import DeviceImages
from sam_core.datasets.store import ImageStore

CPU = torch.device("cpu")


class CountingStore(ImageStore):
    """Remembers which images were asked for."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.asked: list[int] = []

    def take(self, positions: torch.Tensor) -> torch.Tensor:
        self.asked += positions.tolist()
        return super().take(positions)


@pytest.fixture
def store(shared_photographs: Path) -> CountingStore:
    paths = sorted((shared_photographs / "train").rglob("*.png"))
    samples = [Sample(f"{path.parent.name}/{path.name}", path, at % 3, "train") for at, path in enumerate(paths)]
    return CountingStore(samples, 32)


def batches(count: int, size: int = 4, seed: int = 0) -> list[torch.Tensor]:
    order = np.random.default_rng(seed).permutation(count)
    return [torch.from_numpy(order[start : start + size]) for start in range(0, count, size)]


@pytest.mark.parametrize("room", [None, 0, 3, 10, 18, 1000])
def test_images_and_labels_are_those_of_the_store_whatever_there_is_room_for(room: int | None, store: CountingStore):
    images = DeviceImages(store, CPU, room=room)
    for seed in range(3):
        for positions in batches(len(store), seed=seed):
            taken, labels = images.take(positions)
            assert torch.equal(taken, ImageStore.take(store, positions))
            assert labels.tolist() == store.labels[positions].tolist()
            assert taken.is_contiguous(memory_format=torch.channels_last)


def test_with_room_an_image_leaves_the_store_once(store: CountingStore):
    images = DeviceImages(store, CPU, room=len(store))
    for seed in range(3):
        for positions in batches(len(store), seed=seed):
            images.take(positions)
    assert sorted(store.asked) == list(range(len(store)))


def test_the_first_have_a_place_and_the_others_are_brought_each_time(store: CountingStore):
    images = DeviceImages(store, CPU, room=8)
    for _ in range(2):
        for positions in torch.arange(len(store)).split(4):
            images.take(positions)
    assert store.asked == [*range(len(store)), *range(8, len(store))]


def test_what_was_taken_is_the_callers_own(store: CountingStore):
    images = DeviceImages(store, CPU, room=len(store))
    positions = torch.tensor([0, 1])
    before = images.take(positions)[0].clone()
    images.take(positions)[0].zero_()
    assert torch.equal(images.take(positions)[0], before)


def test_no_image_is_a_batch_too(store: CountingStore):
    taken, labels = DeviceImages(store, CPU, room=4).take(torch.tensor([], dtype=torch.long))
    assert (taken.shape, labels.shape) == ((0, 3, 32, 32), (0,))


def test_a_cpu_keeps_nothing(store: CountingStore):
    assert DeviceImages(store, CPU).room == 0
