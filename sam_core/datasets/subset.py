"""Which training images have labels: those of a published list where the data have one, else the same rule for all.

The rule: per class, `ceil(ratio * n)` images, as in the lists released with SAM (Shu et al., ECCV 2022), taken as the
first of a seeded permutation of the class, so that the subset at 10 % is inside that at 15 %, and so on.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from sam_core.datasets.base import Dataset, DatasetError, Sample

#: Where a subset came from, in words.
RELEASED_LIST = "released list"
SEEDED_RULE = "seeded rule"


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
    source: str = SEEDED_RULE
    """What said which images are labelled: `RELEASED_LIST` or `SEEDED_RULE`."""


def first_classes(dataset: Dataset, count: int | None) -> Dataset:
    """The dataset with its first `count` classes only, in every split and every published list."""
    if count is None or count == len(dataset.classes):
        return dataset
    if count > len(dataset.classes):
        raise DatasetError(
            f"num_classes: {dataset.name} has {len(dataset.classes)} classes, not {count}",
            f"give --num-classes {len(dataset.classes)} or less",
        )
    samples = tuple(sample for sample in dataset.samples if sample.label < count)
    lists = lists_of_first(dataset.label_lists, count, {sample.id for sample in samples})
    return replace(dataset, classes=dataset.classes[:count], samples=samples, label_lists=lists)


def lists_of_first(
    lists: Mapping[tuple[int, int], frozenset[str]], count: int, ids: Collection[str]
) -> dict[tuple[int, int], frozenset[str]]:
    """Published subsets as they hold for the first `count` classes.

    Those of no more classes stay. Where a ratio has none of just so many, the one of the next more classes is cut down.

    Args:
        lists: as `Dataset.label_lists`.
        count: how many classes are left.
        ids: the samples that are left.
    """
    kept: dict[tuple[int, int], frozenset[str]] = {}
    for (percent, classes), listed in sorted(lists.items()):
        if classes <= count or (percent, count) not in kept:
            kept[percent, min(classes, count)] = listed.intersection(ids)
    return kept


def choose_labels(dataset: Dataset, *, label_ratio: float, seed: int, validation: float = 0.0) -> LabelSubset:
    """Choose the labelled images of the training split, and those held out for validation.

    Where the dataset has a published list of this ratio for its classes, the labelled images are exactly those,
    whatever the seed. At 100 % all images are labelled.

    Held-out images come from the end of each class's permutation, in which the images of a published list come first:
    first from those whose label the ratio leaves unused, and only then from the labelled ones. At least one labelled
    image of every class stays.

    Args:
        dataset: as opened, or its first classes.
        label_ratio: percent, above 0 up to 100.
        seed: of the permutation: it decides which images the rule takes, and which are held out.
        validation: the share of each class's images to hold out, 0..1; 0 holds out none.

    Raises:
        DatasetError: naming the class that has no training image, or none in the published list.
    """
    released = _released_list(dataset, label_ratio)
    labelled: list[Sample] = []
    held_out: list[Sample] = []
    by_class: dict[int, list[Sample]] = {label: [] for label in range(len(dataset.classes))}
    for sample in dataset.split("train"):
        by_class[sample.label].append(sample)
    for label, samples in by_class.items():
        name = dataset.classes[label]
        if not samples:
            raise DatasetError(
                f"class {name!r} of {dataset.root} has no readable training image",
                _how_to_fill(dataset, label),
            )
        order = permuted(samples, class_name=name, seed=seed)
        if released is None:
            labels = labelled_count(label_ratio, len(order))
        else:
            order.sort(key=lambda sample: sample.id not in released)
            labels = sum(sample.id in released for sample in order)
            _refuse_omitted(dataset, name, labels, label_ratio)
        kept_back = min(round(validation * len(order)), len(order) - 1)
        if validation > 0 and len(order) > 1:
            kept_back = max(kept_back, 1)
        labels = min(labels, len(order) - kept_back)
        labelled += order[:labels]
        held_out += order[len(order) - kept_back :]
    source = SEEDED_RULE if released is None else RELEASED_LIST
    return LabelSubset(tuple(labelled), tuple(held_out), source)


def _how_to_fill(dataset: Dataset, label: int) -> str:
    """What to do about a class without training images."""
    if not dataset.training_list:
        return "add at least one, or remove the class's folder"
    hint = f"see that {dataset.training_list} names one, and that its file is there"
    return hint if label < 2 else f"{hint}; or keep to the classes before this one, with --num-classes {label}"


def _released_list(dataset: Dataset, label_ratio: float) -> frozenset[str] | None:
    # Lists are published for whole percents.
    if label_ratio >= 100 or label_ratio != int(label_ratio):
        return None
    return dataset.label_lists.get((int(label_ratio), len(dataset.classes)))


def _refuse_omitted(dataset: Dataset, class_name: str, labels: int, label_ratio: float) -> None:
    if labels == 0:
        lists = dataset.root / "image_list" / f"train_{label_ratio:02g}*.txt"
        raise DatasetError(
            f"the released list of {label_ratio:g} % for {len(dataset.classes)} classes ({lists}) names no image of "
            f"class {class_name!r} that is here",
            "name one of its training images there, or move the list away to have images chosen by the seeded rule",
        )
