"""Oxford Flowers 102: read as torchvision reads it, and refused with the file where its lists are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import Flowers102

from sam_core.datasets.base import Dataset, DatasetError, Opening
from sam_core.datasets.catalog import open_dataset
from sam_core.datasets.flowers102 import CLASSES, load, recognises
from tests.datasets.miniature_lists import write_flowers102
from tests.datasets.miniatures import KINDS, assert_read_or_refused, write_mat


def open_flowers(root: Path) -> Dataset:
    return load(root, Opening())


def test_training_and_validation_images_are_for_training(tmp_path: Path):
    root = write_flowers102(tmp_path / "flowers-102", classes=3, train=2, validation=2, test=3)
    dataset = open_dataset("flowers102", data_root=tmp_path)
    assert dataset == open_dataset(str(root), data_root=tmp_path / "elsewhere")
    assert dataset.classes == ("pink primrose", "hard-leaved pocket orchid", "canterbury bells")
    assert dataset.layout == "Oxford Flowers 102, its training and validation images for training"
    assert not dataset.problems
    assert [sum(sample.label == label for sample in dataset.split("train")) for label in range(3)] == [4, 4, 4]
    assert [sum(sample.label == label for sample in dataset.split("test")) for label in range(3)] == [3, 3, 3]
    assert dataset.samples[0].id == "jpg/image_00001.jpg"
    assert all(sample.path == root / sample.id for sample in dataset.samples)


def test_torchvision_reads_the_same_images_splits_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = open_flowers(write_flowers102(tmp_path / "flowers-102"))
    monkeypatch.setattr(Flowers102, "_check_integrity", lambda self: True)  # it accepts the published lists only
    theirs = {
        split: [Flowers102(tmp_path, split, loader=lambda path: path)[i] for i in range(size)]
        for split, size in (("train", 6), ("val", 6), ("test", 9))
    }
    for split, parts in (("train", ("train", "val")), ("test", ("test",))):
        ours = [(sample.path, sample.label) for sample in dataset.split(split)]
        assert ours == [item for part in parts for item in theirs[part]]


def test_torchvision_knows_the_names_of_all_classes():
    assert len(set(Flowers102.classes)) == CLASSES


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_every_kind_are_listed_and_read_or_named_broken(tmp_path: Path, kind: str):
    dataset = open_flowers(write_flowers102(tmp_path / "flowers-102", kinds={0: kind}))
    sample = next(sample for sample in dataset.samples if sample.id == "jpg/image_00001.jpg")
    assert_read_or_refused(sample.path, kind)


def test_a_missing_image_is_left_out_and_named_with_its_list(tmp_path: Path):
    dataset = open_flowers(write_flowers102(tmp_path / "flowers-102", missing=(1, 6)))
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (11, 8)
    assert [(each.kind, each.path, each.detail) for each in dataset.problems] == [
        ("missing image", "jpg/image_00002.jpg", "setid.mat, trnid entry 2 names it, but there is no such file"),
        ("missing image", "jpg/image_00007.jpg", "setid.mat, tstid entry 3 names it, but there is no such file"),
    ]


def test_lists_without_photographs_are_refused_as_that(tmp_path: Path):
    root = write_flowers102(tmp_path / "flowers-102", missing=range(21))
    with pytest.raises(DatasetError, match=r"training images .* none is there \(the first would be .*image_00001\.jpg"):
        open_flowers(root)


SETS = {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6]]}
WRONG = {
    "a class beyond 102": ({"labels": [[1, 103, 1, 1, 1, 1, 1]]}, SETS, "labels.mat: image 2 has class number 103"),
    "class 0": ({"labels": [[1, 1, 0, 1, 1, 1, 1]]}, SETS, "labels.mat: image 3 has class number 0"),
    "half a class": ({"labels": [[1, 1.5, 1, 1, 1, 1, 1]]}, SETS, "labels.mat: labels is not a list of whole numbers"),
    "no number": ({"labels": [[1, np.nan, 1, 1, 1, 1, 1]]}, SETS, "labels is not a list of whole numbers"),
    "infinity": ({"labels": [[1, np.inf, 1, 1, 1, 1, 1]]}, SETS, "labels is not a list of whole numbers"),
    "no labels": ({"labels": [[]]}, SETS, "labels is not a list of whole numbers"),
    "text": ({"labels": "roses"}, SETS, "labels is not a list of whole numbers"),
    "another variable": ({"flowers": [[1, 2]]}, SETS, "imagelabels.mat has no variable 'labels'"),
    "an unknown image": (None, {**SETS, "valid": [[3, 99]]}, "setid.mat: valid names image 99, but .* knows 21 images"),
    "an image in two splits": (
        None,
        {**SETS, "tstid": [[5, 2]]},
        r"tstid entry 2: .*00002\.jpg.*, first in .* trnid entry 2",
    ),
    "a split that is not there": (None, {"trnid": [[1]], "tstid": [[2]]}, "setid.mat has no variable 'valid'"),
}


@pytest.mark.parametrize(("labels", "sets", "words"), WRONG.values(), ids=WRONG)
def test_wrong_lists_are_refused_with_the_file(tmp_path: Path, labels: dict | None, sets: dict, words: str):
    root = write_flowers102(tmp_path / "flowers-102")
    if labels is not None:
        write_mat(root / "imagelabels.mat", **labels)
    write_mat(root / "setid.mat", **sets)
    with pytest.raises(DatasetError, match=words) as caught:
        open_flowers(root)
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(999)])
def test_a_file_that_is_no_matlab_file_is_refused(tmp_path: Path, content: bytes):
    root = write_flowers102(tmp_path / "flowers-102")
    (root / "setid.mat").write_bytes(content)
    with pytest.raises(DatasetError, match=r"setid\.mat"):
        open_flowers(root)


def test_it_is_recognised_by_its_two_lists(tmp_path: Path):
    root = write_flowers102(tmp_path / "flowers-102")
    assert recognises(root)
    (root / "setid.mat").unlink()
    assert not recognises(root)
    assert not recognises(tmp_path / "nothing")
