"""A person's own photographs: `ROOT/train/CLASS/*` and `ROOT/test/CLASS/*`, or `ROOT/CLASS/*` with a held-out split."""

from __future__ import annotations

import os
from pathlib import Path

from sam_core.datasets.base import Dataset, DatasetError, Problem, Sample
from sam_core.datasets.images import is_image_name
from sam_core.datasets.subset import permuted

TEST_FOLDERS = ("test", "val", "valid", "validation")
#: Of every class of a folder without a test split, this share is held out for testing.
HELD_OUT = 0.2


def load_folder(root: Path, *, split_seed: int = 0) -> Dataset:
    """List a folder of photographs; nothing is decoded.

    Raises:
        DatasetError: if there is no such folder, or it has fewer than two classes with images.
    """
    root = Path(root).expanduser().resolve()
    if not root.is_dir():
        raise DatasetError(f"dataset: there is no folder {root}", "give the path of a folder of photographs")
    train = root / "train"
    test = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
    if train.is_dir() and test is not None:
        return _load_split_folders(root, train, test)
    return _load_classes_only(root, train if train.is_dir() else root, split_seed)


def _load_split_folders(root: Path, train: Path, test: Path) -> Dataset:
    classes = _class_folders(train)
    _refuse_too_few(root, classes)
    problems = []
    samples = [
        Sample(id=f"{train.name}/{path.relative_to(train).as_posix()}", path=path, label=label, split="train")
        for label, name in enumerate(classes)
        for path in classes[name]
    ]
    labels = {name: label for label, name in enumerate(classes)}
    test_classes = _class_folders(test)
    for name, paths in test_classes.items():
        if name not in labels:
            detail = f"the class has {len(paths)} test images but no training image; they are left out"
            problems.append(Problem("class only in test", f"{test.name}/{name}", detail))
            continue
        samples += [
            Sample(id=f"test/{path.relative_to(test).as_posix()}", path=path, label=labels[name], split="test")
            for path in paths
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
    classes = _class_folders(folder)
    _refuse_too_few(root, classes)
    samples, problems = [], []
    for label, (name, paths) in enumerate(classes.items()):
        everything = [
            Sample(id=path.relative_to(root).as_posix(), path=path, label=label, split="train") for path in paths
        ]
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


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    """Class names and their image files, in order of name; folders without images are no classes."""
    classes = {}
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if not entry.is_dir() or entry.name.startswith((".", "__")):
            continue
        paths = [Path(place, name) for place, _, names in os.walk(entry) for name in names]
        paths = sorted(path for path in paths if is_image_name(path))
        if paths:
            classes[entry.name] = paths
    return classes


def _refuse_too_few(root: Path, classes: dict[str, list[Path]]) -> None:
    if len(classes) < 2:
        found = f"one class ({next(iter(classes))})" if classes else "no class"
        raise DatasetError(
            f"dataset: {root} holds {found} of photographs, two are the least",
            "arrange the photographs as FOLDER/CLASS/*.jpg, or FOLDER/train/CLASS/*.jpg and FOLDER/test/CLASS/*.jpg",
        )
