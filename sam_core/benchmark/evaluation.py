"""What recording adds to an evaluation, and what a ten-crop evaluation costs and decodes."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ImageFile

from sam_core.augment import view_box
from sam_core.benchmark.made_up import config_for, write_photographs
from sam_core.benchmark.rounds import interleave, milliseconds, ratio
from sam_core.benchmark.rows import Figure
from sam_core.config import RunConfig
from sam_core.datasets.on_device import DeviceImages
from sam_core.datasets.run_data import RunData, load_run_data
from sam_core.device import Machine
from sam_core.evaluation.evaluator import EvaluationGroup, evaluate_group
from sam_core.evaluation.localisation import box_coverage
from sam_core.evaluation.maps import kinds_of
from sam_core.models.backbones import data_config
from sam_core.models.sam_net import SAMNet, build_model
from sam_core.recording.writer import AttentionWriter

CLASSES = 8
#: Recording points of the made-up run: those of the default run.
POINTS = 13


def measure_recording(
    machine: Machine,
    *,
    pairs: int,
    backbone: str | None = None,
    image_size: int = 224,
    images: int | None = None,
    record_batch: Callable[..., None] | None = None,
) -> Figure:
    """Evaluation that records every image / the same evaluation without.

    With recording, one pass makes all six maps, writes them to the memory-mapped arrays of a run folder, and measures
    their agreement and their localisation in a box; without, it gives accuracy alone. `record_batch` is for tests: it
    is called with every batch beside the writer.
    """
    images = images or (48 if machine.device.type == "cpu" else 1024)
    with _workplace(machine, backbone, image_size, images) as (config, data, stored, model, normalisation):
        grid = feature_grid(model, machine, image_size)
        positions = np.array(data.groups["test"])
        generator = torch.Generator().manual_seed(0)
        corners = torch.rand(len(positions), 2, generator=generator) * 0.4
        boxes = torch.cat([corners, torch.full_like(corners, 0.5)], dim=1)
        group = EvaluationGroup(positions, np.arange(len(positions)), box_coverage(boxes, grid))
        kinds = kinds_of(config)
        points = itertools.cycle(range(POINTS))
        with tempfile.TemporaryDirectory(prefix="sam-benchmark-") as folder:
            writer = AttentionWriter.create(
                Path(folder), len(positions), kinds, grid, range(POINTS), view_box(data.store.side, image_size)
            )

            def recording() -> None:
                point = next(points)

                def record(rows: np.ndarray, *maps: Any) -> None:
                    writer.record(rows, point, *maps)
                    if record_batch:
                        record_batch(rows, *maps)

                evaluate_group(
                    model, stored, group, config, machine, normalisation=normalisation, kinds=kinds, record=record
                )
                writer.finish_point(point)

            def plain() -> None:
                evaluate_group(model, stored, group, config, machine, normalisation=normalisation, kinds=())

            seconds = interleave(
                {"recording": recording, "plain": plain}, pairs, device=machine.device, title="recording"
            )
    figure = ratio(seconds["recording"], seconds["plain"])
    details = {
        "pairs": pairs,
        "backbone": config.backbone,
        "images": len(positions),
        "maps": len(kinds),
        "recording_ms": milliseconds(seconds["recording"]),
        "plain_ms": milliseconds(seconds["plain"]),
    }
    return Figure(figure.value, figure.noise, details)


def measure_ten_crop_time(
    machine: Machine, *, pairs: int, backbone: str | None = None, image_size: int = 224, images: int | None = None
) -> Figure:
    """Time of a ten-crop evaluation / of a one-crop evaluation of the same images.

    Both take the images from memory, where loading the data has put them. Counting the decoding too would only bring
    the ratio down, for it is done once however many crops are taken. The one-crop evaluation is timed ten in a row, so
    that both sides of a pair last equally long.
    """
    images = images or (16 if machine.device.type == "cpu" else 256)
    repeat = 10
    with _workplace(machine, backbone, image_size, images) as (config, data, stored, model, normalisation):
        positions = np.array(data.groups["test"])
        group = EvaluationGroup(positions, np.full(len(positions), -1))

        def evaluation(crops: int) -> Callable[[], object]:
            chosen = replace(config, test_crops=crops)
            return lambda: evaluate_group(model, stored, group, chosen, machine, normalisation=normalisation, kinds=())

        seconds = interleave(
            {"ten": evaluation(10), "one": evaluation(1)},
            pairs,
            device=machine.device,
            repeat={"one": repeat},
            title="ten crops",
        )
    figure = ratio([repeat * value for value in seconds["ten"]], seconds["one"])
    details = {
        "pairs": pairs,
        "images": len(positions),
        "ten_crops_ms": milliseconds(seconds["ten"]),
        "one_crop_ms": milliseconds(seconds["one"], repeat),
        "decoding": "not in either time",
    }
    return Figure(figure.value, figure.noise, details)


def count_ten_crop_decodes(
    machine: Machine,
    *,
    backbone: str | None = None,
    image_size: int = 224,
    images: int = 16,
    load: Callable[[RunConfig], RunData] = load_run_data,
) -> Figure:
    """Decodes per image from opening the dataset to the end of a ten-crop evaluation of all its images."""
    with count_decodes() as count, _workplace(machine, backbone, image_size, images, load) as workplace:
        config, data, stored, model, normalisation = workplace
        config = replace(config, test_crops=10)
        for members in data.groups.values():
            group = EvaluationGroup(np.array(members), np.full(len(members), -1))
            evaluate_group(model, stored, group, config, machine, normalisation=normalisation, kinds=())
        evaluated = sum(len(members) for members in data.groups.values())
    return Figure(count.decodes / evaluated, 0.0, {"images": evaluated, "decodes": count.decodes})


class DecodeCount:
    """How many images Pillow has decoded."""

    decodes = 0


@contextmanager
def count_decodes() -> Iterator[DecodeCount]:
    """Count every decode of this process while the context lasts.

    Counted where Pillow turns a file into pixels, below all of the engine, so that no way around its reader is
    missed. A file that is opened for its size alone is not decoded and not counted.
    """
    count = DecodeCount()
    original = ImageFile.ImageFile.load

    def counting_load(image: ImageFile.ImageFile) -> Any:
        # Pillow empties the list of tiles once they are decoded: later calls of `load` find the pixels there.
        count.decodes += bool(image.tile)
        return original(image)

    ImageFile.ImageFile.load = counting_load
    try:
        yield count
    finally:
        ImageFile.ImageFile.load = original


def feature_grid(model: SAMNet, machine: Machine, image_size: int) -> tuple[int, int]:
    """Height and width of the network's feature map."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        features = model.backbone.forward_features(torch.zeros(1, 3, image_size, image_size, device=machine.device))
    model.train(was_training)
    return features.shape[2], features.shape[3]


@contextmanager
def _workplace(
    machine: Machine,
    backbone: str | None,
    image_size: int,
    images: int,
    load: Callable[[RunConfig], RunData] = load_run_data,
) -> Iterator[tuple[RunConfig, RunData, DeviceImages, SAMNet, tuple[tuple[float, ...], tuple[float, ...]]]]:
    """`images` made-up test photographs, loaded as a run loads them, and the default network for them."""
    # Windows keeps files that are mapped into memory, as the cached images are.
    with tempfile.TemporaryDirectory(prefix="sam-benchmark-", ignore_cleanup_errors=True) as folder:
        photographs = write_photographs(
            Path(folder) / "photographs", classes=CLASSES, train=1, test=-(-images // CLASSES)
        )
        batch_size = RunConfig().batch_size if machine.device.type == "cpu" else 64
        config = config_for(
            photographs,
            machine,
            backbone=backbone or RunConfig().backbone,
            batch_size=batch_size,
            image_size=image_size,
        )
        data = load(config)
        torch.manual_seed(0)
        model = build_model(
            backbone=config.backbone,
            classes=len(data.classes),
            method=config.method,
            pooling=str(config.pooling),
            attention_maps=int(config.attention_maps or 0),
        ).to(machine.device, memory_format=torch.channels_last)
        yield config, data, DeviceImages(data.store, machine.device), model, data_config(config.backbone)
