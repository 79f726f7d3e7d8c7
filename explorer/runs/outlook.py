"""What will happen if a run is started: how many images are labelled, and how long it will take on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from explorer.data.shelf import Shelf
from sam_core.config import RunConfig
from sam_core.datasets.base import Dataset
from sam_core.datasets.fieldguide import planned_fieldguide
from sam_core.datasets.subset import choose_labels, first_classes
from sam_core.device import choose_machine
from sam_core.models.sam_net import build_model
from sam_core.training.plan import Plan

#: Seconds from the start of a process to its first image: Python, torch, the network, and reading the images.
START_S = 8.0
SECONDS_PER_IMAGE_READ = 0.004
PROBE_IMAGES = 4


@dataclass(frozen=True)
class Outlook:
    """A run before its start. `seconds` is None where this machine's speed cannot be foretold."""

    classes: int
    labelled: int
    validation: int
    test: int
    epochs: int
    seconds: float | None
    device: str

    def in_words(self) -> str:
        """One sentence for the person who is about to press Start."""
        held_out = f", {self.validation} held out for validation" if self.validation else ""
        images = f"{self.labelled} labelled image{'s' * (self.labelled != 1)} of {self.classes} classes{held_out}"
        device = {"cpu": "this CPU", "cuda": "this GPU", "mps": "this GPU"}[self.device]
        time_needed = f"about {in_words(self.seconds)} on {device}" if self.seconds else f"on {device}"
        return f"{images}; {self.test:,} test images looked at {self.epochs + 1} times; {time_needed}."


class Forecaster:
    """Counts images and measures speeds, and remembers these."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock = threading.Lock()
        self._speeds: dict[tuple[str, int], tuple[float, float]] = {}

    def outlook(self, config: RunConfig) -> Outlook:
        """What a run of this configuration is about to do.

        Raises:
            DatasetError: if its dataset cannot be used.
        """
        dataset = first_classes(self._dataset(config), config.num_classes)
        subset = choose_labels(
            dataset, label_ratio=config.label_ratio, seed=config.split_seed, validation=config.validation
        )
        tested = len(dataset.split("test")) + len(dataset.split("swapped"))
        plan = Plan.of(config, len(subset.labelled))
        device = choose_machine(config.device, config.precision).device.type
        evaluated = len(subset.labelled) + len(subset.validation) + tested * config.test_crops
        seconds = None
        if device == "cpu":
            training, evaluating = self._seconds_per_image(config)
            trained = plan.steps * len(subset.labelled) / plan.batches_per_pass
            seconds = START_S + SECONDS_PER_IMAGE_READ * (len(subset.labelled) + tested)
            seconds += trained * training + len(plan.recording_points) * evaluated * evaluating
        return Outlook(
            len(dataset.classes), len(subset.labelled), len(subset.validation), tested, plan.epochs, seconds, device
        )

    def _dataset(self, config: RunConfig) -> Dataset:
        if config.dataset == "fieldguide":
            return planned_fieldguide(config.habitat_bias)  # known without a file, and before it is drawn
        return self._shelf.open(self._shelf.select(config)).dataset

    def _seconds_per_image(self, config: RunConfig) -> tuple[float, float]:
        """Training and evaluating one image on the CPU, measured with random weights and pixels; about a second."""
        key = (config.backbone, config.image_size)
        with self._lock:
            if key not in self._speeds:
                self._speeds[key] = _measure_speed(config)
            return self._speeds[key]


def _measure_speed(config: RunConfig) -> tuple[float, float]:
    model = build_model(backbone=config.backbone, classes=10, method="finetune", pooling="gap", attention_maps=0)
    images = torch.randn(PROBE_IMAGES, 3, config.image_size, config.image_size)
    model = model.to(memory_format=torch.channels_last)

    def train() -> None:
        model.train()
        model(images).scores.square().mean().backward()

    def evaluate() -> None:
        model.eval()
        with torch.no_grad():
            model(images)

    return _seconds(train) / PROBE_IMAGES, _seconds(evaluate) / PROBE_IMAGES


def _seconds(work: Callable[[], None]) -> float:
    """The shorter of two runs after one to warm up."""
    work()
    times = []
    for _ in range(2):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def in_words(seconds: float) -> str:
    """A rough time: `40 seconds`, `2 minutes`, `1.5 hours`."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    minutes = seconds / 60
    if minutes < 55:
        whole = max(1, round(minutes))
        return f"{whole} minute{'s' * (whole != 1)}"
    hours = minutes / 60
    return f"{hours:.1f} hours" if hours < 24 else f"{hours / 24:.1f} days"
