"""FGVC-Aircraft 2013b as its archive unpacks: 10,000 photographs of 100 variants, 70 families, 30 manufacturers.

Maji, Kannala, Rahtu, Blaschko and Vedaldi, "Fine-Grained Visual Classification of Aircraft", arXiv:1306.5151, 2013;
the formats are those of its README. `torchvision.datasets.FGVCAircraft` reads the same lists, but gives no boxes, fails
without naming the line, and takes the folder under one name only, so the lists are read here.

Training images are those of `trainval` (train and val), as in the lists released with SAM; test images those of `test`.
Each photograph has at its bottom a banner of 20 pixels with the copyright. The README asks to cut it off; here it
stays, because the protocol released with SAM leaves it on and results have to compare.
"""

from __future__ import annotations

from pathlib import Path

from sam_core.datasets.base import Dataset, DatasetError, Opening, Problem
from sam_core.datasets.listing import inside, line_error, read_lines, shown
from sam_core.datasets.official import Listed, build_dataset, finite_number, layout_words

#: The list of classes of each `class_level`.
CLASS_LISTS = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}
#: The list that each of our splits is read from.
SPLIT_LISTS = {"train": "images_{}_trainval.txt", "test": "images_{}_test.txt"}
BOXES = "images_box.txt"


def recognises(root: Path) -> bool:
    """Whether a folder, or `data/` in it, has the list of variants and that of the test images."""
    return _data_folder(root) is not None


def load(root: Path, opening: Opening) -> Dataset:
    """Read the lists, and the heads of the images for the sizes that boxes are relative to.

    Classes are those of `opening.class_level`, in the order of their list; names have spaces and slashes (`F/A-18`).

    Raises:
        DatasetError: naming the file, and the line where it has one, if a list is missing, does not parse, or
            contradicts another; and if there is no such class level.
    """
    root = Path(root).expanduser().resolve()
    level = opening.class_level
    if level not in CLASS_LISTS:
        raise DatasetError(f"class_level: {level!r} is none of {', '.join(CLASS_LISTS)}", "choose one of them")
    data = _data_folder(root) or root / "data"
    classes = _read_classes(data / CLASS_LISTS[level])
    images = _read_images(data, level, classes)
    boxes, problems = _read_boxes(data / BOXES, images)
    below = data.relative_to(root)
    listed = [
        Listed(
            path=inside(root, (below / "images" / f"{name}.jpg").as_posix(), file=file, line=line),
            label=label,
            split=split,
            file=file,
            line=line,
            box=boxes.get(name),
        )
        for name, (file, line, split, label) in images.items()
    ]
    layout = layout_words(f"FGVC-Aircraft 2013b by {level}, official layout", ["boxes"] if boxes else [])
    return build_dataset(
        "aircraft", root, layout, tuple(classes), listed, opening,
        training_list=SPLIT_LISTS["train"].format(level), problems=problems,
    )  # fmt: skip


def _data_folder(root: Path) -> Path | None:
    needed = (CLASS_LISTS["variant"], SPLIT_LISTS["test"].format("variant"))
    folders = (root / "data", root)
    return next((folder for folder in folders if all((folder / name).is_file() for name in needed)), None)


def _read_classes(file: Path) -> dict[str, int]:
    """By name the label: the place in the list, from 0."""
    classes: dict[str, int] = {}
    for line, name in read_lines(file):
        if name in classes:
            raise line_error(file, line, f"class {shown(name)} is listed a second time")
        classes[name] = len(classes)
    return classes


def _read_images(data: Path, level: str, classes: dict[str, int]) -> dict[str, tuple[Path, int, str, int]]:
    """By image name: the list and the line it stands in, its split and its label."""
    images: dict[str, tuple[Path, int, str, int]] = {}
    for split, pattern in SPLIT_LISTS.items():
        file = data / pattern.format(level)
        for line, text in read_lines(file):
            name, _, class_name = text.partition(" ")
            if not name or not class_name:
                raise line_error(file, line, f"{shown(text)} is not an image's name and the name of its {level}")
            if class_name not in classes:
                raise line_error(file, line, f"{CLASS_LISTS[level]} has no {level} {shown(class_name)}")
            if name in images:
                first = f"{images[name][0].name}, line {images[name][1]}"
                raise line_error(file, line, f"image {shown(name)} is listed a second time, first in {first}")
            images[name] = (file, line, split, classes[class_name])
    return images


def _read_boxes(
    file: Path, images: dict[str, tuple[Path, int, str, int]]
) -> tuple[dict[str, tuple[float, float, float, float]], list[Problem]]:
    """By image name the edges of its box in pixels, and boxes of images that are in no list.

    The list counts pixels from 1 and includes the last one: `1 1 W H` is the whole image. Edges are counted from 0.
    """
    if not file.exists():
        return {}, []
    boxes: dict[str, tuple[float, float, float, float]] = {}
    problems = []
    for line, text in read_lines(file):
        name, *fields = text.split()
        numbers = [finite_number(field) for field in fields]
        if len(numbers) != 4 or None in numbers:
            raise line_error(file, line, f"{shown(text)} is not an image's name, xmin, ymin, xmax and ymax")
        if name in boxes:
            raise line_error(file, line, f"image {shown(name)} has a second box")
        if name not in images:
            problems.append(Problem("box without image", name, f"{file.name}, line {line}: no list has this image"))
            continue
        left, top, right, bottom = numbers
        boxes[name] = (left - 1, top - 1, right, bottom)
    return boxes, problems
