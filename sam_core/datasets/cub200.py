"""CUB-200-2011 as its archive unpacks: 200 species of birds, 11,788 photographs, each with a box and 15 parts.

Wah, Branson, Welinder, Perona and Belongie, "The Caltech-UCSD Birds-200-2011 Dataset", CNS-TR-2011-001, 2011; the
formats are those of its README. Boxes and parts are optional, and so are the segmentations (Farrell), which come in an
archive of their own: below the dataset's folder, or beside it, where both archives were unpacked in the same place.
"""

from __future__ import annotations

import os
from pathlib import Path

from sam_core.datasets.base import Dataset, DatasetError, Opening, Problem
from sam_core.datasets.listing import inside, line_error, read_lines, shown
from sam_core.datasets.official import Listed, build_dataset, finite_number, layout_words

IMAGES, LABELS, SPLIT, CLASSES = "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt"
BOXES, PARTS, PART_LOCATIONS = "bounding_boxes.txt", "parts/parts.txt", "parts/part_locs.txt"
MASKS = "segmentations"
#: A mask's grey says how many of the annotators took a pixel for the bird: from half of them on it counts as such.
MASK_ON = (128, 255)

#: By image id: the line it stands in, and its path below `images/`.
Names = dict[str, tuple[int, str]]


def recognises(root: Path) -> bool:
    """Whether a folder has the three lists without which there is no such dataset."""
    return all((root / name).is_file() for name in (IMAGES, LABELS, SPLIT))


def load(root: Path, opening: Opening) -> Dataset:
    """Read the lists, and the heads of the images for the sizes that boxes and parts are relative to.

    Classes are named and ordered as in `classes.txt`: `001.Black_footed_Albatross`.

    Raises:
        DatasetError: naming the file, and the line where it has one, if a list is missing, does not parse, or
            contradicts another.
    """
    root = Path(root).expanduser().resolve()
    classes = _read_classes(root / CLASSES)
    names = _read_named(root / IMAGES, "an image id and a path below images/")
    labels = _read_labels(root / LABELS, names, classes)
    splits = _read_splits(root / SPLIT, names)
    boxes = _read_boxes(root / BOXES, names)
    part_names, parts = _read_parts(root, names)
    masks, problems = _find_masks(root, names)
    listed = [
        Listed(
            path=inside(root, f"images/{name}", file=root / IMAGES, line=line),
            label=labels[image],
            split=splits[image],
            file=root / IMAGES,
            line=line,
            box=boxes.get(image),
            parts=tuple(parts.get(image, ())),
            mask_path=masks.get(image),
        )
        for image, (line, name) in names.items()
    ]
    has = {"boxes": boxes, f"{len(part_names)} parts": parts, "masks": masks}
    layout = layout_words("CUB-200-2011, official layout", [words for words, found in has.items() if found])
    classes_in_order = tuple(name for _, name in classes.values())
    return build_dataset(
        "cub200", root, layout, classes_in_order, listed, opening,
        training_list=SPLIT, mask_on=MASK_ON, problems=problems,
    )  # fmt: skip


def _read_classes(file: Path) -> dict[str, tuple[int, str]]:
    """By class number: the label, from 0 in the list's order, and the name."""
    numbered = _read_named(file, "a class number and a name")
    return {number: (label, name) for label, (number, (_, name)) in enumerate(numbered.items())}


def _read_labels(file: Path, names: Names, classes: dict[str, tuple[int, str]]) -> dict[str, int]:
    labels = {}
    for image, (line, (number,)) in _read_rows(file, names, 1, "an image id and a class number", every=True).items():
        if number not in classes:
            raise line_error(file, line, f"{CLASSES} has no class {shown(number)}")
        labels[image] = classes[number][0]
    return labels


def _read_splits(file: Path, names: Names) -> dict[str, str]:
    splits = {}
    for image, (line, (flag,)) in _read_rows(
        file, names, 1, "an image id and 1 (training) or 0 (test)", every=True
    ).items():
        if flag not in ("0", "1"):
            raise line_error(file, line, f"{shown(flag)} is neither 1 (training) nor 0 (test)")
        splits[image] = "train" if flag == "1" else "test"
    return splits


def _read_boxes(file: Path, names: Names) -> dict[str, tuple[float, float, float, float]]:
    """By image id the edges of its box, in pixels."""
    if not file.exists():
        return {}
    boxes = {}
    for image, (line, fields) in _read_rows(file, names, 4, "an image id, x, y, width and height").items():
        numbers = [finite_number(field) for field in fields]
        if None in numbers:
            raise line_error(file, line, f"{shown(' '.join(fields))} are not four numbers: x, y, width, height")
        x, y, width, height = numbers
        boxes[image] = (x, y, x + width, y + height)
    return boxes


def _read_parts(root: Path, names: Names) -> tuple[list[str], dict[str, list[tuple[str, float, float]]]]:
    """The names of the parts, and by image id those that are visible, with x and y in pixels."""
    file = root / PART_LOCATIONS
    if not file.exists():
        return [], {}
    part_names = {number: name for number, (_, name) in _read_named(root / PARTS, "a part's number and name").items()}
    parts: dict[str, list[tuple[str, float, float]]] = {}
    seen = set()
    for line, text in read_lines(file):
        fields = text.split()
        if len(fields) != 5:
            raise _malformed(file, line, text, "an image id, a part's number, x, y and 1 or 0 (visible)")
        image, number, *position, visible = fields
        if image not in names:
            raise line_error(file, line, f"{IMAGES} has no image {shown(image)}")
        if number not in part_names:
            raise line_error(file, line, f"{PARTS} has no part {shown(number)}")
        if (image, number) in seen:
            raise line_error(file, line, f"part {number} of image {image} is listed a second time")
        seen.add((image, number))
        x, y = (finite_number(value) for value in position)
        if visible not in ("0", "1") or x is None or y is None:
            raise _malformed(file, line, text, "x and y in pixels and 1 or 0 (visible)")
        if visible == "1":
            parts.setdefault(image, []).append((part_names[number], x, y))
    return list(part_names.values()), parts


def _find_masks(root: Path, names: Names) -> tuple[dict[str, Path], list[Problem]]:
    """By image id its segmentation, and where one is missing."""
    a_class = next(iter(names.values()))[1].split("/")[0]
    folder = next((place for place in (root, root.parent) if (place / MASKS / a_class).is_dir()), None)
    if folder is None:
        return {}, []
    masks, problems = {}, []
    for image, (line, name) in names.items():
        mask = f"{MASKS}/{os.path.splitext(name)[0]}.png"
        path = inside(folder, mask, file=root / IMAGES, line=line)
        if os.path.isfile(path):
            masks[image] = path
        else:
            problems.append(Problem("missing mask", f"images/{name}", f"there is no file {mask}"))
    return masks, problems


def _read_named(file: Path, form: str) -> dict[str, tuple[int, str]]:
    """A list of numbered names, in its order. By number: the line, and the name, which may have spaces."""
    found: dict[str, tuple[int, str]] = {}
    for line, text in read_lines(file):
        number, _, name = text.partition(" ")
        if not number or not name.strip():
            raise _malformed(file, line, text, form)
        if number in found:
            raise line_error(
                file, line, f"number {shown(number)} is used a second time, first in line {found[number][0]}"
            )
        found[number] = (line, name.strip())
    if not found:
        raise line_error(file, 1, f"the list is empty, expected {form}")
    return found


def _read_rows(
    file: Path, names: Names, count: int, form: str, *, every: bool = False
) -> dict[str, tuple[int, list[str]]]:
    """A list with a line per image. By image id: the line, and the `count` fields after the id.

    No image may be there twice, none that `images.txt` lacks, and, on demand, every one of it must be.
    """
    rows: dict[str, tuple[int, list[str]]] = {}
    for line, text in read_lines(file):
        image, *fields = text.split()
        if len(fields) != count:
            raise _malformed(file, line, text, form)
        if image not in names:
            raise line_error(file, line, f"{IMAGES} has no image {shown(image)}")
        if image in rows:
            raise line_error(file, line, f"image {shown(image)} has a second line, the first is line {rows[image][0]}")
        rows[image] = (line, fields)
    missing = next((image for image in names if image not in rows), None)
    if every and missing is not None:
        raise line_error(file.parent / IMAGES, names[missing][0], f"image {shown(missing)} has no line in {file.name}")
    return rows


def _malformed(file: Path, line: int, text: str, form: str) -> DatasetError:
    return line_error(file, line, f"{shown(text)} is not {form}")
