"""What every source of images gives: classes, samples, and where the object is if the data says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Every split a sample can be in. `swapped` is fieldguide's second test split, in which each habitat is exchanged.
SPLITS = ("train", "test", "swapped")

Box = tuple[float, float, float, float]
Progress = Callable[[int, int], None]
"""Takes how much is done, and of how much."""


@dataclass(frozen=True)
class Part:
    """One named part of an object, where the data marks it.

    `x` and `y` are its centre as fractions (0..1) of the image's width and height.
    """

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Sample:
    """One photograph and what is known about it.

    All positions are fractions of the image's width and height after its EXIF orientation is honoured, so they hold
    at every size the image is shown at.
    """

    id: str
    """Unique in its dataset and the same in every run: the path below the dataset's root, with forward slashes."""
    path: Path
    label: int
    split: str
    box: Box | None = None
    """The object's box: left, top, width, height."""
    parts: tuple[Part, ...] = ()
    mask_path: Path | None = None
    """A one-channel image of the photograph's proportions."""
    mask_on: tuple[int, int] = (1, 255)
    """The values of the mask, first to last, that are on the object. By default all but 0."""


@dataclass(frozen=True)
class Problem:
    """Something in a dataset that a person should know: a broken file, a misfiled image, an empty class."""

    kind: str
    path: str
    detail: str


@dataclass(frozen=True)
class Dataset:
    """A set of labelled images, read but not decoded."""

    name: str
    root: Path
    layout: str
    """In words: how the files on disk were recognised, such as `train/ and test/ folders`."""
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    label_lists: Mapping[tuple[int, int], frozenset[str]] = field(default_factory=dict)
    """Published label subsets: by (percent, first so many classes) the ids of the labelled training samples."""
    mask_parts: dict[int, str] = field(default_factory=dict)
    """What the values of the masks mean where parts are told apart: `{1: "body", 2: "bill"}`."""
    training_list: str = ""
    """The file that says which images are for training; empty where folders say so."""

    def split(self, name: str) -> list[Sample]:
        """The samples of one split, in the dataset's order."""
        return [sample for sample in self.samples if sample.split == name]

    @property
    def splits(self) -> list[str]:
        """The splits that have samples, in the order of `SPLITS`."""
        present = {sample.split for sample in self.samples}
        return [name for name in SPLITS if name in present]


@dataclass(frozen=True)
class Opening:
    """How a dataset is opened, for those that leave a choice."""

    split_seed: int = 0
    class_level: str = "variant"
    habitat_bias: float = 0.8
    progress: Progress | None = None


class DatasetError(ValueError):
    """The data cannot be used as they are; the message names the place and the fix."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
