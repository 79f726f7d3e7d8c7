from __future__ import annotations

import pytest

from explorer.data.shelf import Shelf
from explorer.runs.outlook import Forecaster, Outlook, in_words
from sam_core.config import RunConfig
from sam_core.datasets.base import DatasetError
from sam_core.datasets.fieldguide import load_fieldguide, planned_fieldguide
from sam_core.datasets.run_data import open_run_dataset


def test_the_counts_are_those_of_the_run_itself(places, shared_photographs, tiny):
    config = tiny(shared_photographs, label_ratio=30, validation=0.2)
    outlook = Forecaster(Shelf(places)).outlook(config)
    dataset, subset = open_run_dataset(config)
    assert outlook.labelled == len(subset.labelled)
    assert outlook.validation == len(subset.validation)
    assert outlook.test == len(dataset.split("test"))
    assert outlook.classes == 3
    assert outlook.epochs == 3
    assert outlook.seconds > 0


def test_the_field_guide_is_counted_before_it_is_drawn(places):
    outlook = Forecaster(Shelf(places)).outlook(
        RunConfig(data_root=str(places.data_roots[0]), backbone="test_resnet", image_size=64)
    )
    assert (outlook.classes, outlook.labelled, outlook.test) == (10, 40, 400)
    assert not list(places.data_roots[0].glob("fieldguide-*")), "counting must not draw"


def test_the_plan_of_the_field_guide_is_what_gets_drawn(tmp_path):
    planned, drawn = planned_fieldguide(0.8), load_fieldguide(tmp_path)
    assert [(s.id, s.label, s.split) for s in planned.samples] == [(s.id, s.label, s.split) for s in drawn.samples]
    assert planned.classes == drawn.classes


def test_a_dataset_that_cannot_be_used_is_refused_before_the_start(places, tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no class"):
        Forecaster(Shelf(places)).outlook(tiny(tmp_path / "empty"))


def test_more_classes_than_there_are_is_refused(places, tiny, shared_photographs):
    with pytest.raises(DatasetError, match="num_classes"):
        Forecaster(Shelf(places)).outlook(tiny(shared_photographs, num_classes=9))


def test_the_sentence_says_images_classes_and_time():
    words = Outlook(17, 51, 0, 272, 12, 118.0, "cpu").in_words()
    assert words == "51 labelled images of 17 classes; 272 test images looked at 13 times; about 2 minutes on this CPU."


def test_where_the_speed_is_unknown_no_time_is_made_up():
    assert "about" not in Outlook(17, 51, 0, 272, 12, None, "cuda").in_words()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "5 seconds"),
        (41, "40 seconds"),
        (58, "1 minute"),
        (118, "2 minutes"),
        (5400, "1.5 hours"),
        (200_000, "2.3 days"),
    ],
)
def test_times_are_rough_and_readable(seconds, words):
    assert in_words(seconds) == words
