"""Which images are labelled: counts by the released rule, nested, seeded, and the same everywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sam_core.datasets.base import Dataset, DatasetError, Sample
from sam_core.datasets.subset import RELEASED_LIST, SEEDED_RULE, choose_labels, first_classes, labelled_count


def make_dataset(*sizes: int) -> Dataset:
    samples = [
        Sample(f"train/{label}/{number:03}.png", Path("x"), label, "train")
        for label, size in enumerate(sizes)
        for number in range(size)
    ]
    samples += [Sample(f"test/{label}/0.png", Path("x"), label, "test") for label in range(len(sizes))]
    return Dataset("made", Path("/made"), "made up", tuple(f"class {i}" for i in range(len(sizes))), tuple(samples))


@pytest.mark.parametrize(
    ("ratio", "images", "expected"),
    [(7, 100, 7), (10, 64, 7), (10, 30, 3), (15, 30, 5), (0.1, 30, 1), (100, 41, 41), (33.3, 1000, 333), (29, 100, 29)],
)
def test_the_count_is_the_exact_ceiling(ratio: float, images: int, expected: int):
    assert labelled_count(ratio, images) == expected


def test_subsets_of_rising_ratios_are_nested():
    dataset = make_dataset(30, 41)
    before: set[str] = set()
    for ratio in (1, 10, 15, 30, 50, 100):
        chosen = {sample.id for sample in choose_labels(dataset, label_ratio=ratio, seed=3).labelled}
        assert before < chosen
        before = chosen


def test_the_subset_depends_on_the_seed_and_on_nothing_else():
    dataset = make_dataset(30, 41)
    first = choose_labels(dataset, label_ratio=10, seed=0).labelled
    assert first == choose_labels(dataset, label_ratio=10, seed=0).labelled
    assert first != choose_labels(dataset, label_ratio=10, seed=1).labelled
    # Held as they are: a change here would change every published subset.
    assert [sample.id for sample in first][:3] == ["train/0/009.png", "train/0/010.png", "train/0/001.png"]


def test_a_category_subset_takes_the_first_classes_of_every_split():
    dataset = first_classes(make_dataset(4, 4, 4), 2)
    assert len(dataset.classes) == 2
    assert {sample.label for sample in dataset.samples} == {0, 1}
    assert len(dataset.split("test")) == 2
    with pytest.raises(DatasetError, match="has 2 classes, not 5"):
        first_classes(dataset, 5)


def test_validation_images_come_first_from_those_without_a_label():
    subset = choose_labels(make_dataset(20, 20), label_ratio=50, seed=0, validation=0.25)
    assert len(subset.labelled) == 20
    assert len(subset.validation) == 10
    assert not {s.id for s in subset.labelled} & {s.id for s in subset.validation}


def test_at_full_ratio_validation_images_are_taken_from_the_labelled_ones():
    subset = choose_labels(make_dataset(20, 2), label_ratio=100, seed=0, validation=0.5)
    assert (len(subset.labelled), len(subset.validation)) == (11, 11)


def test_a_class_without_training_images_is_refused_by_name():
    with pytest.raises(DatasetError, match="class 1") as refused:
        choose_labels(make_dataset(3, 0), label_ratio=10, seed=0)
    assert refused.value.hint == "add at least one, or remove the class's folder"


@pytest.mark.parametrize(
    ("sizes", "way_out"),
    [((0, 3, 3), ""), ((3, 0, 3), ""), ((3, 3, 0), "; or keep to the classes before this one, with --num-classes 2")],
)
def test_where_a_list_says_what_is_for_training_the_hint_is_about_the_list(sizes: tuple[int, ...], way_out: str):
    dataset = replace(make_dataset(*sizes), training_list="trainval.txt")
    with pytest.raises(DatasetError, match="no readable training image") as refused:
        choose_labels(dataset, label_ratio=10, seed=0)
    assert refused.value.hint == f"see that trainval.txt names one, and that its file is there{way_out}"


# --- Published lists ----------------------------------------------------------------------------------------------


def listed_in(dataset: Dataset, number: int) -> frozenset[str]:
    """Of every class the images with the numbers `number` and the one after."""
    names = (f"{number:03}.png", f"{number + 1:03}.png")
    return frozenset(sample.id for sample in dataset.split("train") if sample.id.endswith(names))


def with_lists(*sizes: int) -> Dataset:
    """Lists for 10 % of all and of the first two classes, and for 30 % of all."""
    dataset = make_dataset(*sizes)
    few = frozenset(name for name in listed_in(dataset, 5) if name.split("/")[1] in "01")
    lists = {(10, len(sizes)): listed_in(dataset, 2), (10, 2): few, (30, len(sizes)): listed_in(dataset, 7)}
    return replace(dataset, label_lists=lists)


def labelled(dataset: Dataset, **choice: float) -> set[str]:
    return {sample.id for sample in choose_labels(dataset, **{"label_ratio": 10, "seed": 0, **choice}).labelled}


@pytest.mark.parametrize("seed", [0, 1, 99])
def test_a_published_list_is_taken_exactly_whatever_the_seed(seed: int):
    dataset = with_lists(20, 30, 40)
    assert labelled(dataset, seed=seed) == dataset.label_lists[10, 3]
    assert labelled(dataset, label_ratio=10.0, seed=seed) == dataset.label_lists[10, 3]
    assert choose_labels(dataset, label_ratio=10, seed=seed).source == RELEASED_LIST


@pytest.mark.parametrize("ratio", [15, 10.5, 100])
def test_where_there_is_no_list_the_rule_holds(ratio: float):
    dataset = with_lists(20, 30, 40)
    subset = choose_labels(dataset, label_ratio=ratio, seed=4)
    assert subset == choose_labels(make_dataset(20, 30, 40), label_ratio=ratio, seed=4)
    assert subset.source == SEEDED_RULE


def test_everything_is_labelled_at_full_ratio_whatever_a_list_says():
    dataset = with_lists(20, 30)
    dataset = replace(dataset, label_lists={(100, 2): listed_in(dataset, 1)})
    assert len(labelled(dataset, label_ratio=100)) == 50


def test_a_category_subset_has_its_own_list_or_the_first_classes_of_the_next():
    dataset = with_lists(20, 30, 40, 50)
    two = first_classes(dataset, 2)
    assert labelled(two) == dataset.label_lists[10, 2]
    assert labelled(two, label_ratio=30) == {name for name in listed_in(dataset, 7) if name.split("/")[1] in "01"}
    three = first_classes(dataset, 3)
    assert labelled(three) == {name for name in listed_in(dataset, 2) if name.split("/")[1] in "012"}
    assert set(three.label_lists) == {(10, 2), (10, 3), (30, 3)}
    left = {sample.id for sample in three.samples}
    assert all(listed <= left for listed in three.label_lists.values())
    assert first_classes(three, 2) == two
    one = first_classes(dataset, 1)
    assert labelled(one) == {"train/0/005.png", "train/0/006.png"}
    assert set(one.label_lists) == {(10, 1), (30, 1)}


def test_validation_images_come_first_from_those_that_the_list_leaves():
    dataset = with_lists(20, 20, 20)
    subset = choose_labels(dataset, label_ratio=10, seed=0, validation=0.9)
    assert {sample.id for sample in subset.labelled} == dataset.label_lists[10, 3]
    assert len(subset.validation) == 3 * 18
    assert not {sample.id for sample in subset.validation} & dataset.label_lists[10, 3]
    # Where that is not enough, one labelled image of each class stays.
    subset = choose_labels(dataset, label_ratio=10, seed=0, validation=0.99)
    assert (len(subset.labelled), len(subset.validation)) == (3, 3 * 19)


def test_a_list_that_omits_a_class_is_refused_with_list_and_class():
    dataset = with_lists(20, 20, 20)
    omitting = {(30, 3): frozenset(name for name in listed_in(dataset, 7) if "/1/" not in name)}
    with pytest.raises(DatasetError, match=r"list of 30 % for 3 classes \(.*train_30\*\.txt\) .* class 'class 1'"):
        labelled(replace(dataset, label_lists=omitting), label_ratio=30)
