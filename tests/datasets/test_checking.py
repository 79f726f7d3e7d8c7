"""Checking a dataset by content: what cannot be read, and what is there twice."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_core.benchmark.evaluation import count_decodes
from sam_core.benchmark.made_up import write_photographs
from sam_core.config import build_config
from sam_core.datasets.base import Dataset, Problem
from sam_core.datasets.checking import check_images
from sam_core.datasets.folder import load_folder
from sam_core.datasets.run_data import load_run_data


def check(folder: Path, cache_root: Path | None = None) -> list[Problem]:
    return check_images(load_folder(folder), cache_root=cache_root)


def by_path(problems: list[Problem]) -> dict[str, tuple[str, str]]:
    return {problem.path: (problem.kind, problem.detail) for problem in problems}


def test_a_sound_dataset_has_no_problems(photographs: Path):
    assert check(photographs) == []


def test_what_cannot_be_read_is_told_from_what_is_cut_off(photographs: Path):
    square = photographs / "train" / "square"
    (square / "00.png").write_bytes((square / "00.png").read_bytes()[:-40])
    (square / "01.png").write_text("no photograph")
    (square / "02.png").write_bytes(b"")
    # Whole to the eye: a JPEG of which only the last bytes are missing, looked at in reduced size.
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8))
    noise.save(square / "03.jpg")
    (square / "03.jpg").write_bytes((square / "03.jpg").read_bytes()[:-200])
    found = by_path(check(photographs))
    assert found["train/square/00.png"][0] == "truncated image"
    assert found["train/square/01.png"] == (
        "unreadable image",
        "the file is not a JPEG, PNG, WebP, BMP or TIFF image",
    )
    assert found["train/square/02.png"][0] == "unreadable image"
    assert found["train/square/03.jpg"][0] == "truncated image"
    assert len(found) == 4


def test_the_same_file_is_found_wherever_it_is_and_whatever_it_is_called(photographs: Path):
    original = photographs / "train" / "circle" / "02.png"
    for copy in ("train/circle/zz.png", "train/square/zz.jpg", "test/circle/zz.png", "test/stripes/zz.png"):
        shutil.copy(original, photographs / copy)
    assert by_path(check(photographs)) == {
        "train/circle/zz.png": ("duplicate image", "the same file as train/circle/02.png"),
        "train/square/zz.jpg": (
            "same picture in two classes",
            "the same file as train/circle/02.png, of class 'circle'",
        ),
        "test/circle/zz.png": ("misfiled: in train and in test", "the same file as train/circle/02.png"),
        "test/stripes/zz.png": (
            "misfiled: in train and in test",
            "the same file as train/circle/02.png, of class 'circle'",
        ),
    }


def test_two_test_images_can_be_the_same_too(photographs: Path):
    shutil.copy(photographs / "test" / "circle" / "00.png", photographs / "test" / "circle" / "zz.png")
    shutil.copy(photographs / "test" / "circle" / "00.png", photographs / "test" / "square" / "zz.png")
    assert by_path(check(photographs)) == {
        "test/circle/zz.png": ("duplicate image", "the same file as test/circle/00.png"),
        "test/square/zz.png": ("same picture in two classes", "the same file as test/circle/00.png, of class 'circle'"),
    }


def test_a_picture_saved_again_is_the_same_picture(photographs: Path):
    image = Image.open(photographs / "train" / "circle" / "02.png")
    image.resize((120, 96), Image.Resampling.LANCZOS).save(photographs / "test" / "circle" / "zz.jpg", quality=80)
    image.save(photographs / "train" / "circle" / "zz.webp", quality=80)
    assert by_path(check(photographs)) == {
        "train/circle/zz.webp": ("duplicate image", "the same picture, saved again, as train/circle/02.png"),
        "test/circle/zz.jpg": (
            "misfiled: in train and in test",
            "the same picture, saved again, as train/circle/02.png",
        ),
    }


def test_broken_files_are_not_taken_for_copies_of_each_other(photographs: Path):
    for name in ("00.png", "01.png"):
        (photographs / "train" / "square" / name).write_text("no photograph")
    assert [problem.kind for problem in check(photographs)] == ["unreadable image"] * 2


def test_a_second_check_opens_nothing_and_finds_the_same(
    photographs: Path, cache_root: Path, settle: Callable[[Path], Path], opened: list[Path]
):
    shutil.copy(photographs / "train" / "circle" / "02.png", photographs / "test" / "circle" / "zz.png")
    (photographs / "train" / "square" / "01.png").write_text("no photograph")
    settle(photographs)
    first = check(photographs, cache_root)
    assert len(opened) == 28
    opened.clear()
    assert check(photographs, cache_root) == first
    assert opened == []
    assert {problem.kind for problem in first} == {"unreadable image", "misfiled: in train and in test"}


def test_a_dataset_that_was_moved_is_read_but_not_decoded_again(photographs: Path, cache_root: Path):
    (photographs / "train" / "square" / "01.png").write_text("no photograph")
    first = check(photographs, cache_root)
    photographs.rename(photographs.with_name("moved"))
    with count_decodes() as count:
        assert check(photographs.with_name("moved"), cache_root) == first
    assert count.decodes == 0
    assert [problem.path for problem in first] == ["train/square/01.png"]


def test_a_run_has_checked_what_it_has_decoded(
    photographs: Path, cache_root: Path, settle: Callable[[Path], Path], opened: list[Path]
):
    settle(photographs)
    values = {"dataset": str(photographs), "label_ratio": 100, "image_size": 32, "data_root": str(cache_root.parent)}
    load_run_data(build_config(values))
    opened.clear()
    assert check(photographs, cache_root) == []
    assert opened == []


def test_a_check_that_was_stopped_goes_on_where_it_was(
    photographs: Path, cache_root: Path, settle: Callable[[Path], Path]
):
    dataset = load_folder(settle(photographs))

    def stop(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_images(dataset, cache_root=cache_root, progress=stop)
    with count_decodes() as count:
        check_images(dataset, cache_root=cache_root)
    assert count.decodes == 27 - 20


def test_progress_reaches_the_number_of_images(photographs: Path, cache_root: Path):
    heard: list[tuple[int, int]] = []
    for _ in range(2):
        heard.clear()
        check_images(load_folder(photographs), cache_root=cache_root, progress=lambda *counts: heard.append(counts))
        assert heard[-1] == (27, 27)
        assert heard == sorted(heard)


def test_an_empty_dataset_has_no_problems(tmp_path: Path):
    assert check_images(Dataset("none", tmp_path, "", (), ()), cache_root=None) == []


@pytest.mark.photographs
def test_real_copies_are_found_among_real_photographs(real_photographs: Path, cache_root: Path):
    problems = check(real_photographs / "flowers17", cache_root)
    # Oxford Flowers 17 has many a photograph twice, each saved anew; looked at by a person.
    assert Counter(problem.kind for problem in problems) == {
        "duplicate image": 46,
        "misfiled: in train and in test": 21,
    }


@pytest.mark.long
@pytest.mark.timeout(600)
def test_twelve_thousand_images_are_listed_and_checked_in_a_minute(tmp_path: Path, cache_root: Path):
    source = write_photographs(tmp_path / "few", classes=20, train=10, test=5)
    files = [path.read_bytes() for path in sorted(source.rglob("*.jpg"))]
    for number in range(12_000):
        place = tmp_path / "many" / ("train", "test")[number % 2] / f"class-{number // 2 % 200:03d}"
        place.mkdir(parents=True, exist_ok=True)
        # Whatever stands behind the picture's end makes another content of it, decoded all the same.
        (place / f"{number:05d}.jpg").write_bytes(files[number % len(files)] + number.to_bytes(4, "big"))
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        with count_decodes() as count:
            check(tmp_path / "many", cache_root)
        seconds.append(time.perf_counter() - start)
        print(f"listed and checked 12,000 images in {seconds[-1]:.1f} s, {count.decodes} decoded")
    assert count.decodes == 0
    assert seconds[0] < 60
    assert seconds[1] < 10
