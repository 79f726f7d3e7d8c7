"""What the official layouts have in common: from what their lists say of each image to a dataset."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sam_core.datasets.base import Dataset, DatasetError, Opening, Part, Problem, Sample
from sam_core.datasets.image_list import FOLDER, with_released_lists
from sam_core.datasets.listing import line_error, shown
from sam_core.datasets.sizes import image_frames
from sam_core.datasets.upright import Frame

#: A box that reaches out of its photograph by more than this share of a side is worth a word. Some official ones reach
#: out by a few pixels; if many do so further, the photographs were made smaller and the boxes were not.
REACHES_OUT = 0.1


@dataclass(frozen=True)
class Listed:
    """An image as the lists of an official layout describe it: positions in pixels of the file as stored."""

    path: Path
    label: int
    split: str
    file: Path
    """The list that names it."""
    line: int
    """Where in the list, from 1."""
    unit: str = "line"
    """What `line` counts."""
    box: tuple[float, float, float, float] | None = None
    """The edges of the object's box: left, top, right, bottom."""
    parts: tuple[tuple[str, float, float], ...] = ()
    """Name and position of each visible part."""
    mask_path: Path | None = None

    @property
    def place(self) -> str:
        """Where it is listed, for people: `images.txt, line 5`."""
        return f"{self.file.name}, {self.unit} {self.line}"


def finite_number(text: str) -> float | None:
    """The number that a field of a list holds, None if it holds none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def layout_words(source: str, annotations: Sequence[str]) -> str:
    """A layout and what it came with: `CUB-200-2011, official layout with boxes, 15 parts and masks`."""
    if not annotations:
        return source
    *others, last = annotations
    return f"{source} with {', '.join(others)} and {last}" if others else f"{source} with {last}"


def build_dataset(
    name: str,
    root: Path,
    layout: str,
    classes: tuple[str, ...],
    listed: Sequence[Listed],
    opening: Opening,
    *,
    training_list: str,
    mask_on: tuple[int, int] = (1, 255),
    problems: Sequence[Problem] = (),
) -> Dataset:
    """The dataset that the lists describe. Files that are missing are left out and reported.

    Where the folder also has `image_list/`, the label subsets published with SAM apply to it.

    Args:
        name: the dataset's.
        root: the folder that ids are relative to, resolved.
        layout: in words.
        classes: their names, in label order.
        listed: the images, in the dataset's order.
        opening: whose `progress` is told how many image heads are read.
        training_list: the file that says which images are for training.
        mask_on: the values of masks that are on the object.
        problems: what was found before.

    Raises:
        DatasetError: if a file is listed twice, or none of the training or none of the test images is there.
    """
    _refuse_twice(root, listed)
    samples, found = _samples(root, listed, opening, mask_on)
    found += _one_sided_classes(classes, listed, samples, training_list)
    _refuse_empty_split(root, listed, samples)
    dataset = Dataset(name, root, layout, classes, tuple(samples), (*problems, *found), training_list=training_list)
    return with_released_lists(dataset, root / FOLDER)


def _refuse_twice(root: Path, listed: Sequence[Listed]) -> None:
    first: dict[Path, Listed] = {}
    for image in listed:
        if image.path in first:
            name = shown(image.path.relative_to(root).as_posix())
            what = f"{name} is listed a second time, first in {first[image.path].place}"
            raise line_error(image.file, image.line, what, unit=image.unit)
        first[image.path] = image


def _samples(
    root: Path, listed: Sequence[Listed], opening: Opening, mask_on: tuple[int, int]
) -> tuple[list[Sample], list[Problem]]:
    samples, problems = [], []
    for image, frame in zip(listed, _frames(listed, opening), strict=True):
        name = image.path.relative_to(root).as_posix()
        if not os.path.isfile(image.path):
            problems.append(Problem("missing image", name, f"{image.place} names it, but there is no such file"))
            continue
        sample = Sample(name, image.path, image.label, image.split)
        if frame is not None:  # what cannot be read is found and named when it is decoded
            sample, found = _annotated(sample, image, frame, mask_on)
            problems += [Problem(kind, name, detail) for kind, detail in found]
        samples.append(sample)
    return samples, problems


def _frames(listed: Sequence[Listed], opening: Opening) -> Sequence[Frame | None]:
    """The frames, where there is something to be placed in them."""
    if not any(image.box or image.parts or image.mask_path for image in listed):
        return [None] * len(listed)
    return image_frames([image.path for image in listed], opening.progress)


def _annotated(
    sample: Sample, image: Listed, frame: Frame, mask_on: tuple[int, int]
) -> tuple[Sample, list[tuple[str, str]]]:
    """The sample with its box, parts and mask, and what is wrong with them: kind and detail."""
    wrong = []
    size = f"{frame.width} x {frame.height} pixels"
    box = frame.box(*image.box) if image.box else None
    if image.box and (box is None or _reaches_out(image.box, frame)):
        edges = " ".join(f"{edge:g}" for edge in image.box)
        fate = "it is cut at the edge" if box else "it is left out"
        wrong.append(("box outside the image", f"left, top, right, bottom are {edges}, the image has {size}; {fate}"))
    parts = []
    for name, x, y in image.parts:
        point = frame.point(x, y)
        if point:
            parts.append(Part(name, *point))
        else:
            wrong.append(("part outside the image", f"{name} is at {x:g} {y:g}, the image has {size}; it is left out"))
    sample = replace(sample, box=box, parts=tuple(parts))
    if image.mask_path and frame.orientation != 1:
        wrong.append(("mask of a turned image", "the mask is drawn on the image as stored; it is left out"))
    elif image.mask_path:
        sample = replace(sample, mask_path=image.mask_path, mask_on=mask_on)
    return sample, wrong


def _reaches_out(box: tuple[float, float, float, float], frame: Frame) -> bool:
    left, top, right, bottom = box
    across, down = REACHES_OUT * frame.width, REACHES_OUT * frame.height
    return left < -across or top < -down or right > frame.width + across or bottom > frame.height + down


def _refuse_empty_split(root: Path, listed: Sequence[Listed], samples: Sequence[Sample]) -> None:
    for split, words in (("train", "training"), ("test", "test")):
        if any(sample.split == split for sample in samples):
            continue
        first = next((image.path for image in listed if image.split == split), None)
        if first is None:
            raise DatasetError(f"dataset: the lists of {root} name no {words} image", "is a list cut off?")
        raise DatasetError(
            f"dataset: of the {words} images that the lists of {root} name none is there (the first would be {first})",
            "unpack the archive of the photographs to where the lists expect them",
        )


def _one_sided_classes(
    classes: tuple[str, ...], listed: Sequence[Listed], samples: Sequence[Sample], training_list: str
) -> list[Problem]:
    named = Counter(image.label for image in listed if image.split == "train")
    labels = {split: {sample.label for sample in samples if sample.split == split} for split in ("train", "test")}
    problems = []
    for label, name in enumerate(classes):
        if label not in labels["train"]:
            missing = f"names {named[label]}, and none of the files is there" if named[label] else "names none"
            problems.append(Problem("class without training images", name, f"{training_list} {missing}"))
        if label not in labels["test"]:
            problems.append(Problem("class without test images", name, "its accuracy cannot be measured"))
    return problems
