"""Everything that can be said of a trained run: accuracy, confusion, agreement, localisation, faithfulness.

What is cheap is measured after each epoch of training already; this is the whole, on request, of the last epoch's (or
a kept epoch's) weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from sam_core.augment import centre_views, normalise
from sam_core.config import RunConfig
from sam_core.datasets.on_device import DeviceImages
from sam_core.datasets.run_data import RunData, load_run_data
from sam_core.device import Machine, choose_machine
from sam_core.evaluation.accuracy import confusion_matrix, per_class_accuracy
from sam_core.evaluation.evaluator import NanMean, evaluate_group
from sam_core.evaluation.faithfulness import deletion_insertion, deletion_insertion_control
from sam_core.evaluation.groups import build_groups, choose_recorded
from sam_core.evaluation.maps import kinds_of, recorded_maps
from sam_core.models.backbones import data_config
from sam_core.models.sam_net import SAMNet
from sam_core.recording.reader import Run

Progress = Callable[[str, int, int], None]

#: The maps whose faithfulness is measured, where the run has them.
FAITHFULNESS_MAPS = ("cam", "gradcam", "learned", "energy")
FAITHFULNESS_BATCH = 16


def evaluate_run(
    run: Run,
    *,
    epoch: int | None = None,
    test_crops: int | None = None,
    attention: bool = False,
    faithfulness_images: int = 64,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a run's weights on the images that it recorded and tested.

    Args:
        run: a finished run, or one that kept the epoch's weights.
        epoch: a kept epoch; by default the last.
        test_crops: 1 or 10; by default as the run was configured.
        attention: also measure agreement and localisation of the maps, and their faithfulness, which takes many
            passes of the network.
        faithfulness_images: over how many test images faithfulness is averaged, evenly from all classes.
        device: as in the configuration.
        progress: takes the task, how many images are done, and of how many.

    Returns:
        Accuracies in percent by group (`train`, `validation`, `test`, `swapped`), `per_class` and `confusion` of the
        test images, and with `attention` its measures by group.
    """
    config = replace(run.config, test_crops=test_crops or run.config.test_crops, device=device)
    machine = choose_machine(config.device, config.precision)
    model = run.model(epoch).to(machine.device, memory_format=torch.channels_last)
    data = load_run_data(config, progress)
    images = DeviceImages(data.store, machine.device)
    grid = tuple(run.attention_meta["grid"])
    groups = build_groups(data, choose_recorded(data, None), image_size=config.image_size, grid=grid)
    kinds = kinds_of(config) if attention else ()

    total, done = sum(len(group.positions) for group in groups.values()), 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if progress:
            progress("evaluating", done, total)

    result: dict[str, Any] = {
        "run": str(run.folder),
        "epoch": run.status["epoch"] if epoch is None else epoch,
        "test_crops": config.test_crops,
    }
    measures: dict[str, Any] = {}
    for name, group in groups.items():
        found = evaluate_group(
            model, images, group, config, machine,
            normalisation=data_config(config.backbone), kinds=kinds, keep_scores=name == "test", progress=advance,
        )  # fmt: skip
        result["train" if name == "labelled" else name] = found.accuracy
        if found.attention:
            measures[name] = found.attention
        if found.scores is not None and found.labels is not None:
            confusion = confusion_matrix(found.scores.argmax(dim=1), found.labels, len(data.classes))
            result["per_class"] = dict(zip(data.classes, per_class_accuracy(confusion).tolist(), strict=True))
            result["confusion"] = confusion.tolist()
    if attention:
        measures["test"]["faithfulness"] = _faithfulness(
            model, data, images, config, machine, grid, faithfulness_images, progress
        )
        result["attention"] = measures
    return result


def _faithfulness(
    model: SAMNet,
    data: RunData,
    images: DeviceImages,
    config: RunConfig,
    machine: Machine,
    grid: tuple[int, int],
    number: int,
    progress: Progress | None,
) -> dict[str, Any]:
    """Deletion and insertion AUC of every map for the true label, beside random orders of the cells."""
    recorded = choose_recorded(replace_groups(data, "test"), number)
    positions = torch.tensor([position for _, position in recorded])
    kinds = tuple(kind for kind in FAITHFULNESS_MAPS if kind in kinds_of(config))
    means = NanMean()
    normalisation = data_config(config.backbone)

    def probabilities(views: torch.Tensor) -> torch.Tensor:
        with machine.autocast():
            return model(views).scores.float().softmax(dim=1)

    for start in range(0, len(positions), FAITHFULNESS_BATCH):
        chosen = positions[start : start + FAITHFULNESS_BATCH]
        stored, labels = images.take(chosen)
        views = normalise(centre_views(stored, config.image_size), *normalisation)
        with torch.no_grad(), machine.autocast():
            output = model(views)
        maps = recorded_maps(model, output, labels, labels, kinds)
        for kind in kinds:
            for name, values in deletion_insertion(probabilities, views, maps[kind], labels).items():
                means.add((kind, name), values)
        for name, values in deletion_insertion_control(probabilities, views, grid, labels, orders=1).items():
            means.add(("random", name), values)
        if progress:
            progress("deletion and insertion", min(start + FAITHFULNESS_BATCH, len(positions)), len(positions))
    return {"images": len(positions), **means.nested()}


def replace_groups(data: RunData, *names: str) -> RunData:
    """The same data with some of its groups only."""
    return replace(data, groups={name: data.groups[name] for name in names})
