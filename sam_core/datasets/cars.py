"""Stanford Cars: 16,185 photographs of 196 models, each with a box.

Krause, Stark, Deng and Fei-Fei, "3D Object Representations for Fine-Grained Categorization", 3dRR, 2013; the formats
are those of the devkit's README. It has come in two forms, and the first of them in two arrangements:

- the devkit: `cars_train/`, `cars_test/`, `devkit/cars_train_annos.mat`, `devkit/cars_meta.mat` (the names), and
  `cars_test_annos_withlabels.mat`, in the devkit or, as torchvision has it, beside it;
- all images in one: `car_ims/` and `cars_annos.mat`, in which a flag says which are for testing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam_core.datasets.base import Dataset, DatasetError, Opening
from sam_core.datasets.listing import inside, line_error
from sam_core.datasets.matfile import read_mat
from sam_core.datasets.official import Listed, build_dataset

TRAIN, TEST, META, ALL = "cars_train_annos.mat", "cars_test_annos_withlabels.mat", "cars_meta.mat", "cars_annos.mat"
TEST_WITHOUT_LABELS = "cars_test_annos.mat"
EDGES = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def recognises(root: Path) -> bool:
    """Whether a folder has the annotations of the devkit, or those of all images in one."""
    return _find(root, TRAIN) is not None or _find(root, ALL) is not None


def load(root: Path, opening: Opening) -> Dataset:
    """Read the annotations, and the heads of the images for the sizes that boxes are relative to.

    Classes are named and ordered as in the annotations: `AM General Hummer SUV 2000`.

    Raises:
        DatasetError: naming the file, and the record where it has one, if a file is missing, damaged or contradicts
            another.
    """
    root = Path(root).expanduser().resolve()
    if _find(root, TRAIN):
        training_list, (layout, classes, listed) = TRAIN, _read_devkit(root)
    else:
        training_list, (layout, classes, listed) = ALL, _read_all_in_one(root)
    layout = f"Stanford Cars, {layout} with boxes"
    return build_dataset("cars", root, layout, classes, listed, opening, training_list=training_list)


def _find(root: Path, name: str) -> Path | None:
    return next((path for path in (root / "devkit" / name, root / name) if path.is_file()), None)


def _read_devkit(root: Path) -> tuple[str, tuple[str, ...], list[Listed]]:
    files = {name: _find(root, name) for name in (TRAIN, TEST, META)}
    for name, file in files.items():
        if file is None:
            raise _missing(root, name)
    classes = _class_names(files[META], read_mat(files[META], "class_names"))
    listed = []
    for file, split in ((files[TRAIN], "train"), (files[TEST], "test")):
        for record in _records(file, read_mat(file, "annotations")):
            listed.append(_listed(root, f"cars_{split}/{record.text('fname')}", split, record, classes))
    as_torchvision = files[TRAIN].parent != root and files[TEST].parent == root
    return ("devkit in torchvision's arrangement" if as_torchvision else "official devkit"), classes, listed


def _read_all_in_one(root: Path) -> tuple[str, tuple[str, ...], list[Listed]]:
    file = _find(root, ALL)
    variables = read_mat(file, "class_names", "annotations")
    classes = _class_names(file, variables)
    listed = []
    for record in _records(file, variables):
        flag = record.number("test")
        if flag not in (0, 1):
            raise record.error(f"test is {flag:g}, neither 1 nor 0")
        listed.append(_listed(root, record.text("relative_im_path"), "test" if flag else "train", record, classes))
    return f"all images in one ({ALL})", classes, listed


def _missing(root: Path, name: str) -> DatasetError:
    if name == TEST and (without := _find(root, TEST_WITHOUT_LABELS)):
        return DatasetError(
            f"dataset: {TEST} is missing; {without} does not say which class a test image is of",
            f"place {TEST} in {root}",
        )
    return DatasetError(f"dataset: {name} is missing", f"place it in {root} or in {root / 'devkit'}")


@dataclass(frozen=True)
class _Record:
    """One of the `annotations` of a file, counted from 1."""

    file: Path
    place: int
    fields: dict[str, Any]

    def number(self, name: str) -> float:
        value = self.fields.get(name)
        if not isinstance(value, np.ndarray) or value.size != 1 or not np.isfinite(value[0]):
            raise self.error(f"there is no number {name}")
        return float(value[0])

    def text(self, name: str) -> str:
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise self.error(f"there is no text {name}")
        return value

    def error(self, what: str) -> DatasetError:
        return line_error(self.file, self.place, what, unit="record")


def _records(file: Path, variables: dict[str, Any]) -> list[_Record]:
    annotations = variables["annotations"]
    if not isinstance(annotations, list) or not all(isinstance(fields, dict) for fields in annotations):
        raise DatasetError(f"dataset: the annotations of {file} are no structures", "is this the right file?")
    return [_Record(file, place, fields) for place, fields in enumerate(annotations, start=1)]


def _class_names(file: Path, variables: dict[str, Any]) -> tuple[str, ...]:
    names = variables["class_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError(f"dataset: the class_names of {file} are no texts", "is this the right file?")
    return tuple(names)


def _listed(root: Path, name: str, split: str, record: _Record, classes: tuple[str, ...]) -> Listed:
    number = record.number("class")
    if number not in range(1, len(classes) + 1):
        raise record.error(f"class is {number:g}, the names are those of 1 to {len(classes)}")
    left, top, right, bottom = (record.number(edge) for edge in EDGES)
    return Listed(
        path=inside(root, name, file=record.file, line=record.place, unit="record"),
        label=int(number) - 1,
        split=split,
        file=record.file,
        line=record.place,
        unit="record",
        # Counted from 1, as in MATLAB, and the last pixel included: edges are counted from 0.
        box=(left - 1, top - 1, right, bottom),
    )
