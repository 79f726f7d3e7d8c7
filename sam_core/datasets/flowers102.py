"""Oxford Flowers 102: `ROOT/jpg/image_00001.jpg`, ..., `ROOT/imagelabels.mat`, `ROOT/setid.mat`.

Nilsback and Zisserman, "Automated Flower Classification over a Large Number of Classes", ICVGIP 2008. Its two splits
of 10 images per class, `trnid` and `valid`, are both for training here, as is common for this benchmark: 2,040 training
and 6,149 test images. The label ratio is of all 20 of a class.

`torchvision.datasets.Flowers102` reads the same lists, but it takes the folder under one name only, accepts no lists
other than the published ones, and does not see whether the images are there. The names of the classes, which the
dataset itself lacks, are torchvision's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sam_core.datasets.base import Dataset, DatasetError, Opening
from sam_core.datasets.matfile import read_mat
from sam_core.datasets.official import Listed, build_dataset

LABELS = "imagelabels.mat"
SETS = "setid.mat"
#: The lists that make up a split.
SPLITS = {"train": ("trnid", "valid"), "test": ("tstid",)}
CLASSES = 102


def recognises(root: Path) -> bool:
    """Whether a folder has the two lists of this dataset."""
    return (root / LABELS).is_file() and (root / SETS).is_file()


def load(root: Path, opening: Opening) -> Dataset:
    """Read the lists and see which of the images are there; nothing is decoded.

    Raises:
        DatasetError: if a list cannot be read or contradicts itself or the other, or no image of a split is there.
    """
    root = Path(root).expanduser().resolve()
    labels = _read_labels(root)
    sets = _read_sets(root, len(labels))
    listed = [
        Listed(
            path=root / "jpg" / f"image_{image:05d}.jpg",
            label=labels[image - 1] - 1,
            split=split,
            file=root / SETS,
            line=place,
            unit=f"{name} entry",
        )
        for split, names in SPLITS.items()
        for name in names
        for place, image in enumerate(sets[name], start=1)
    ]
    layout = "Oxford Flowers 102, its training and validation images for training"
    classes = _class_names(max(labels))
    return build_dataset("flowers102", root, layout, classes, listed, opening, training_list=SETS)


def _class_names(count: int) -> tuple[str, ...]:
    from torchvision.datasets import Flowers102  # takes seconds

    return tuple(Flowers102.classes[:count])


def _read_labels(root: Path) -> list[int]:
    """The class number, from 1, of image 1, 2, ..."""
    labels = _read_numbers(root / LABELS, ["labels"])["labels"]
    for image, label in enumerate(labels, start=1):
        if not 1 <= label <= CLASSES:
            raise _contradiction(root / LABELS, f"image {image} has class number {label}; they go from 1 to {CLASSES}")
    return labels


def _read_sets(root: Path, images: int) -> dict[str, list[int]]:
    """The numbers of the images of each list."""
    sets = _read_numbers(root / SETS, [name for names in SPLITS.values() for name in names])
    for name, numbers in sets.items():
        for number in numbers:
            if not 1 <= number <= images:
                raise _contradiction(root / SETS, f"{name} names image {number}, but {LABELS} knows {images} images")
    return sets


def _read_numbers(file: Path, names: list[str]) -> dict[str, list[int]]:
    """Lists of whole numbers, each at least one long."""
    values = read_mat(file, *names)
    for name, value in values.items():
        if not (isinstance(value, np.ndarray) and value.size and np.isfinite(value).all() and (value % 1 == 0).all()):
            raise _contradiction(file, f"{name} is not a list of whole numbers")
    return {name: [int(number) for number in values[name]] for name in names}


def _contradiction(file: Path, what: str) -> DatasetError:
    hint = f"python -m sam_core data get flowers102 --root {file.parent.parent} fetches the published lists"
    return DatasetError(f"dataset: {file}: {what}", hint)
