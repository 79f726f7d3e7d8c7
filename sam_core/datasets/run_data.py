"""The images of one run: which are labelled, held out and tested, decoded and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sam_core.config import STORE_SCALE, RunConfig
from sam_core.datasets.base import Dataset, DatasetError, Problem, Sample
from sam_core.datasets.cache import cache_folder
from sam_core.datasets.catalog import open_dataset
from sam_core.datasets.subset import LabelSubset, choose_labels, first_classes

if TYPE_CHECKING:
    from sam_core.datasets.masks import MaskStore
    from sam_core.datasets.store import ImageStore

#: The groups that a run evaluates, in this order. `labelled` and `validation` come from the training split.
GROUPS = ("labelled", "validation", "test", "swapped")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RunData:
    """A dataset as one run sees it. `groups` holds positions in `store`."""

    dataset: Dataset
    store: ImageStore
    groups: dict[str, list[int]]
    labelled_by: str
    """What said which images are labelled, see `LabelSubset.source`."""
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    """Sentences for the person whose run it is, about nothing that stops it."""
    cache_root: Path | None = None
    """Where decoded images and masks are kept; None where they are not."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.dataset.classes

    def samples(self, group: str) -> list[Sample]:
        """The samples of a group, in its order."""
        return [self.store.samples[position] for position in self.groups[group]]

    def masks(self, positions: Sequence[int], progress: Progress | None = None) -> MaskStore:
        """The object masks of the samples at these positions in the store, at the side of its images, in their order.

        As the images they are decoded at the first start only.
        """
        from sam_core.datasets.masks import MaskStore

        return MaskStore(
            [self.store.samples[position] for position in positions], self.store.side,
            cache_root=self.cache_root, owner=str(self.dataset.root), progress=progress,
        )  # fmt: skip


def open_run_dataset(config: RunConfig, progress: Progress | None = None) -> tuple[Dataset, LabelSubset]:
    """The dataset and label subset that a configuration names; nothing is decoded.

    Raises:
        DatasetError: if the data cannot be used, or a class has no training image.
    """
    dataset = open_whole_dataset(config, progress)
    return dataset, choose_run_labels(dataset, config)


def open_whole_dataset(config: RunConfig, progress: Progress | None = None) -> Dataset:
    """The dataset that a configuration names, with the classes that it wants; nothing is decoded."""
    task = "drawing" if config.dataset == "fieldguide" else "opening the dataset"

    def opening(done: int, total: int) -> None:
        if progress:
            progress(task, done, total)

    dataset = open_dataset(
        config.dataset,
        data_root=Path(config.data_root),
        split_seed=config.split_seed,
        class_level=config.class_level,
        habitat_bias=config.habitat_bias,
        progress=opening,
    )
    return first_classes(dataset, config.num_classes)


def choose_run_labels(dataset: Dataset, config: RunConfig) -> LabelSubset:
    """The label subset that a configuration names."""
    return choose_labels(dataset, label_ratio=config.label_ratio, seed=config.split_seed, validation=config.validation)


def load_run_data(config: RunConfig, progress: Progress | None = None) -> RunData:
    """Open, choose and decode, what is in the cache excepted; unreadable images are left out and reported.

    Raises:
        DatasetError: if the data cannot be used, or a class has no readable labelled image.
    """
    # Imported only here, for it needs torch: looking into a dataset does not have to wait for that.
    from sam_core.datasets.store import ImageStore

    dataset, subset = open_run_dataset(config, progress)
    members = {
        "labelled": list(subset.labelled),
        "validation": list(subset.validation),
        "test": dataset.split("test"),
        "swapped": dataset.split("swapped"),
    }
    cache_root = cache_folder(Path(config.data_root))
    store = ImageStore(
        [sample for group in GROUPS for sample in members[group]],
        stored_side(config.image_size),
        cache_root=cache_root,
        owner=str(dataset.root),
        progress=progress,
    )
    groups = {
        name: [store.index[sample.id] for sample in members[name] if sample.id in store.index]
        for name in GROUPS
        if members[name]
    }
    _refuse_empty_classes(dataset, store, groups, subset)
    problems = dataset.problems + tuple(store.problems)
    return RunData(dataset, store, groups, subset.source, problems, tuple(store.notes), cache_root)


def stored_side(image_size: int) -> int:
    """The side at which images are kept for views of `image_size`: 256 for 224."""
    return round(image_size * STORE_SCALE)


def _refuse_empty_classes(
    dataset: Dataset, store: ImageStore, groups: dict[str, list[int]], subset: LabelSubset
) -> None:
    left = {store.samples[position].label for position in groups["labelled"]}
    for label, name in enumerate(dataset.classes):
        if label not in left:
            members = {sample.id for sample in subset.labelled if sample.label == label}
            broken = next((problem for problem in store.problems if problem.path in members), None)
            reason = f" ({broken.path}: {broken.detail})" if broken else ""
            raise DatasetError(
                f"class {name!r} of {dataset.root} has no readable labelled image{reason}",
                "replace the broken images, or raise --label-ratio",
            )
    if not groups.get("test"):
        raise DatasetError(f"{dataset.root} has no readable test image", "replace the broken images")
