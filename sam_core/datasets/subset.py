"""Which training images have labels: the same rule for every dataset.

Per class, `ceil(ratio * n)` images, as in the lists released with SAM (Shu et al., ECCV 2022), taken as the first of a
seeded permutation of the class, so that the subset at 10 % is inside that at 15 %, and so on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from sam_core.datasets.base import Dataset, DatasetError, Sample


def labelled_count(label_ratio: float, images: int) -> int:
    """How many of a class's images are labelled: `ceil(ratio / 100 * images)`, in integers (7 % of 100 is 7)."""
    exact = Fraction(repr(float(label_ratio))) * images / 100
    return -(-exact.numerator // exact.denominator)


def permuted(samples: Sequence[Sample], *, class_name: str, seed: int) -> list[Sample]:
    """The samples of one class in an order that depends on the seed, the class and their ids only."""
    ordered = sorted(samples, key=lambda sample: sample.id)
    # Seeded by text: Python's shuffle of a text-seeded generator is the same on every machine and version.
    random.Random(f"labels/{seed}/{class_name}").shuffle(ordered)
    return ordered


@dataclass(frozen=True)
class LabelSubset:
    """What the label ratio leaves: the images to learn from, and those held out for choosing."""

    labelled: tuple[Sample, ...]
    validation: tuple[Sample, ...]


def first_classes(dataset: Dataset, count: int | None) -> Dataset:
    """The dataset with its first `count` classes only, in every split."""
    if count is None or count == len(dataset.classes):
        return dataset
    if count > len(dataset.classes):
        raise DatasetError(
            f"num_classes: {dataset.name} has {len(dataset.classes)} classes, not {count}",
            f"give --num-classes {len(dataset.classes)} or less",
        )
    samples = tuple(sample for sample in dataset.samples if sample.label < count)
    return replace(dataset, classes=dataset.classes[:count], samples=samples)


def choose_labels(dataset: Dataset, *, label_ratio: float, seed: int, validation: float = 0.0) -> LabelSubset:
    """Choose the labelled images of the training split, and those held out for validation.

    Held-out images come from the end of each class's permutation: first from those whose label the ratio leaves
    unused, and only then from the labelled ones. At least one labelled image of every class stays.
    """
    labelled: list[Sample] = []
    held_out: list[Sample] = []
    by_class: dict[int, list[Sample]] = {label: [] for label in range(len(dataset.classes))}
    for sample in dataset.split("train"):
        by_class[sample.label].append(sample)
    for label, samples in by_class.items():
        if not samples:
            raise DatasetError(
                f"class {dataset.classes[label]!r} of {dataset.root} has no readable training image",
                "add at least one, or remove the class's folder",
            )
        order = permuted(samples, class_name=dataset.classes[label], seed=seed)
        kept_back = min(round(validation * len(order)), len(order) - 1)
        if validation > 0 and len(order) > 1:
            kept_back = max(kept_back, 1)
        labels = min(labelled_count(label_ratio, len(order)), len(order) - kept_back)
        labelled += order[:labels]
        held_out += order[len(order) - kept_back :]
    return LabelSubset(tuple(labelled), tuple(held_out))
