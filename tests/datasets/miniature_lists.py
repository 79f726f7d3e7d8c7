"""Miniature datasets in the layout released with SAM, and in torchvision's layouts of flowers and pets.

Images are those of `miniatures`: counted from 0, per class first the training images, then the test images.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sam_core.datasets.subset import labelled_count
from tests.datasets.miniatures import (
    box_of,
    draw_object,
    frame_of,
    labels_and_splits,
    write_list,
    write_mat,
    write_picture,
)

#: The names of class folders in the three released sets. Those of cars, sorted by name, are in another order.
RELEASED = {
    "CUB200": ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross", "004.Groove_billed_Ani"),
    "StanfordCars": tuple(str(number) for number in range(1, 13)),
    "Aircraft": ("707-320", "Boeing 717", "DC-9-30", "F-A-18"),
}
RATIOS = (10, 15, 30, 50, 100)
BREEDS = (("Egyptian_Mau", 1), ("american_bulldog", 2), ("pug", 2))


def released_names(style: str, image: int, label: int) -> str:
    """Class folder and file name, as the released sets have them."""
    folder = RELEASED[style][label]
    return {
        "CUB200": f"{folder}/{folder[4:]}_{image:04}_{7000 + image}.jpg",
        "StanfordCars": f"{folder}/{image + 1:06}.jpg",
        "Aircraft": f"{folder}/{1234567 + 7 * image:07}.jpg",
    }[style]


def write_released(
    root: Path, style: str = "CUB200", *, classes: int = 4, train: int = 10, test: int = 2,
    firsts: Collection[int] = (2,), missing: Collection[int] = (), empty_class: int | None = None,
    kinds: Mapping[int, str] | None = None,
) -> Path:  # fmt: skip
    """`train/`, `test/` and `image_list/` with every list, byte for byte as released.

    Args:
        root: the folder to be.
        style: a key of `RELEASED`.
        classes: how many.
        train: training images of each class; at a ratio the first of them are labelled.
        test: test images of each class.
        firsts: the sizes of the category subsets.
        missing: the images whose file is left out.
        empty_class: a class without training images.
        kinds: how some images are stored, as in `miniatures.KINDS`.
    """
    images = labels_and_splits(classes, train, test, empty_class)
    for image, (label, split) in enumerate(images):
        path = root / split / released_names(style, image, label)
        path.parent.mkdir(parents=True, exist_ok=True)
        if image not in missing:
            write_picture(path, draw_object(image, label), (kinds or {}).get(image, "rgb"))
    write_released_lists(root / "image_list", style, images, firsts)
    return root


def write_released_lists(
    folder: Path, style: str, images: list[tuple[int, str]], firsts: Collection[int] = (2,)
) -> Path:
    """The lists alone: label and split of each image are given, in the order of `miniatures`."""
    classes = 1 + max(label for label, _ in images)
    lines: dict[str, list[tuple[int, str]]] = {"train": [], "test": []}
    for image, (label, split) in enumerate(images):
        lines[split].append((label, f"{split}/{released_names(style, image, label)} {label}"))
    for ratio in RATIOS:
        chosen = [row for label in range(classes) for row in _first(lines["train"], label, ratio)]
        if style == "StanfordCars":
            random.Random(0).shuffle(chosen)  # in no order of classes
        write(folder / f"train_{ratio}.txt", [line for _, line in chosen], plain=ratio != 10)
        for first in firsts if ratio != 100 else ():
            subset = [line for label, line in chosen if label < first]
            write(folder / f"train_{ratio}{classes:03}{first}.txt", subset, plain=False)
    write(folder / "test.txt", [line for _, line in lines["test"]], plain=True)
    return folder


def _first(rows: list[tuple[int, str]], label: int, ratio: int) -> list[tuple[int, str]]:
    of_class = [row for row in rows if row[0] == label]
    return of_class[: labelled_count(ratio, len(of_class))]


def write(path: Path, lines: Iterable[str], *, plain: bool) -> None:
    """A list with LF, the last line too; or, as most of the released ones, with CRLF and no end of the last line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in lines) if plain else "\r\n".join(lines)
    path.write_bytes(text.encode())


def write_flowers102(
    root: Path, *, classes: int = 3, train: int = 2, validation: int = 2, test: int = 3, missing: Collection[int] = (),
    kinds: Mapping[int, str] | None = None,
) -> Path:  # fmt: skip
    """Oxford Flowers 102 as `torchvision.datasets.Flowers102` unpacks it, `root` being its folder `flowers-102`."""
    images = labels_and_splits(classes, train + validation, test)
    numbers: dict[str, list[int]] = {"trnid": [], "valid": [], "tstid": []}
    for image, (label, split) in enumerate(images):
        path = root / "jpg" / f"image_{image + 1:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if image not in missing:
            write_picture(path, draw_object(image, label), (kinds or {}).get(image, "rgb"))
        place = image % (train + validation + test)
        numbers["tstid" if split == "test" else "trnid" if place < train else "valid"].append(image + 1)
    write_mat(root / "imagelabels.mat", labels=np.array([[label + 1 for label, _ in images]], dtype=np.uint8))
    write_mat(root / "setid.mat", **{name: np.array([row], dtype=np.uint16) for name, row in numbers.items()})
    return root


def write_pets(
    root: Path, *, classes: int = 3, train: int = 3, test: int = 2, trimaps: bool = True, crlf: bool = False,
    missing: Collection[int] = (), kinds: Mapping[int, str] | None = None,
) -> Path:  # fmt: skip
    """Oxford-IIIT Pet as `torchvision.datasets.OxfordIIITPet` unpacks it, `root` being its folder `oxford-iiit-pet`."""
    images = labels_and_splits(classes, train, test)
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for image, (label, split) in enumerate(images):
        name = f"{BREEDS[label][0]}_{image + 1}"
        lines[split].append(f"{name} {label + 1} {BREEDS[label][1]} {label + 1}")
        path = root / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if image not in missing:
            write_picture(path, draw_object(image, label), (kinds or {}).get(image, "rgb"))
        if trimaps:
            path = root / "annotations" / "trimaps" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_trimap(image).save(path)
            path.with_name(f"._{name}.png").write_bytes(b"Mac OS X")  # as in the published archive
    everything = ["#Image CLASS-ID SPECIES BREED ID", *lines["train"], *lines["test"]]
    for name, rows in (("trainval.txt", lines["train"]), ("test.txt", lines["test"]), ("list.txt", everything)):
        write_list(root / "annotations" / name, rows, crlf=crlf)
    return root


def draw_trimap(image: int) -> Image.Image:
    """1 on the object of `draw_object`, 3 along its outline, 2 elsewhere."""
    left, top, width, height = box_of(image)
    trimap = Image.new("L", frame_of(image), 2)
    edges = (left, top, left + width - 1, top + height - 1)
    ImageDraw.Draw(trimap).ellipse(edges, fill=1, outline=3, width=2)
    return trimap
