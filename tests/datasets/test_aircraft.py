"""FGVC-Aircraft in its official layout: read right at each level, or refused with the file and the line named."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchvision.datasets import FGVCAircraft

from sam_core.datasets.aircraft import load, recognises
from sam_core.datasets.base import Dataset, DatasetError, Opening
from sam_core.datasets.catalog import open_dataset, recognise
from sam_core.datasets.images import read_image
from sam_core.datasets.subset import choose_labels
from tests.datasets.miniatures import READABLE, box_of, frame_of, write_aircraft, write_list

NAME = "fgvc-aircraft-2013b"


def open_(root: Path, level: str = "variant") -> Dataset:
    return load(root, Opening(class_level=level))


def change(root: Path, name: str, line: int, text: str | None) -> None:
    """Replace a line of a list in `data/`, counted from 1; None takes it away."""
    lines = (root / "data" / name).read_text(encoding="utf-8").splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    write_list(root / "data" / name, lines)


@pytest.mark.parametrize("crlf", [False, True], ids=["LF", "CRLF"])
def test_every_image_has_its_variant_split_and_box(tmp_path: Path, crlf: bool):
    dataset = open_(write_aircraft(tmp_path / NAME, crlf=crlf))
    assert dataset.name == "aircraft"
    assert dataset.layout == "FGVC-Aircraft 2013b by variant, official layout with boxes"
    assert dataset.classes == ("707-320", "Boeing 717", "DC-9-30", "F/A-18")
    assert dataset.problems == ()
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (16, 8)
    for sample in dataset.samples:
        image = (int(sample.path.stem) - 1234567) // 7
        assert sample.id == f"data/images/{sample.path.name}"
        assert (sample.label, sample.split) == (image // 6, "train" if image % 6 < 4 else "test")
        # The list counts pixels from 1 and includes the last; a box is measured between edges.
        width, height = frame_of(image)
        left, top, across, down = box_of(image)
        assert sample.box == (left / width, top / height, across / width, down / height)


@pytest.mark.parametrize(
    ("level", "classes", "labels"),
    [
        ("variant", ("707-320", "Boeing 717", "DC-9-30", "F/A-18"), [0, 1, 2, 3]),
        ("family", ("Boeing 707", "Boeing 717", "DC-9", "F/A-18"), [0, 1, 2, 3]),
        ("manufacturer", ("Boeing", "McDonnell Douglas"), [0, 0, 1, 1]),
    ],
)
def test_a_class_is_a_variant_a_family_or_a_manufacturer(
    tmp_path: Path, level: str, classes: tuple[str, ...], labels: list[int]
):
    write_aircraft(tmp_path / NAME)
    dataset = open_dataset("aircraft", data_root=tmp_path, class_level=level)
    assert dataset.classes == classes
    assert f"by {level}" in dataset.layout
    assert [sample.label for sample in dataset.split("train")] == [label for label in labels for _ in range(4)]


@pytest.mark.parametrize("level", ["variant", "family", "manufacturer"])
def test_classes_and_labels_are_those_of_torchvision(tmp_path: Path, level: str):
    dataset = open_(write_aircraft(tmp_path / NAME), level)
    for split, theirs in (("train", "trainval"), ("test", "test")):
        oracle = FGVCAircraft(str(tmp_path), split=theirs, annotation_level=level)
        assert list(dataset.classes) == oracle.classes
        assert [sample.label for sample in dataset.split(split)] == oracle._labels
        assert [str(sample.path) for sample in dataset.split(split)] == oracle._image_files


def test_an_unknown_level_is_refused(tmp_path: Path):
    with pytest.raises(DatasetError, match="class_level: 'model' is none of variant, family, manufacturer"):
        open_(write_aircraft(tmp_path / NAME), "model")


def test_boxes_may_be_absent(tmp_path: Path):
    dataset = open_(write_aircraft(tmp_path / NAME, boxes=False))
    assert dataset.layout == "FGVC-Aircraft 2013b by variant, official layout"
    assert all(sample.box is None for sample in dataset.samples)


def test_every_kind_of_image_is_read(tmp_path: Path):
    dataset = open_(write_aircraft(tmp_path / NAME, kinds=dict(enumerate(READABLE))))
    assert dataset.problems == ()
    assert all(read_image(sample.path).mode == "RGB" for sample in dataset.samples)


def test_a_listed_image_that_is_missing_is_left_out_and_named_with_its_line(tmp_path: Path):
    dataset = open_(write_aircraft(tmp_path / NAME, missing={1, 4}))
    assert len(dataset.samples) == 22
    assert [(problem.kind, problem.path) for problem in dataset.problems] == [
        ("missing image", "data/images/1234574.jpg"),
        ("missing image", "data/images/1234595.jpg"),
    ]
    assert "images_variant_trainval.txt, line 2 " in dataset.problems[0].detail
    assert "images_variant_test.txt, line 1 " in dataset.problems[1].detail


def test_a_class_without_training_images_is_named_and_cannot_be_trained(tmp_path: Path):
    dataset = open_(write_aircraft(tmp_path / NAME, empty_class=3))
    assert [(problem.kind, problem.path) for problem in dataset.problems] == [
        ("class without training images", "F/A-18")
    ]
    with pytest.raises(DatasetError, match="'F/A-18'"):
        choose_labels(dataset, label_ratio=50, seed=0)


@pytest.mark.parametrize(
    ("name", "line", "text", "words"),
    [
        ("images_variant_trainval.txt", 3, "1234581", "is not an image's name and the name of its variant"),
        ("images_variant_trainval.txt", 3, "1234581 707", "variants.txt has no variant '707'"),
        ("images_variant_trainval.txt", 3, "1234567 707-320", "first in images_variant_trainval.txt, line 1"),
        ("images_variant_trainval.txt", 3, "../../secret 707-320", "not a plain path"),
        ("images_variant_trainval.txt", 3, "/secret 707-320", "not a plain path"),
        ("images_variant_test.txt", 2, "1234567 707-320", "first in images_variant_trainval.txt, line 1"),
        ("variants.txt", 2, "707-320", "class '707-320' is listed a second time"),
        ("images_box.txt", 4, "1234588 1 2 3", "is not an image's name, xmin, ymin, xmax and ymax"),
        ("images_box.txt", 4, "1234588 1 2 3 far", "is not an image's name, xmin, ymin, xmax and ymax"),
        ("images_box.txt", 4, "1234567 1 2 3 4", "image '1234567' has a second box"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_refused_with_file_and_line(tmp_path: Path, name: str, line: int, text: str, words: str):
    root = write_aircraft(tmp_path / NAME)
    change(root, name, line, text)
    with pytest.raises(DatasetError) as caught:
        open_(root)
    assert f"{root / 'data' / name}, line {line}: " in str(caught.value)
    assert words in str(caught.value)


def test_a_box_of_an_image_that_no_list_has_is_reported(tmp_path: Path):
    root = write_aircraft(tmp_path / NAME)
    change(root, "images_box.txt", 2, "7654321 1 2 30 40")
    dataset = open_(root)
    assert [(problem.kind, problem.path) for problem in dataset.problems] == [("box without image", "7654321")]
    assert "images_box.txt, line 2" in dataset.problems[0].detail
    assert dataset.samples[1].box is None


@pytest.mark.parametrize("name", ["families.txt", "images_family_trainval.txt"])
def test_a_missing_list_is_named(tmp_path: Path, name: str):
    root = write_aircraft(tmp_path / NAME)
    (root / "data" / name).unlink()
    with pytest.raises(DatasetError, match=f"{name} is missing"):
        open_(root, "family")


def test_a_folder_without_the_lists_is_not_recognised(tmp_path: Path):
    root = write_aircraft(tmp_path / "planes")
    assert recognise(root) == ("aircraft", root)
    (root / "data" / "variants.txt").unlink()
    assert not recognises(root)


def test_it_opens_by_name_by_its_folder_and_by_those_above_and_below(tmp_path: Path):
    root = write_aircraft(tmp_path / NAME)
    expected = open_(root)
    for dataset in ("aircraft", str(root), str(tmp_path)):
        assert open_dataset(dataset, data_root=tmp_path) == expected
    below = open_dataset(str(root / "data"), data_root=tmp_path)
    assert [sample.path for sample in below.samples] == [sample.path for sample in expected.samples]
    assert below.samples[0].id == "images/1234567.jpg"
