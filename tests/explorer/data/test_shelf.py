from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from explorer.data import shelf as shelf_module
from explorer.data.shelf import OpenSet, Reading, Selection, Shelf
from explorer.places import Places
from sam_core.config import RunConfig
from sam_core.datasets.base import DatasetError
from tests.conftest import write_photographs
from tests.datasets.miniatures import write_aircraft


@pytest.fixture
def root(tmp_path):
    write_photographs(tmp_path / "data" / "shapes")
    return tmp_path / "data"


@pytest.fixture
def shelf(root, tmp_path):
    shelf = Shelf(Places(tmp_path / "runs", data_roots=(root,)))
    yield shelf
    shelf.close()


@pytest.fixture
def opened(monkeypatch):
    """What was opened so far: (name, seed, level)."""
    calls = []
    original = shelf_module.open_dataset

    def counting(name, **choices):
        calls.append((name, choices["split_seed"], choices["class_level"]))
        return original(name, **choices)

    monkeypatch.setattr(shelf_module, "open_dataset", counting)
    return calls


@pytest.fixture
def patience(monkeypatch):
    """Files are looked at every time somebody asks."""
    monkeypatch.setattr(shelf_module, "LOOK_EVERY_S", 0)
    monkeypatch.setattr(shelf_module, "REFUSAL_LIVES_S", 0)


def test_a_dataset_is_read_once_for_all_who_ask(shelf, root, opened, monkeypatch):
    started = threading.Event()
    counting = shelf_module.open_dataset

    def slowly(*arguments, **choices):
        started.wait(5)
        return counting(*arguments, **choices)

    monkeypatch.setattr(shelf_module, "open_dataset", slowly)
    selection = Selection(str(root / "shapes"))
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(shelf.open, selection) for _ in range(8)]
        started.set()
        found = [one.result() for one in asked]
    assert len({id(one) for one in found}) == 1
    assert len(opened) == 1


def test_it_is_read_again_when_its_files_have_changed(shelf, root, opened, patience):
    selection = Selection(str(root / "shapes"))
    before = shelf.open(selection)
    assert shelf.open(selection) is before
    (root / "shapes" / "train" / "circle" / "00.png").unlink()
    after = shelf.open(selection)
    assert len(after.dataset.samples) == len(before.dataset.samples) - 1
    assert after.version != before.version
    assert len(opened) == 2


def test_whoever_does_not_want_to_wait_is_told_how_far_it_is(shelf, root, monkeypatch):
    go_on = threading.Event()
    original = shelf_module.open_dataset

    def slowly(*arguments, progress, **choices):
        progress(3, 12)
        assert go_on.wait(10)
        return original(*arguments, progress=progress, **choices)

    monkeypatch.setattr(shelf_module, "open_dataset", slowly)
    selection = Selection(str(root / "shapes"))
    reading = shelf.look(selection, wait_s=0.2)
    assert isinstance(reading, Reading)
    assert (reading.done, reading.total, reading.words) == (3, 12, "Reading the list of images")
    go_on.set()
    assert isinstance(shelf.look(selection, wait_s=10), OpenSet)


def test_what_is_refused_is_refused_to_all_and_tried_again_once_it_may_be_mended(shelf, root, opened, monkeypatch):
    (root / "empty").mkdir()
    selection = Selection(str(root / "empty"))
    for _ in range(2):
        with pytest.raises(DatasetError, match="no class"):
            shelf.open(selection)
    assert len(opened) == 1
    monkeypatch.setattr(shelf_module, "REFUSAL_LIVES_S", 0)
    write_photographs(root / "empty" / "deeper")
    (root / "empty" / "deeper" / "train").rename(root / "empty" / "train")
    (root / "empty" / "deeper" / "test").rename(root / "empty" / "test")
    assert len(shelf.open(selection).dataset.classes) == 3


def test_datasets_are_let_go_when_they_are_too_many_images_together(shelf, root, opened, monkeypatch):
    monkeypatch.setattr(shelf_module, "KEPT_IMAGES", 30)  # one of 27 fits, two do not
    write_photographs(root / "others")
    names = [str(root / "shapes"), str(root / "others")]
    for name in (*names, names[1], names[0]):
        shelf.open(Selection(name))
    assert [name for name, *_ in opened] == [*names, names[0]]


def test_a_choice_that_makes_no_difference_reads_nothing_anew(shelf, root, data_folder):
    own = RunConfig(dataset=str(root / "shapes"), split_seed=7, class_level="family")
    assert shelf.select(own) == Selection(own.dataset, split_seed=7)
    guide = RunConfig(split_seed=7, class_level="family")
    assert shelf.select(guide) == Selection("fieldguide")
    birds = RunConfig(dataset=str(data_folder / "CUB_200_2011"), split_seed=7, class_level="family")
    assert shelf.select(birds) == Selection(birds.dataset)


def test_levels_of_classes_are_read_apart_where_there_are_some(shelf, root):
    folder = write_aircraft(root / "fgvc-aircraft-2013b")
    for dataset in ("aircraft", str(folder)):
        chosen = RunConfig(dataset=dataset, class_level="manufacturer", data_root=str(root))
        assert shelf.select(chosen).class_level == "manufacturer"
        assert "Boeing" in shelf.open(shelf.select(chosen)).dataset.classes


def test_a_named_dataset_is_found_under_whichever_root_has_it(root, data_folder, tmp_path):
    shelf = Shelf(Places(tmp_path / "runs", data_roots=(root, data_folder)))
    assert shelf.open(Selection("cub200")).dataset.root == (data_folder / "CUB_200_2011").resolve()


def test_pictures_come_from_whatever_is_open_of_a_dataset(shelf, root, opened):
    name = str(root / "shapes")
    first = shelf.open(Selection(name, split_seed=5))
    assert shelf.any_of(name) is first
    shelf.forget(name)
    assert not shelf.has(name)
    assert shelf.any_of(name).selection == Selection(name)


def test_the_servers_end_ends_a_reading(shelf, root, monkeypatch):
    def endlessly(*arguments, progress, **choices):
        while True:
            progress(1, 2)
            time.sleep(0.01)

    monkeypatch.setattr(shelf_module, "open_dataset", endlessly)
    reading = shelf.look(Selection(str(root / "shapes")))
    shelf.close()
    with pytest.raises(DatasetError, match="server was ended"):
        reading.result.result(timeout=1)
