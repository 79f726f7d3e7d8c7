"""CUB-200-2011 in its official layout: read right, or refused with the file and the line named."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from sam_core.datasets.base import DatasetError, Opening, Part
from sam_core.datasets.catalog import open_dataset, recognise
from sam_core.datasets.cub200 import load, recognises
from sam_core.datasets.images import read_image, read_mask
from sam_core.datasets.subset import choose_labels
from tests.datasets.miniatures import (
    BIRDS,
    READABLE,
    box_of,
    draw_object,
    frame_of,
    parts_of,
    write_cub200,
    write_list,
    write_picture,
)


def open_(root: Path):
    return load(root, Opening())


def change(root: Path, name: str, line: int, text: str | None) -> None:
    """Replace a line of a list, counted from 1; None takes it away."""
    lines = (root / name).read_text(encoding="utf-8").splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    write_list(root / name, lines)


@pytest.mark.parametrize("crlf", [False, True], ids=["LF", "CRLF"])
def test_every_image_has_its_class_split_box_and_parts(tmp_path: Path, crlf: bool):
    dataset = open_(write_cub200(tmp_path / "CUB_200_2011", crlf=crlf))
    assert dataset.name == "cub200"
    assert dataset.layout == "CUB-200-2011, official layout with boxes and 15 parts"
    assert dataset.classes == BIRDS[:3]
    assert dataset.problems == ()
    assert [sample.label for sample in dataset.samples] == [0] * 5 + [1] * 5 + [2] * 5
    assert [sample.split for sample in dataset.samples] == ["train", "train", "train", "test", "test"] * 3
    for image, sample in enumerate(dataset.samples):
        width, height = frame_of(image)
        left, top, across, down = box_of(image)
        assert sample.box == (left / width, top / height, across / width, down / height)
        assert sample.parts == tuple(Part(name, x / width, y / height) for name, (x, y) in parts_of(image).items())
        assert sample.id == f"images/{BIRDS[sample.label]}/{sample.path.name}"
        assert sample.path == dataset.root / sample.id
        assert sample.mask_path is None


@pytest.mark.parametrize("place", ["inside", "beside"])
def test_masks_are_found_below_the_folder_and_beside_it(tmp_path: Path, place: str):
    root = tmp_path / "CUB_200_2011"
    dataset = open_(write_cub200(root, masks=root if place == "inside" else tmp_path))
    assert dataset.layout == "CUB-200-2011, official layout with boxes, 15 parts and masks"
    for sample in dataset.samples:
        assert sample.mask_on == (128, 255)
        assert sample.mask_path.stem == sample.path.stem
        mask = np.asarray(read_mask(sample.mask_path, sample.mask_on))
        assert mask.shape[::-1] == read_image(sample.path).size
        # Three of five annotators: the ellipse of the box, two pixels smaller on each side.
        left, top, width, height = box_of(dataset.samples.index(sample))
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min()) == (left + 2, top + 2)
        assert (columns.max(), rows.max()) == (left + width - 3, top + height - 3)


def test_a_missing_mask_is_reported_and_the_others_hold(tmp_path: Path):
    root = write_cub200(tmp_path / "CUB_200_2011", masks=tmp_path)
    next((tmp_path / "segmentations").rglob("*_0004_*.png")).unlink()
    dataset = open_(root)
    assert [problem.kind for problem in dataset.problems] == ["missing mask"]
    assert sum(sample.mask_path is None for sample in dataset.samples) == 1


def test_a_mask_that_a_link_leads_elsewhere_is_refused(tmp_path: Path):
    root = write_cub200(tmp_path / "data" / "CUB_200_2011", masks=tmp_path / "data")
    mask = next((tmp_path / "data" / "segmentations").rglob("*_0004_*.png"))
    mask.rename(tmp_path / "secret.png")
    mask.symlink_to(tmp_path / "secret.png")
    with pytest.raises(DatasetError, match=r"images\.txt, line 5: .* by a link"):
        open_(root)


def test_a_stranger_s_folder_beside_the_dataset_is_not_taken_for_its_masks(tmp_path: Path):
    (tmp_path / "segmentations" / "somebody").mkdir(parents=True)
    dataset = open_(write_cub200(tmp_path / "CUB_200_2011"))
    assert dataset.problems == ()
    assert all(sample.mask_path is None for sample in dataset.samples)


def test_boxes_and_parts_may_be_absent(tmp_path: Path):
    dataset = open_(write_cub200(tmp_path / "CUB_200_2011", boxes=False, parts=False))
    assert dataset.layout == "CUB-200-2011, official layout"
    assert len(dataset.samples) == 15
    assert all(sample.box is None and sample.parts == () for sample in dataset.samples)
    assert dataset.problems == ()


def test_every_kind_of_image_is_read(tmp_path: Path):
    kinds = dict(enumerate(READABLE))
    dataset = open_(write_cub200(tmp_path / "CUB_200_2011", kinds=kinds))
    assert dataset.problems == ()
    for image, sample in enumerate(dataset.samples):
        width, height = frame_of(image)
        assert read_image(sample.path).size == ((height, width) if kinds.get(image) == "rotated" else (width, height))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_box_of_a_turned_image_lies_on_its_object(tmp_path: Path, orientation: int):
    root = write_cub200(tmp_path / "CUB_200_2011")
    write_picture(open_(root).samples[1].path, draw_object(1, 0), "rotated", orientation=orientation)
    sample = open_(root).samples[1]
    shown = np.asarray(read_image(sample.path)).astype(int)  # (H, W, 3)
    rows, columns = np.nonzero(shown[..., 0] - shown[..., 2] > 100)  # class 0 is crimson on grey noise
    height, width, _ = shown.shape
    left, top, across, down = sample.box
    assert (left * width, top * height) == pytest.approx((columns.min(), rows.min()), abs=1.5)
    edges = (columns.max() + 1, rows.max() + 1)
    assert ((left + across) * width, (top + down) * height) == pytest.approx(edges, abs=1.5)


def test_the_mask_of_a_turned_image_is_left_out_and_reported(tmp_path: Path):
    dataset = open_(write_cub200(tmp_path / "CUB_200_2011", masks=tmp_path, kinds={0: "rotated"}))
    assert [(problem.kind, problem.path) for problem in dataset.problems] == [
        ("mask of a turned image", dataset.samples[0].id)
    ]
    assert dataset.samples[0].mask_path is None
    assert dataset.samples[0].box is not None


def test_unreadable_images_stay_to_be_named_where_they_are_decoded(tmp_path: Path):
    dataset = open_(write_cub200(tmp_path / "CUB_200_2011", kinds={0: "empty", 1: "text", 2: "truncated"}))
    assert len(dataset.samples) == 15
    assert [sample.box is None for sample in dataset.samples[:3]] == [True, True, False]


def test_a_listed_image_that_is_missing_is_left_out_and_named_with_its_line(tmp_path: Path):
    root = write_cub200(tmp_path / "CUB_200_2011", missing={2, 7})
    dataset = open_(root)
    assert len(dataset.samples) == 13
    assert [problem.kind for problem in dataset.problems] == ["missing image"] * 2
    assert dataset.problems[0].path.startswith("images/001.Black_footed_Albatross/")
    assert "images.txt, line 3 " in dataset.problems[0].detail
    assert "images.txt, line 8 " in dataset.problems[1].detail
    # What is known of the others has not moved.
    width, height = frame_of(3)
    assert dataset.samples[2].box == (9 / width, 8 / height, 32 / width, 26 / height)


def test_lists_without_their_images_are_refused(tmp_path: Path):
    root = write_cub200(tmp_path / "CUB_200_2011")
    shutil.rmtree(root / "images")
    with pytest.raises(DatasetError, match=r"training images .* none is there"):
        open_(root)


def test_a_class_without_training_images_is_named_and_cannot_be_trained(tmp_path: Path):
    dataset = open_(write_cub200(tmp_path / "CUB_200_2011", empty_class=1))
    assert [(problem.kind, problem.path) for problem in dataset.problems] == [
        ("class without training images", "002.Laysan_Albatross")
    ]
    assert dataset.classes == BIRDS[:3]
    with pytest.raises(DatasetError, match=r"002\.Laysan_Albatross"):
        choose_labels(dataset, label_ratio=50, seed=0)


@pytest.mark.parametrize(
    ("name", "line", "text", "words"),
    [
        ("images.txt", 4, "4", "'4' is not an image id"),
        ("images.txt", 4, "3 001.Black_footed_Albatross/new.jpg", "number '3' is used a second time, first in line 3"),
        ("images.txt", 4, "4 ../../secret.jpg", "not a plain path"),
        ("images.txt", 4, "4 /etc/passwd", "not a plain path"),
        ("images.txt", 4, r"4 C:\Users\secret.jpg", "not a plain path"),
        ("classes.txt", 2, "1 002.Laysan_Albatross", "number '1' is used a second time"),
        ("classes.txt", 2, "2", "'2' is not a class number"),
        ("image_class_labels.txt", 5, "5 4", "classes.txt has no class '4'"),
        ("image_class_labels.txt", 5, "5 0", "classes.txt has no class '0'"),
        ("image_class_labels.txt", 5, "5 one", "classes.txt has no class 'one'"),
        ("image_class_labels.txt", 5, "5", "'5' is not an image id and a class number"),
        ("image_class_labels.txt", 5, "4 1", "image '4' has a second line, the first is line 4"),
        ("image_class_labels.txt", 5, "99 1", "images.txt has no image '99'"),
        ("train_test_split.txt", 6, "6 2", "'2' is neither 1 (training) nor 0 (test)"),
        ("train_test_split.txt", 6, "6 1 1", "'6 1 1' is not an image id and 1"),
        ("bounding_boxes.txt", 7, "7 1.0 2.0 3.0", "is not an image id, x, y, width and height"),
        ("bounding_boxes.txt", 7, "7 1.0 2.0 3.0 wide", "are not four numbers"),
        ("bounding_boxes.txt", 7, "7 1.0 2.0 3.0 nan", "are not four numbers"),
        ("bounding_boxes.txt", 7, "7 1.0 2.0 3.0 1_0", "are not four numbers"),
        ("bounding_boxes.txt", 7, "700 1.0 2.0 3.0 4.0", "images.txt has no image '700'"),
        ("bounding_boxes.txt", 7, "6 1.0 2.0 3.0 4.0", "image '6' has a second line, the first is line 6"),
        ("parts/parts.txt", 3, "2 belly", "number '2' is used a second time"),
        ("parts/part_locs.txt", 8, "1 16 3.0 4.0 1", "parts/parts.txt has no part '16'"),
        ("parts/part_locs.txt", 8, "99 8 3.0 4.0 1", "images.txt has no image '99'"),
        ("parts/part_locs.txt", 8, "1 7 3.0 4.0 1", "part 7 of image 1 is listed a second time"),
        ("parts/part_locs.txt", 8, "1 8 3.0 inf 1", "is not x and y in pixels"),
        ("parts/part_locs.txt", 8, "1 8 3.0 4.0 yes", "is not x and y in pixels"),
        ("parts/part_locs.txt", 8, "1 8 3.0", "is not an image id, a part's number"),
    ],
)
def test_a_wrong_line_is_refused_with_file_and_line(tmp_path: Path, name: str, line: int, text: str, words: str):
    root = write_cub200(tmp_path / "CUB_200_2011")
    change(root, name, line, text)
    with pytest.raises(DatasetError) as caught:
        open_(root)
    assert f"{root / name}, line {line}: " in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["image_class_labels.txt", "train_test_split.txt"])
def test_an_image_without_class_or_split_is_refused_with_its_line(tmp_path: Path, name: str):
    root = write_cub200(tmp_path / "CUB_200_2011")
    change(root, name, 9, None)
    with pytest.raises(DatasetError, match=rf"images\.txt, line 9: image '9' has no line in {name}"):
        open_(root)


def test_an_image_listed_under_two_ids_is_refused(tmp_path: Path):
    root = write_cub200(tmp_path / "CUB_200_2011")
    name = (root / "images.txt").read_text().splitlines()[0].removeprefix("1 ")
    change(root, "images.txt", 5, f"5 {name}")
    with pytest.raises(DatasetError, match=r"images\.txt, line 5: .* second time, first in images\.txt, line 1"):
        open_(root)


@pytest.mark.parametrize("name", ["classes.txt", "parts/parts.txt"])
def test_a_missing_list_is_named(tmp_path: Path, name: str):
    root = write_cub200(tmp_path / "CUB_200_2011")
    (root / name).unlink()
    with pytest.raises(DatasetError, match=f"{name} is missing"):
        open_(root)


def test_a_list_that_is_empty_is_refused(tmp_path: Path):
    root = write_cub200(tmp_path / "CUB_200_2011")
    (root / "images.txt").write_text("\n\n")
    with pytest.raises(DatasetError, match=r"images\.txt, line 1: the list is empty"):
        open_(root)


def test_an_image_without_a_box_has_none(tmp_path: Path):
    root = write_cub200(tmp_path / "CUB_200_2011")
    change(root, "bounding_boxes.txt", 3, None)
    assert [sample.box is None for sample in open_(root).samples].index(True) == 2


@pytest.mark.parametrize(
    ("box", "kind", "expected"),
    [
        ("-2.0 10.0 20.0 40.0", [], (0, 10 / 48, 18 / 64)),
        ("40.0 10.0 60.0 20.0", ["box outside the image"], (40 / 64, 10 / 48, 24 / 64)),
        ("164.0 10.0 60.0 20.0", ["box outside the image"], None),
        ("10.0 10.0 0.0 20.0", ["box outside the image"], None),
    ],
    ids=["a little", "much", "wholly", "no area"],
)
def test_a_box_that_reaches_out_is_cut_and_reported(tmp_path: Path, box: str, kind: list[str], expected: tuple | None):
    root = write_cub200(tmp_path / "CUB_200_2011")
    change(root, "bounding_boxes.txt", 1, f"1 {box}")
    dataset = open_(root)
    assert [problem.kind for problem in dataset.problems] == kind
    found = dataset.samples[0].box
    assert (found and found[:3]) == expected


def test_a_part_outside_its_image_is_left_out_and_reported(tmp_path: Path):
    root = write_cub200(tmp_path / "CUB_200_2011")
    change(root, "parts/part_locs.txt", 2, "1 2 200.0 10.0 1")
    dataset = open_(root)
    assert [(problem.kind, problem.path) for problem in dataset.problems] == [
        ("part outside the image", dataset.samples[0].id)
    ]
    assert "beak" not in [part.name for part in dataset.samples[0].parts]


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path):
    root = write_cub200(tmp_path / "CUB_200_2011")
    folder = root / "images" / BIRDS[1]
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"images\.txt, line 6: .* by a link"):
        open_(root)


@pytest.mark.parametrize("lacking", ["images.txt", "image_class_labels.txt", "train_test_split.txt"])
def test_a_folder_without_the_lists_is_not_recognised(tmp_path: Path, lacking: str):
    root = write_cub200(tmp_path / "birds")
    assert recognises(root)
    assert recognise(root) == ("cub200", root)
    (root / lacking).unlink()
    assert not recognises(root)


def test_it_opens_by_name_by_its_folder_and_by_the_folder_above(tmp_path: Path):
    root = write_cub200(tmp_path / "CUB_200_2011")
    expected = open_(root)
    for dataset in ("cub200", str(root), str(tmp_path)):
        assert open_dataset(dataset, data_root=tmp_path) == expected


def test_released_lists_in_its_folder_apply(tmp_path: Path):
    root = write_cub200(tmp_path / "CUB_200_2011")
    names = [sample.id.removeprefix("images/") for sample in open_(root).split("train")]
    write_list(root / "image_list" / "train_50.txt", (f"train/{name} {image}" for image, name in enumerate(names[::3])))
    dataset = open_(root)
    assert dataset.label_lists == {(50, 3): frozenset(f"images/{name}" for name in names[::3])}
    assert dataset.layout.startswith("CUB-200-2011, official layout with boxes and 15 parts")


def test_progress_is_told_while_heads_are_read(tmp_path: Path):
    steps: list[tuple[int, int]] = []
    load(write_cub200(tmp_path / "CUB_200_2011"), Opening(progress=lambda *step: steps.append(step)))
    assert steps[-1] == (15, 15)


def test_a_list_as_long_as_the_real_one_is_read_in_seconds(tmp_path: Path):
    root = write_cub200(tmp_path / "CUB_200_2011", classes=1)
    originals = sorted((root / "images").rglob("*.jpg"))
    names = [f"{BIRDS[0]}/{image}.jpg" for image in range(12_000)]
    for image, name in enumerate(names):
        os.link(originals[image % len(originals)], root / "images" / name)
    rows = range(1, len(names) + 1)
    write_list(root / "images.txt", (f"{row} {name}" for row, name in zip(rows, names, strict=True)))
    write_list(root / "image_class_labels.txt", (f"{row} 1" for row in rows))
    write_list(root / "train_test_split.txt", (f"{row} {row % 2}" for row in rows))
    write_list(root / "bounding_boxes.txt", (f"{row} 1.0 2.0 30.0 40.0" for row in rows))
    write_list(root / "parts/part_locs.txt", (f"{row} {part} 20.0 30.0 1" for row in rows for part in range(1, 16)))
    start = time.process_time()  # of this process alone, whatever else the machine does
    dataset = open_(root)
    assert time.process_time() - start < 8
    assert len(dataset.samples) == 12_000
    assert sum(len(sample.parts) for sample in dataset.samples) == 180_000


@pytest.mark.photographs
def test_the_real_photographs_are_read(real_photographs: Path):
    dataset = open_dataset(str(real_photographs / "cub25"), data_root=real_photographs)
    assert dataset.layout == "CUB-200-2011, official layout with boxes and 15 parts"
    assert (len(dataset.classes), len(dataset.split("train")), len(dataset.split("test"))) == (25, 750, 652)
    assert dataset.classes[24] == "025.Pelagic_Cormorant"
    assert dataset.problems == ()
    assert all(sample.box is not None for sample in dataset.samples)
    visible = [(sample.box, part) for sample in dataset.samples for part in sample.parts]
    assert 11 < len(visible) / len(dataset.samples) < 13
    near = [
        left - 0.05 <= part.x <= left + width + 0.05 and top - 0.05 <= part.y <= top + height + 0.05
        for (left, top, width, height), part in visible
    ]
    assert sum(near) / len(near) > 0.99
