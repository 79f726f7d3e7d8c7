"""A person's own photographs: `ROOT/train/CLASS/*` and `ROOT/test/CLASS/*`, or `ROOT/CLASS/*` with a held-out split.

Links to a class's folder or to a single photograph are followed wherever they lead: many people keep their photographs
elsewhere. Links to folders deeper inside a class are not, because they may run in circles.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sam_core.datasets.base import Dataset, DatasetError, Opening, Problem, Sample
from sam_core.datasets.images import is_image_name
from sam_core.datasets.subset import permuted
from sam_core.datasets.zipped import left_in_zip

TEST_FOLDERS = ("test", "val", "valid", "validation")
#: Of every class of a folder without a test split, this share is held out for testing.
HELD_OUT = 0.2


def load(root: Path, opening: Opening) -> Dataset:
    """As `load_folder`, for the catalog; with what is missing because it was left in a zip."""
    dataset = load_folder(root, split_seed=opening.split_seed)
    return replace(dataset, problems=dataset.problems + left_in_zip(dataset.root))


def load_folder(root: Path, *, split_seed: int = 0) -> Dataset:
    """List a folder of photographs; nothing is decoded.

    Raises:
        DatasetError: if there is no such folder, it cannot be listed, or it has fewer than two classes with images.
    """
    root = Path(root).expanduser().resolve()
    if not root.is_dir():
        raise DatasetError(f"dataset: there is no folder {root}", "give the path of a folder of photographs")
    train = root / "train"
    test = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
    if train.is_dir() and test is not None:
        return _load_split_folders(root, train, test)
    return _load_classes_only(root, train if train.is_dir() else root, split_seed)


def class_folders(folder: Path) -> dict[str, list[str]]:
    """The class folders directly below a folder, and their images, both in order of name.

    Returns:
        By class name the names of the images below that folder, with forward slashes. Folders without images are no
        classes, and neither are hidden ones.

    Raises:
        DatasetError: if a folder cannot be listed.
    """
    names = sorted(entry.name for entry in _entries(folder) if entry.is_dir() and not _is_hidden(entry.name))
    classes = {name: sorted(_images_below(folder / name)) for name in names}
    return {name: images for name, images in classes.items() if images}


def names_in(folder: Path) -> set[str]:
    """The names of what is directly in a folder; none if there is no such folder."""
    return {entry.name for entry in _entries(folder)} if folder.is_dir() else set()


def _images_below(folder: Path) -> list[str]:
    images = []
    waiting = [""]
    while waiting:
        place = waiting.pop()
        for entry in _entries(folder / place):
            if entry.is_dir(follow_symlinks=False):
                if not _is_hidden(entry.name):
                    waiting.append(f"{place}{entry.name}/")
            elif is_image_name(Path(entry.name)) and not entry.is_dir():
                images.append(place + entry.name)
    return images


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DatasetError(f"dataset: {folder} cannot be listed: {error.strerror}", "check its permissions") from None


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__"))


def _load_split_folders(root: Path, train: Path, test: Path) -> Dataset:
    classes = class_folders(train)
    _refuse_too_few(root, classes)
    problems = []
    samples = [
        Sample(f"{train.name}/{name}/{image}", train / name / image, label, "train")
        for label, name in enumerate(classes)
        for image in classes[name]
    ]
    labels = {name: label for label, name in enumerate(classes)}
    test_classes = class_folders(test)
    for name, images in test_classes.items():
        if name not in labels:
            detail = f"the class has {len(images)} test images but no training image; they are left out"
            problems.append(Problem("class only in test", f"{test.name}/{name}", detail))
            continue
        samples += [
            Sample(f"{test.name}/{name}/{image}", test / name / image, labels[name], "test") for image in images
        ]
    for name in classes:
        if name not in test_classes:
            problems.append(Problem("class only in train", f"train/{name}", "the class has no test image"))
    if not any(sample.split == "test" for sample in samples):
        raise DatasetError(
            f"dataset: {test} has no image of the classes in {train}",
            f"put photographs into {test}/CLASS, or remove {test.name}/ to have a fifth held out",
        )
    layout = f"{train.name}/ and {test.name}/ folders of classes"
    return Dataset(root.name, root, layout, tuple(classes), tuple(samples), tuple(problems))


def _load_classes_only(root: Path, folder: Path, split_seed: int) -> Dataset:
    classes = class_folders(folder)
    _refuse_too_few(root, classes)
    prefix = "" if folder == root else f"{folder.name}/"
    samples, problems = [], []
    for label, (name, images) in enumerate(classes.items()):
        everything = [Sample(f"{prefix}{name}/{image}", folder / name / image, label, "train") for image in images]
        order = permuted(everything, class_name=f"test/{name}", seed=split_seed)
        held_out = min(max(1, round(HELD_OUT * len(order))), len(order) - 1)
        if held_out == 0:
            problems.append(Problem("class too small", name, "one image only: none is left for testing"))
        test_ids = {sample.id for sample in order[:held_out]}
        samples += [
            Sample(sample.id, sample.path, label, "test" if sample.id in test_ids else "train") for sample in everything
        ]
    if not any(sample.split == "test" for sample in samples):
        raise DatasetError(
            f"dataset: {root} has one image per class, so none is left for testing",
            "give at least two photographs of some classes, better of all",
        )
    layout = f"folders of classes, {HELD_OUT:.0%} of each held out for testing (split seed {split_seed})"
    return Dataset(root.name, root, layout, tuple(classes), tuple(samples), tuple(problems))


def _refuse_too_few(root: Path, classes: dict[str, list[str]]) -> None:
    if len(classes) < 2:
        found = f"one class ({next(iter(classes))})" if classes else "no class"
        raise DatasetError(
            f"dataset: {root} holds {found} of photographs, two are the least",
            "arrange the photographs as FOLDER/CLASS/*.jpg, or FOLDER/train/CLASS/*.jpg and FOLDER/test/CLASS/*.jpg",
        )
