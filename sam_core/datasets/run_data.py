"""The images of one run: which are labelled, held out and tested, decoded and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sam_core.config import STORE_SCALE, RunConfig
from sam_core.datasets.base import Dataset, DatasetError, Problem, Sample
from sam_core.datasets.catalog import open_dataset
from sam_core.datasets.store import ImageStore
from sam_core.datasets.subset import LabelSubset, choose_labels, first_classes

#: The groups that a run evaluates, in this order. `labelled` and `validation` come from the training split.
GROUPS = ("labelled", "validation", "test", "swapped")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RunData:
    """A dataset as one run sees it. `groups` holds positions in `store`."""

    dataset: Dataset
    store: ImageStore
    groups: dict[str, list[int]]
    problems: tuple[Problem, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.dataset.classes

    def samples(self, group: str) -> list[Sample]:
        """The samples of a group, in its order."""
        return [self.store.samples[position] for position in self.groups[group]]


def open_run_dataset(config: RunConfig, progress: Progress | None = None) -> tuple[Dataset, LabelSubset]:
    """The dataset and label subset that a configuration names; nothing is decoded."""

    def drawing(done: int, total: int) -> None:
        if progress:
            progress("drawing", done, total)

    dataset = open_dataset(
        config.dataset,
        data_root=Path(config.data_root),
        split_seed=config.split_seed,
        habitat_bias=config.habitat_bias,
        progress=drawing,
    )
    dataset = first_classes(dataset, config.num_classes)
    subset = choose_labels(
        dataset, label_ratio=config.label_ratio, seed=config.split_seed, validation=config.validation
    )
    return dataset, subset


def load_run_data(config: RunConfig, progress: Progress | None = None) -> RunData:
    """Open, choose and decode; unreadable images are left out and reported.

    Raises:
        DatasetError: if the data cannot be used, or a class has no readable labelled image.
    """
    dataset, subset = open_run_dataset(config, progress)
    members = {
        "labelled": list(subset.labelled),
        "validation": list(subset.validation),
        "test": dataset.split("test"),
        "swapped": dataset.split("swapped"),
    }
    everything = [sample for group in GROUPS for sample in members[group]]

    def decoding(done: int, total: int) -> None:
        if progress:
            progress("reading images", done, total)

    store = ImageStore(everything, stored_side(config.image_size), decoding)
    groups = {
        name: [store.index[sample.id] for sample in members[name] if sample.id in store.index]
        for name in GROUPS
        if members[name]
    }
    _refuse_empty_classes(dataset, store, groups)
    return RunData(dataset, store, groups, dataset.problems + tuple(store.problems))


def stored_side(image_size: int) -> int:
    """The side at which images are kept for views of `image_size`: 256 for 224."""
    return round(image_size * STORE_SCALE)


def _refuse_empty_classes(dataset: Dataset, store: ImageStore, groups: dict[str, list[int]]) -> None:
    left = {store.samples[position].label for position in groups["labelled"]}
    for label, name in enumerate(dataset.classes):
        if label not in left:
            broken = next((p for p in store.problems if f"/{name}/" in f"/{p.path}"), None)
            reason = f" ({broken.path}: {broken.detail})" if broken else ""
            raise DatasetError(
                f"class {name!r} of {dataset.root} has no readable labelled image{reason}",
                "replace the broken images, or raise --label-ratio",
            )
    if not groups.get("test"):
        raise DatasetError(f"{dataset.root} has no readable test image", "replace the broken images")
