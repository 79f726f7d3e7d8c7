"""What is in a dataset, for a page or a program: its images in columns, which are labelled, how many of each class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from explorer.data.shelf import OpenSet
from sam_core.config import RunConfig
from sam_core.datasets.base import Dataset, Problem
from sam_core.datasets.subset import LabelSubset, choose_labels, first_classes


def contents(opened: OpenSet) -> dict[str, Any]:
    """Every image of a dataset, one list per fact, in the dataset's order; `version` names the state of its files.

    Returns:
        `label` and `split` are places in `classes` and `splits`; `has` says whether any sample has a box, parts, a
        mask; `lists` are the label ratios (percent) for which there is a released list of all classes; `problems` are
        those that listing the files has found, as `described_problems` has them.
    """
    dataset = opened.dataset
    splits = dataset.splits
    place = {split: at for at, split in enumerate(splits)}
    return {
        "version": opened.version,
        "layout": dataset.layout,
        "classes": list(dataset.classes),
        "splits": splits,
        "ids": [plain(sample.id) for sample in dataset.samples],
        "label": [sample.label for sample in dataset.samples],
        "split": [place[sample.split] for sample in dataset.samples],
        "has": {
            "box": any(sample.box is not None for sample in dataset.samples),
            "parts": any(sample.parts for sample in dataset.samples),
            "mask": any(sample.mask_path is not None for sample in dataset.samples),
        },
        "lists": sorted({percent for percent, classes in dataset.label_lists if classes == len(dataset.classes)}),
        "problems": described_problems(opened, dataset.problems),
    }


def described_problems(opened: OpenSet, problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Problems as a page shows them: `kind`, `path`, `detail`, and `row`, the image that it is about, or None."""
    return [
        {
            "kind": problem.kind,
            "path": plain(problem.path),
            "detail": plain(problem.detail),
            "row": opened.row_of.get(problem.path),
        }
        for problem in problems
    ]


def chosen_labels(dataset: Dataset, config: RunConfig) -> tuple[Dataset, LabelSubset]:
    """The classes that a run uses, and which of their training images its label ratio chooses.

    Raises:
        DatasetError: if there are not so many classes, or one has no training image.
    """
    chosen = first_classes(dataset, config.num_classes)
    return chosen, choose_labels(chosen, label_ratio=config.label_ratio, seed=config.split_seed)


def source_of(subset: LabelSubset) -> str:
    """Where a label subset comes from: a released list, or the seeded rule."""
    return str(getattr(subset, "source", "seeded rule"))


def description(dataset: Dataset, config: RunConfig) -> dict[str, Any]:
    """A dataset as a run would use it, for programs.

    Returns:
        `name`, `layout`, `classes`, `images` by split, `labelled` (how many), `labelled_by` (where that subset comes
        from), `labelled_ids`, `counts` (per class: labelled, and images by split), and `problems`.

    Raises:
        DatasetError: as `chosen_labels`.
    """
    chosen, subset = chosen_labels(dataset, config)
    counts = [{"class": name, "labelled": 0, **dict.fromkeys(chosen.splits, 0)} for name in chosen.classes]
    for sample in chosen.samples:
        counts[sample.label][sample.split] += 1
    for sample in subset.labelled:
        counts[sample.label]["labelled"] += 1
    return {
        "name": config.dataset,
        "layout": dataset.layout,
        "classes": list(chosen.classes),
        "images": {split: len(chosen.split(split)) for split in chosen.splits},
        "labelled": len(subset.labelled),
        "labelled_by": source_of(subset),
        "labelled_ids": [plain(sample.id) for sample in subset.labelled],
        "counts": counts,
        "problems": [vars(problem) for problem in dataset.problems],
    }


def plain(text: str) -> str:
    """A file's name as text that can be sent; bytes in it that are no text become question marks."""
    return text.encode(errors="replace").decode()
