from __future__ import annotations

from dataclasses import replace

import pytest

from explorer.data.contents import chosen_labels, contents, description, plain, source_of
from explorer.data.shelf import Selection, Shelf
from explorer.places import Places
from sam_core.config import RunConfig
from sam_core.datasets.base import DatasetError, Problem
from sam_core.datasets.run_data import open_run_dataset
from tests.datasets.miniature_lists import write_released


@pytest.fixture
def birds(data_folder, tmp_path):
    return Shelf(Places(tmp_path / "runs", data_roots=(data_folder,))).open(Selection("cub200"))


def test_every_image_is_there_once_with_its_class_and_split(birds):
    columns = contents(birds)
    assert len(columns["ids"]) == len(columns["label"]) == len(columns["split"]) == 21
    for row, sample in enumerate(birds.dataset.samples):
        assert columns["ids"][row] == sample.id
        assert columns["classes"][columns["label"][row]] == birds.dataset.classes[sample.label]
        assert columns["splits"][columns["split"][row]] == sample.split
    assert columns["has"] == {"box": True, "parts": True, "mask": True}
    assert columns["version"] == birds.version


def test_a_folder_of_photographs_marks_nothing(shared_photographs, tmp_path):
    shelf = Shelf(Places(tmp_path / "runs", data_roots=(shared_photographs.parent,)))
    columns = contents(shelf.open(Selection(str(shared_photographs))))
    assert columns["has"] == {"box": False, "parts": False, "mask": False}
    assert columns["lists"] == []


def test_a_problem_names_the_row_of_its_image_if_it_is_about_one(birds):
    image = birds.dataset.samples[4].id
    problems = (Problem("unreadable image", image, "cut"), Problem("class only in train", "train/x", "no test image"))
    changed = replace(birds, dataset=replace(birds.dataset, problems=problems))
    assert [problem["row"] for problem in contents(changed)["problems"]] == [4, None]


def test_the_labelled_images_are_those_that_a_run_gets(birds, data_folder):
    config = RunConfig(dataset="cub200", data_root=str(data_folder), label_ratio=40, num_classes=2, split_seed=3)
    _, subset = chosen_labels(birds.dataset, config)
    _, of_run = open_run_dataset(config)
    assert [sample.id for sample in subset.labelled] == [sample.id for sample in of_run.labelled]
    assert source_of(subset) == "seeded rule"


def test_a_released_list_is_named_as_the_source_and_its_ratios_are_told(tmp_path):
    root = write_released(tmp_path / "data" / "CUB200")
    opened = Shelf(Places(tmp_path / "runs", data_roots=(tmp_path / "data",))).open(Selection(str(root)))
    percent = contents(opened)["lists"][0]
    _, subset = chosen_labels(opened.dataset, RunConfig(dataset=str(root), label_ratio=percent))
    assert source_of(subset) == "released list"


def test_a_description_counts_each_class_once(birds):
    config = RunConfig(dataset="cub200", label_ratio=50, num_classes=2)
    about = description(birds.dataset, config)
    assert about["labelled"] == len(about["labelled_ids"]) == 4
    assert about["images"] == {"train": 8, "test": 6}
    assert about["counts"] == [
        {"class": name, "labelled": 2, "train": 4, "test": 3} for name in birds.dataset.classes[:2]
    ]


def test_more_classes_than_there_are_are_refused(birds):
    with pytest.raises(DatasetError, match="num_classes"):
        description(birds.dataset, RunConfig(dataset="cub200", num_classes=9))


def test_a_name_that_is_no_text_can_be_sent_all_the_same():
    assert plain(b"caf\xe9.jpg".decode(errors="surrogateescape")) == "caf?.jpg"
