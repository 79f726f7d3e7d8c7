"""Miniature datasets in the formats of the originals, with small drawn photographs and everything known about them.

Images are counted from 0 in the order of the lists; `frame_of`, `box_of` and `parts_of` say what is marked on each, in
pixels, so that a test can compute what it expects. An image's class and split follow from its place: per class first
the training images, then the test images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.io import savemat

from sam_core.datasets.images import ImageError, read_image

BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross", "004.Groove_billed_Ani")
BIRD_PARTS = (
    "back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg", "left wing", "nape", "right eye",
    "right leg", "right wing", "tail", "throat",
)  # fmt: skip
CARS = (
    "AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012",
    "smart fortwo Convertible 2012",
)  # fmt: skip
#: Variant, family, manufacturer.
AIRCRAFT = (
    ("707-320", "Boeing 707", "Boeing"),
    ("Boeing 717", "Boeing 717", "Boeing"),
    ("DC-9-30", "DC-9", "McDonnell Douglas"),
    ("F/A-18", "F/A-18", "McDonnell Douglas"),
)
#: How a photograph may be stored: `write_picture`.
KINDS = ("rgb", "grey", "cmyk", "palette", "16-bit", "rotated", "truncated", "empty", "text")
READABLE = KINDS[:6]
INKS = ("crimson", "gold", "deepskyblue", "violet")


def frame_of(image: int) -> tuple[int, int]:
    """Width and height of an image, in pixels as stored: some lie, some stand."""
    return ((64, 48), (50, 60), (80, 50))[image % 3]


def box_of(image: int) -> tuple[int, int, int, int]:
    """The object's box: left, top, width and height in pixels as stored, counted from 0."""
    return 6 + image % 5, 5 + image % 4, 32, 26


def parts_of(image: int) -> dict[str, tuple[int, int]]:
    """The visible parts and their places, in pixels as stored: two of three parts."""
    left, top, _, _ = box_of(image)
    return {
        name: (left + 2 * number, top + 25 - number)
        for number, name in enumerate(BIRD_PARTS)
        if (image + number) % 3 != 0
    }


def draw_object(image: int, label: int) -> Image.Image:
    """A disc of its class's colour, in the object's box on a ground of noise seeded by the image's number."""
    left, top, width, height = box_of(image)
    size = frame_of(image)
    noise = np.random.default_rng(image).integers(40, 120, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    ImageDraw.Draw(picture).ellipse((left, top, left + width - 1, top + height - 1), fill=INKS[label % len(INKS)])
    return picture


def write_picture(path: Path, picture: Image.Image, kind: str = "rgb", *, orientation: int = 6) -> Path:
    """Store a picture in one of the ways of `KINDS`; the pixels that a file cannot hold as they are come close.

    Args:
        path: the file. What JPEG cannot hold is written as PNG, whatever the name says, as some photographs are.
        picture: in RGB.
        kind: one of `KINDS`.
        orientation: of kind `rotated`: EXIF's 1 to 8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind in ("empty", "text"):
        path.write_bytes(b"" if kind == "empty" else b"This is no photograph.\r\n")
    elif kind in ("grey", "cmyk"):
        picture.convert({"grey": "L", "cmyk": "CMYK"}[kind]).save(path, format="JPEG", quality=95)
    elif kind == "palette":
        picture.quantize(64).save(path, format="PNG")
    elif kind == "16-bit":
        Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(path, format="PNG")
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(path, format="JPEG", quality=95, exif=exif)
    else:
        picture.save(path, format="JPEG", quality=95)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def write_list(path: Path, lines: Iterable[str], *, crlf: bool = False) -> Path:
    """A list file, each line ended as on Unix, or as on Windows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + ("\r\n" if crlf else "\n") for line in lines).encode())
    return path


def assert_read_or_refused(path: Path, kind: str) -> None:
    """An image of a kind that can be read is read in colours; any other is an `ImageError`."""
    if kind in READABLE:
        assert read_image(path).mode == "RGB"
    else:
        with pytest.raises(ImageError):
            read_image(path)


def labels_and_splits(classes: int, train: int, test: int, empty_class: int | None = None) -> list[tuple[int, str]]:
    """Label and split of each image; of the empty class all images are test images."""
    return [
        (label, "train" if place < train and label != empty_class else "test")
        for label in range(classes)
        for place in range(train + test)
    ]


def write_cub200(
    root: Path, *, classes: int = 3, train: int = 3, test: int = 2, boxes: bool = True, parts: bool = True,
    masks: Path | None = None, crlf: bool = False, missing: Collection[int] = (), empty_class: int | None = None,
    kinds: Mapping[int, str] | None = None,
) -> Path:  # fmt: skip
    """CUB-200-2011 as its archive unpacks.

    Args:
        root: the folder to be, such as `CUB_200_2011`.
        classes: how many, 4 at most.
        train: training images of each class.
        test: test images of each class.
        boxes: whether `bounding_boxes.txt` is there.
        parts: whether `parts/` is there.
        masks: the folder that gets `segmentations/`: the root or its parent; none if left out.
        crlf: whether the lists' lines end as on Windows.
        missing: the images whose file is left out.
        empty_class: a class without training images.
        kinds: how some images are stored, as in `KINDS`.
    """
    images = labels_and_splits(classes, train, test, empty_class)
    names = [
        f"{BIRDS[label]}/{BIRDS[label][4:]}_{image:04}_{7000 + image}.jpg" for image, (label, _) in enumerate(images)
    ]
    _write_pictures([root / "images" / name for name in names], images, missing, kinds)

    def write(name: str, lines: Iterable[str]) -> None:
        write_list(root / name, lines, crlf=crlf)

    write("classes.txt", (f"{number} {name}" for number, name in enumerate(BIRDS[:classes], start=1)))
    write("images.txt", (f"{image + 1} {name}" for image, name in enumerate(names)))
    write("image_class_labels.txt", (f"{image + 1} {label + 1}" for image, (label, _) in enumerate(images)))
    write("train_test_split.txt", (f"{image + 1} {int(split == 'train')}" for image, (_, split) in enumerate(images)))
    if boxes:
        edges = [" ".join(f"{edge}.0" for edge in box_of(image)) for image in range(len(images))]
        write("bounding_boxes.txt", (f"{image + 1} {four}" for image, four in enumerate(edges)))
    if parts:
        write("parts/parts.txt", (f"{number} {name}" for number, name in enumerate(BIRD_PARTS, start=1)))
        write("parts/part_locs.txt", (line for image in range(len(images)) for line in _part_lines(image)))
    for image, name in enumerate(names if masks else ()):
        path = (masks / "segmentations" / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_agreement(image).save(path)
    return root


def draw_agreement(image: int) -> Image.Image:
    """A segmentation: 255 where all annotators see the object, less where fewer do, 0 elsewhere."""
    left, top, width, height = box_of(image)
    mask = Image.new("L", frame_of(image))
    for inset, grey in enumerate((51, 102, 153, 204, 255)):
        edges = (left + inset, top + inset, left + width - 1 - inset, top + height - 1 - inset)
        ImageDraw.Draw(mask).ellipse(edges, fill=grey)
    return mask


def _part_lines(image: int) -> list[str]:
    seen = parts_of(image)
    places = [(*seen[name], 1) if name in seen else (0, 0, 0) for name in BIRD_PARTS]
    return [f"{image + 1} {number} {x}.0 {y}.0 {visible}" for number, (x, y, visible) in enumerate(places, start=1)]


def write_cars_devkit(
    root: Path, *, classes: int = 3, train: int = 3, test: int = 2, test_labels: str | None = "devkit",
    missing: Collection[int] = (), empty_class: int | None = None, kinds: Mapping[int, str] | None = None,
) -> Path:  # fmt: skip
    """Stanford Cars as its devkit and two archives unpack.

    Args:
        root: the folder to be, such as `stanford_cars`.
        test_labels: the folder below the root that gets `cars_test_annos_withlabels.mat`; None leaves it out.

    The others are as of `write_cub200`.
    """
    images = labels_and_splits(classes, train, test, empty_class)
    paths, records = [], {"train": [], "test": []}
    for image, (label, split) in enumerate(images):
        name = f"{len(records[split]) + 1:05}.jpg"
        paths.append(root / f"cars_{split}" / name)
        records[split].append({**_car_edges(image), "class": np.uint8(label + 1), "fname": name})
    _write_pictures(paths, images, missing, kinds)
    write_mat(root / "devkit" / "cars_meta.mat", class_names=np.array([CARS[:classes]], dtype=object))
    write_mat(root / "devkit" / "cars_train_annos.mat", annotations=structures(records["train"]))
    unlabelled = [{key: value for key, value in record.items() if key != "class"} for record in records["test"]]
    write_mat(root / "devkit" / "cars_test_annos.mat", annotations=structures(unlabelled))
    if test_labels is not None:
        write_mat(root / test_labels / "cars_test_annos_withlabels.mat", annotations=structures(records["test"]))
    return root


def write_cars_torchvision(root: Path, **options: object) -> Path:
    """Stanford Cars below `root/stanford_cars`, where `torchvision.datasets.StanfordCars(root)` looks for it."""
    return write_cars_devkit(root / "stanford_cars", test_labels=".", **options)


def write_cars_in_one(
    root: Path, *, classes: int = 3, train: int = 3, test: int = 2, missing: Collection[int] = (),
    empty_class: int | None = None, kinds: Mapping[int, str] | None = None,
) -> Path:  # fmt: skip
    """Stanford Cars as it came first: `car_ims/` and `cars_annos.mat`. The options are as of `write_cub200`."""
    images = labels_and_splits(classes, train, test, empty_class)
    names = [f"car_ims/{image + 1:06}.jpg" for image in range(len(images))]
    _write_pictures([root / name for name in names], images, missing, kinds)
    records = [
        {
            "relative_im_path": name,
            **_car_edges(image),
            "class": np.uint8(label + 1),
            "test": np.uint8(split == "test"),
        }
        for image, (name, (label, split)) in enumerate(zip(names, images, strict=True))
    ]
    names_of_classes = np.array([CARS[:classes]], dtype=object)
    write_mat(root / "cars_annos.mat", annotations=structures(records), class_names=names_of_classes)
    return root


def _car_edges(image: int) -> dict[str, np.number]:
    """Counted from 1, the last pixel included, and as narrow as MATLAB stores it."""
    left, top, width, height = box_of(image)
    return {
        "bbox_x1": np.uint8(left + 1),
        "bbox_y1": np.uint8(top + 1),
        "bbox_x2": np.uint16(left + width),
        "bbox_y2": np.uint16(top + height),
    }


def structures(records: list[dict[str, object]]) -> np.ndarray:
    """A MATLAB structure array of one row."""
    array = np.empty((1, len(records)), dtype=[(name, object) for name in records[0]])
    for place, record in enumerate(records):
        array[0, place] = tuple(record.values())
    return array


def write_mat(path: Path, **variables: np.ndarray) -> Path:
    """A MATLAB file of version 5, packed as MATLAB packs it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, do_compression=True)
    return path


def write_aircraft(
    root: Path, *, classes: int = 4, train: int = 4, test: int = 2, boxes: bool = True, crlf: bool = False,
    missing: Collection[int] = (), empty_class: int | None = None, kinds: Mapping[int, str] | None = None,
) -> Path:  # fmt: skip
    """FGVC-Aircraft 2013b as its archive unpacks; every second training image is one of `val`.

    Args:
        root: the folder to be, such as `fgvc-aircraft-2013b`.
        classes: how many variants, 4 at most; a class is a variant here.

    The others are as of `write_cub200`.
    """
    images = labels_and_splits(classes, train, test, empty_class)
    names = [f"{1234567 + 7 * image:07}" for image in range(len(images))]
    _write_pictures([root / "data" / "images" / f"{name}.jpg" for name in names], images, missing, kinds)

    def write(name: str, lines: Iterable[str]) -> None:
        write_list(root / "data" / name, lines, crlf=crlf)

    halves = [("train", "val")[image % 2] if split == "train" else "test" for image, (_, split) in enumerate(images)]
    lists = {"train": ["train"], "val": ["val"], "trainval": ["train", "val"], "test": ["test"]}
    for split, members in lists.items():
        of_split = [image for image, half in enumerate(halves) if half in members]
        write(f"images_{split}.txt", (names[image] for image in of_split))
        for column, level in enumerate(("variant", "family", "manufacturer")):
            lines = (f"{names[image]} {AIRCRAFT[images[image][0]][column]}" for image in of_split)
            write(f"images_{level}_{split}.txt", lines)
    for column, name in enumerate(("variants.txt", "families.txt", "manufacturers.txt")):
        write(name, dict.fromkeys(kind[column] for kind in AIRCRAFT[:classes]))
    if boxes:
        edges = [" ".join(str(edge) for edge in _car_edges(image).values()) for image in range(len(images))]
        write("images_box.txt", (f"{name} {four}" for name, four in zip(names, edges, strict=True)))
    return root


def _write_pictures(
    paths: list[Path], images: list[tuple[int, str]], missing: Collection[int], kinds: Mapping[int, str] | None
) -> None:
    for image, (path, (label, _)) in enumerate(zip(paths, images, strict=True)):
        path.parent.mkdir(parents=True, exist_ok=True)
        if image not in missing:
            write_picture(path, draw_object(image, label), (kinds or {}).get(image, "rgb"))
