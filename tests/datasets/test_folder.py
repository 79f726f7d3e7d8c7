"""A person's own photographs: recognised as they come, or refused with the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_core.config import build_config
from sam_core.datasets.base import DatasetError
from sam_core.datasets.catalog import open_dataset
from sam_core.datasets.folder import load_folder
from sam_core.datasets.run_data import load_run_data


def test_train_and_test_folders_are_read(photographs: Path):
    dataset = load_folder(photographs)
    assert dataset.classes == ("circle", "square", "stripes")
    assert len(dataset.split("train")) == 18
    assert len(dataset.split("test")) == 9
    assert dataset.samples[0].id == "train/circle/00.png"


def test_classes_only_get_a_seeded_held_out_split(photographs: Path):
    dataset = load_folder(photographs / "train", split_seed=0)
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (15, 3)
    assert dataset == load_folder(photographs / "train", split_seed=0)
    other = load_folder(photographs / "train", split_seed=1)
    assert {s.id for s in dataset.split("test")} != {s.id for s in other.split("test")}


def test_val_serves_as_test(photographs: Path):
    (photographs / "test").rename(photographs / "val")
    assert len(load_folder(photographs).split("test")) == 9


def test_a_class_only_in_test_is_reported_and_left_out(photographs: Path):
    (photographs / "train" / "circle").rename(photographs / "circle")
    dataset = load_folder(photographs)
    assert dataset.classes == ("square", "stripes")
    assert [problem.kind for problem in dataset.problems] == ["class only in test"]


@pytest.mark.parametrize("make", ["nothing", "one class", "files only"])
def test_a_folder_without_classes_is_refused_with_the_fix(tmp_path: Path, photographs: Path, make: str):
    folder = tmp_path / "new"
    folder.mkdir()
    if make == "one class":
        (photographs / "train" / "circle").rename(folder / "circle")
    if make == "files only":
        (photographs / "train" / "circle" / "00.png").rename(folder / "00.png")
    with pytest.raises(DatasetError) as caught:
        load_folder(folder)
    assert "CLASS" in caught.value.hint


def test_an_unknown_name_suggests_the_nearest(tmp_path: Path):
    with pytest.raises(DatasetError) as caught:
        open_dataset("feildguide", data_root=tmp_path)
    assert caught.value.hint == "did you mean fieldguide?"


def test_broken_images_are_left_out_and_named(photographs: Path):
    (photographs / "test" / "circle" / "00.png").write_bytes(b"")
    (photographs / "test" / "square" / "01.png").write_text("no photograph")
    data = load_run_data(build_config({"dataset": str(photographs), "image_size": 32}))
    assert len(data.groups["test"]) == 7
    assert [problem.path for problem in data.problems] == ["test/circle/00.png", "test/square/01.png"]


def test_a_class_left_without_readable_labelled_images_is_refused(photographs: Path):
    for path in (photographs / "train" / "square").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match="class 'square'"):
        load_run_data(build_config({"dataset": str(photographs), "image_size": 32}))
