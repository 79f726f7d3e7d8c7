"""Oxford-IIIT Pet: read as torchvision reads it, with trimaps as masks, or refused with the list and its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import OxfordIIITPet

from sam_core.datasets.base import Dataset, DatasetError, Opening
from sam_core.datasets.catalog import open_dataset
from sam_core.datasets.images import read_image, read_mask
from sam_core.datasets.pets import load, recognises
from tests.datasets.miniature_lists import draw_trimap, write_pets
from tests.datasets.miniatures import KINDS, assert_read_or_refused


def open_pets(root: Path) -> Dataset:
    return load(root, Opening())


@pytest.mark.parametrize("crlf", [False, True])
def test_breeds_splits_and_trimaps_are_read(tmp_path: Path, crlf: bool):
    root = write_pets(tmp_path / "oxford-iiit-pet", classes=3, train=3, test=2, crlf=crlf)
    dataset = open_dataset("pets", data_root=tmp_path)
    assert dataset.classes == ("Egyptian Mau", "American Bulldog", "Pug")
    assert not dataset.problems
    assert [sum(sample.label == label for sample in dataset.split("train")) for label in range(3)] == [3, 3, 3]
    assert [sum(sample.label == label for sample in dataset.split("test")) for label in range(3)] == [2, 2, 2]
    first = dataset.samples[0]
    assert (first.id, first.path) == ("images/Egyptian_Mau_1.jpg", root / "images" / "Egyptian_Mau_1.jpg")
    assert first.mask_path == root / "annotations" / "trimaps" / "Egyptian_Mau_1.png"
    assert first.box is None
    assert dataset.layout == "Oxford-IIIT Pet with trimaps as masks"


def test_only_the_pet_itself_is_on_the_object(tmp_path: Path):
    dataset = open_pets(write_pets(tmp_path / "oxford-iiit-pet"))
    sample = dataset.samples[0]
    assert sample.mask_on == (1, 1)
    trimap = np.asarray(draw_trimap(0))
    assert set(np.unique(trimap)) == {1, 2, 3}
    mask = np.asarray(read_mask(sample.mask_path, on=sample.mask_on))
    assert np.array_equal(mask == 255, trimap == 1)


def test_torchvision_reads_the_same_images_labels_and_trimaps(tmp_path: Path):
    dataset = open_pets(write_pets(tmp_path / "oxford-iiit-pet"))
    for ours, theirs in (("train", "trainval"), ("test", "test")):
        read = OxfordIIITPet(tmp_path, theirs, target_types=("category", "segmentation"))
        assert tuple(read.classes) == dataset.classes
        samples = dataset.split(ours)
        assert len(read) == len(samples)
        for sample, (image, (label, trimap)) in zip(samples, read, strict=True):
            assert sample.label == label
            assert np.array_equal(np.asarray(read_image(sample.path)), np.asarray(image))
            with Image.open(sample.mask_path) as mask:
                assert np.array_equal(np.asarray(mask), np.asarray(trimap))


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_every_kind_are_listed_and_read_or_named_broken(tmp_path: Path, kind: str):
    sample = open_pets(write_pets(tmp_path / "oxford-iiit-pet", kinds={0: kind})).samples[0]
    assert_read_or_refused(sample.path, kind)


def test_a_missing_image_is_left_out_and_named_with_list_and_line(tmp_path: Path):
    dataset = open_pets(write_pets(tmp_path / "oxford-iiit-pet", missing=(1, 8)))
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (8, 5)
    assert [(each.kind, each.path, each.detail) for each in dataset.problems] == [
        ("missing image", "images/Egyptian_Mau_2.jpg", "trainval.txt, line 2 names it, but there is no such file"),
        ("missing image", "images/american_bulldog_9.jpg", "test.txt, line 3 names it, but there is no such file"),
    ]


def test_without_trimaps_there_are_no_masks_and_that_is_said(tmp_path: Path):
    dataset = open_pets(write_pets(tmp_path / "oxford-iiit-pet", trimaps=False))
    assert all(sample.mask_path is None for sample in dataset.samples)
    assert [(each.kind, each.detail) for each in dataset.problems] == [
        ("no mask", "annotations/trimaps has none for 15 images")
    ]
    assert dataset.layout == "Oxford-IIIT Pet"


def test_a_trimap_of_a_turned_photograph_is_left_out(tmp_path: Path):
    dataset = open_pets(write_pets(tmp_path / "oxford-iiit-pet", kinds={0: "rotated"}))
    assert [sample.mask_path is None for sample in dataset.samples].count(True) == 1
    assert dataset.samples[0].mask_path is None
    assert [problem.kind for problem in dataset.problems] == ["mask of a turned image"]


def test_lists_without_photographs_are_refused_as_that(tmp_path: Path):
    root = write_pets(tmp_path / "oxford-iiit-pet", missing=range(15))
    with pytest.raises(DatasetError, match=r"training images .* none is there \(the first would be .*Mau_1\.jpg"):
        open_pets(root)


WRONG = {
    "too few fields": ("trainval.txt", 2, "Egyptian_Mau_2 1 1", "not an image's name and three numbers"),
    "no number": ("trainval.txt", 2, "Egyptian_Mau_2 one 1 1", "not an image's name and three numbers"),
    "class 0": ("trainval.txt", 2, "Egyptian_Mau_2 0 1 1", "class number 0 is out of range"),
    "a huge number": ("trainval.txt", 2, f"Egyptian_Mau_2 {'9' * 5000} 1 1", "class number 999999999999 is out of"),
    "a gap": ("test.txt", 1, "Birman_4 7 1 1", "class number 7 is out of range: the lists name 4 breeds"),
    "no breed": ("test.txt", 1, "cat 1 1 1", "not a breed, an underscore and a number"),
    "a folder": ("test.txt", 1, "../../a_4 1 1 1", "not a breed, an underscore and a number"),
    "a backslash": ("test.txt", 1, r"Egyptian_Mau\..\_4 1 1 1", r"line 1: "),
    "another number for a breed": ("test.txt", 1, "Egyptian_Mau_4 2 1 1", "contradicts 'Egyptian_Mau' with 1 in"),
    "another breed for a number": ("test.txt", 1, "Birman_4 1 1 1", "contradicts 'Egyptian_Mau' with 1 in trainval"),
    "an image twice": (
        "trainval.txt",
        2,
        "Egyptian_Mau_1 1 1 1",
        "listed a second time, first in trainval.txt, line 1",
    ),
    "a test image for training": (
        "test.txt",
        1,
        "Egyptian_Mau_1 1 1 1",
        "listed a second time, first in trainval.txt, line 1",
    ),
}


@pytest.mark.parametrize(("file", "line", "text", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_line_is_refused_with_list_and_line(tmp_path: Path, file: str, line: int, text: str, words: str):
    root = write_pets(tmp_path / "oxford-iiit-pet")
    path = root / "annotations" / file
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines))
    with pytest.raises(DatasetError, match=words) as caught:
        open_pets(root)
    assert f"{path}, line {line}: " in str(caught.value)
    assert caught.value.hint


def test_it_is_recognised_by_its_two_lists(tmp_path: Path):
    root = write_pets(tmp_path / "oxford-iiit-pet")
    assert recognises(root)
    (root / "annotations" / "test.txt").unlink()
    assert not recognises(root)
    assert not recognises(tmp_path / "nothing")
