"""Stanford Cars in each of its arrangements: read right, or refused with the file and the record named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import StanfordCars

from sam_core.datasets.base import Dataset, DatasetError, Opening
from sam_core.datasets.cars import load, recognises
from sam_core.datasets.catalog import open_dataset, recognise
from sam_core.datasets.images import read_image
from sam_core.datasets.subset import choose_labels
from tests.datasets.miniatures import (
    CARS,
    READABLE,
    box_of,
    frame_of,
    structures,
    write_cars_devkit,
    write_cars_in_one,
    write_cars_torchvision,
    write_mat,
)

Writer = Callable[..., Path]
WRITERS = {"devkit": write_cars_devkit, "torchvision": write_cars_torchvision, "in one": write_cars_in_one}
LAYOUTS = {
    "devkit": "Stanford Cars, official devkit with boxes",
    "torchvision": "Stanford Cars, devkit in torchvision's arrangement with boxes",
    "in one": "Stanford Cars, all images in one (cars_annos.mat) with boxes",
}
arrangement = pytest.mark.parametrize("arrangement", WRITERS)


def write(arrangement: str, folder: Path, **options: object) -> Path:
    """A miniature in `folder`, its own folder named as torchvision has it."""
    if arrangement == "torchvision":
        return write_cars_torchvision(folder, **options)
    return WRITERS[arrangement](folder / "stanford_cars", **options)


def open_(root: Path) -> Dataset:
    return load(root, Opening())


def record(**changes: object) -> dict[str, object]:
    """A record of the devkit as it should be, but for the changes."""
    edges = {"bbox_x1": 7, "bbox_y1": 6, "bbox_x2": 38, "bbox_y2": 31}
    return {**edges, "class": np.uint8(1), "fname": "00001.jpg", **changes}


@arrangement
def test_every_image_has_its_class_split_and_box(tmp_path: Path, arrangement: str):
    dataset = open_(write(arrangement, tmp_path))
    assert dataset.name == "cars"
    assert dataset.layout == LAYOUTS[arrangement]
    assert dataset.classes == CARS[:3]
    assert dataset.problems == ()
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (9, 6)
    order = [0, 1, 2, 5, 6, 7, 10, 11, 12, 3, 4, 8, 9, 13, 14] if arrangement != "in one" else range(15)
    for image, sample in zip(order, dataset.samples, strict=True):
        assert (sample.label, sample.split) == (image // 5, "train" if image % 5 < 3 else "test")
        # The annotations count pixels from 1 and include the last; a box is measured between edges.
        width, height = frame_of(image)
        left, top, across, down = box_of(image)
        assert sample.box == (left / width, top / height, across / width, down / height)
        assert sample.path == dataset.root / sample.id
    folder = "car_ims/000001.jpg" if arrangement == "in one" else "cars_train/00001.jpg"
    assert dataset.samples[0].id == folder


def test_images_and_labels_are_those_of_torchvision(tmp_path: Path):
    dataset = open_(write_cars_torchvision(tmp_path))
    for split in ("train", "test"):
        oracle = StanfordCars(str(tmp_path), split=split)
        assert list(dataset.classes) == oracle.classes
        assert [(str(sample.path), sample.label) for sample in dataset.split(split)] == oracle._samples


@pytest.mark.parametrize("place", ["devkit", "."])
def test_the_labels_of_the_test_images_may_lie_in_the_devkit_or_beside_it(tmp_path: Path, place: str):
    assert len(open_(write_cars_devkit(tmp_path / "cars", test_labels=place)).split("test")) == 6


def test_without_labels_of_the_test_images_the_missing_file_is_named(tmp_path: Path):
    root = write_cars_devkit(tmp_path / "cars", test_labels=None)
    with pytest.raises(
        DatasetError, match=r"cars_test_annos_withlabels\.mat is missing; .*cars_test_annos\.mat"
    ) as caught:
        open_(root)
    assert "cars_test_annos_withlabels.mat" in caught.value.hint


def test_without_the_names_of_the_classes_the_missing_file_is_named(tmp_path: Path):
    root = write_cars_devkit(tmp_path / "cars")
    (root / "devkit" / "cars_meta.mat").unlink()
    with pytest.raises(DatasetError, match=r"cars_meta\.mat is missing"):
        open_(root)


@arrangement
def test_every_kind_of_image_is_read(tmp_path: Path, arrangement: str):
    dataset = open_(write(arrangement, tmp_path, kinds=dict(enumerate(READABLE))))
    assert dataset.problems == ()
    assert all(read_image(sample.path).mode == "RGB" for sample in dataset.samples)


@arrangement
def test_a_listed_image_that_is_missing_is_left_out_and_named_with_its_record(tmp_path: Path, arrangement: str):
    dataset = open_(write(arrangement, tmp_path, missing={1}))
    assert len(dataset.samples) == 14
    (problem,) = dataset.problems
    assert problem.kind == "missing image"
    assert ("cars_annos.mat" if arrangement == "in one" else "cars_train_annos.mat") + ", record 2 " in problem.detail


@arrangement
def test_a_class_without_training_images_is_named_and_cannot_be_trained(tmp_path: Path, arrangement: str):
    dataset = open_(write(arrangement, tmp_path, empty_class=2))
    assert [(problem.kind, problem.path) for problem in dataset.problems] == [
        ("class without training images", "Ram C/V Cargo Van Minivan 2012")
    ]
    with pytest.raises(DatasetError, match="'Ram C/V Cargo Van Minivan 2012'"):
        choose_labels(dataset, label_ratio=50, seed=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class": np.uint8(4)}, "class is 4, the names are those of 1 to 3"),
        ({"class": np.uint8(0)}, "class is 0"),
        ({"class": np.float64(1.5)}, "class is 1.5"),
        ({"class": "1"}, "there is no number class"),
        ({"class": np.array([[1, 2]])}, "there is no number class"),
        ({"bbox_x1": np.float64(np.nan)}, "there is no number bbox_x1"),
        ({"fname": np.uint8(1)}, "there is no text fname"),
        ({"fname": "../../secret.jpg"}, "not a plain path"),
        ({"fname": "/etc/passwd"}, "not a plain path"),
        ({"fname": ""}, "not a plain path"),
    ],
)
def test_a_wrong_record_is_refused_with_file_and_record(tmp_path: Path, changes: dict[str, object], words: str):
    root = write_cars_devkit(tmp_path / "cars")
    file = root / "devkit" / "cars_train_annos.mat"
    write_mat(file, annotations=structures([record(), record(**changes)]))
    with pytest.raises(DatasetError) as caught:
        open_(root)
    assert f"{file}, record 2: " in str(caught.value)
    assert words in str(caught.value)


def test_a_test_flag_that_is_neither_is_refused(tmp_path: Path):
    root = write_cars_in_one(tmp_path / "cars")
    wrong = {**record(), "relative_im_path": "car_ims/000001.jpg", "test": np.uint8(2)}
    write_mat(root / "cars_annos.mat", annotations=structures([wrong]), class_names=np.array([CARS], dtype=object))
    with pytest.raises(DatasetError, match=r"cars_annos\.mat, record 1: test is 2"):
        open_(root)


@pytest.mark.parametrize("name", ["cars_train_annos.mat", "cars_test_annos_withlabels.mat", "cars_meta.mat"])
@pytest.mark.parametrize("damage", ["text", "cut off", "another kind", "another variable"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str, damage: str):
    root = write_cars_devkit(tmp_path / "cars")
    file = root / "devkit" / name
    if damage == "text":
        file.write_text("<html>404 Not Found</html>")
    elif damage == "cut off":
        file.write_bytes(file.read_bytes()[:-20])
    elif damage == "another kind":
        write_mat(file, annotations=np.array([[1, 2]]), class_names=np.array([[1, 2]]))
    else:
        write_mat(file, labels=np.array([[1, 2]]))
    with pytest.raises(DatasetError, match=name):
        open_(root)


def test_the_same_image_twice_is_refused(tmp_path: Path):
    root = write_cars_devkit(tmp_path / "cars")
    file = root / "devkit" / "cars_train_annos.mat"
    write_mat(file, annotations=structures([record(), record()]))
    with pytest.raises(DatasetError, match=r"record 2: .*00001\.jpg.* second time"):
        open_(root)


@arrangement
def test_it_is_recognised_and_opens_by_name_by_its_folder_and_by_the_folder_above(tmp_path: Path, arrangement: str):
    root = write(arrangement, tmp_path)
    assert recognise(root) == ("cars", root)
    expected = open_(root)
    for dataset in ("cars", str(root), str(tmp_path)):
        assert open_dataset(dataset, data_root=tmp_path) == expected


def test_photographs_of_cars_alone_are_not_recognised(tmp_path: Path):
    root = write_cars_devkit(tmp_path / "cars")
    (root / "devkit" / "cars_train_annos.mat").unlink()
    assert not recognises(root)
