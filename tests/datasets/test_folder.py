"""A person's own photographs: recognised as they come, or refused with the fix."""

from __future__ import annotations

import os
import time
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
    test = load_folder(photographs).split("test")
    assert len(test) == 9
    assert all(sample.path == photographs / sample.id for sample in test)


def test_photographs_are_found_in_any_depth_with_suffixes_in_any_case(photographs: Path):
    circle = photographs / "train" / "circle"
    (circle / "summer" / "at the sea").mkdir(parents=True)
    (circle / "00.png").rename(circle / "summer" / "at the sea" / "A.PNG")
    (circle / "01.png").rename(circle / "summer" / "B.JpEg")
    for name in (".hidden.png", "notes.txt", "Thumbs.db", "d.png.part"):
        (circle / name).touch()
    (circle / "folder.png").mkdir()
    for name in (".thumbnails", "__MACOSX"):
        (circle / name).mkdir()
        (circle / name / "x.png").touch()
    dataset = load_folder(photographs)
    ids = [sample.id for sample in dataset.split("train") if sample.label == 0]
    assert ids == [
        *(f"train/circle/{number:02}.png" for number in range(2, 6)),
        "train/circle/summer/B.JpEg",
        "train/circle/summer/at the sea/A.PNG",
    ]
    assert all(sample.path == photographs / sample.id for sample in dataset.samples)


def test_links_to_classes_and_photographs_are_followed_and_circles_are_not(photographs: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    (photographs / "train" / "circle").rename(elsewhere)
    (photographs / "train" / "circle").symlink_to(elsewhere)
    square = photographs / "train" / "square"
    (square / "00.png").rename(tmp_path / "one.png")
    (square / "00.png").symlink_to(tmp_path / "one.png")
    (square / "circle").symlink_to(square)
    (square / "folder.png").symlink_to(elsewhere)
    dataset = load_folder(photographs)
    assert [sum(sample.label == label for sample in dataset.split("train")) for label in range(3)] == [6, 6, 6]
    assert "train/circle/00.png" in {sample.id for sample in dataset.samples}


def test_twelve_thousand_photographs_are_listed_in_a_second(tmp_path: Path):
    for split in ("train", "test"):
        for number in range(200):
            folder = tmp_path / split / f"class {number:03}"
            folder.mkdir(parents=True)
            for image in range(30):
                os.close(os.open(f"{folder}/{image}.jpg", os.O_CREAT))
    start = time.perf_counter()
    assert len(load_folder(tmp_path).samples) == 12_000
    assert time.perf_counter() - start < 1


def test_folders_within_folders_without_end_are_no_trouble(photographs: Path):
    deep = [photographs / "train" / "circle"]
    for _ in range(1200):  # more than Python calls within calls, less than a path may have letters
        deep.append(deep[-1] / "a")
        deep[-1].mkdir()
    try:
        assert len(load_folder(photographs).split("train")) == 18
    finally:
        for folder in reversed(deep[1:]):  # whoever tidies up may be less patient
            folder.rmdir()


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
