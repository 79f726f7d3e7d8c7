from __future__ import annotations

import threading
import time

import pytest

from explorer.data import shelf as shelf_module
from explorer.data.checks import Checks
from explorer.data.shelf import Selection, Shelf
from explorer.places import Places
from sam_core.datasets import checking
from sam_core.datasets.base import DatasetError, Problem
from tests.conftest import write_photographs


@pytest.fixture
def root(tmp_path):
    write_photographs(tmp_path / "data" / "shapes")
    return tmp_path / "data"


@pytest.fixture
def selection(root):
    return Selection(str(root / "shapes"))


@pytest.fixture
def checks(root, tmp_path, monkeypatch):
    monkeypatch.setattr(shelf_module, "LOOK_EVERY_S", 0)
    places = Places(tmp_path / "runs", data_roots=(root,))
    shelf = Shelf(places)
    checks = Checks(places, shelf)
    yield checks
    checks.close()
    shelf.close()


def wait_for(checks, selection, *states: str) -> dict:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = checks.state(selection)
        if found["state"] in states:
            return found
        time.sleep(0.02)
    raise AssertionError(f"still {found}")


def test_before_anybody_asks_nothing_is_checked(checks, selection):
    assert checks.state(selection) == {"state": "none"}


def test_a_check_finds_what_is_broken_and_what_is_there_twice(checks, selection, root):
    circles = root / "shapes" / "train" / "circle"
    (circles / "broken.jpg").write_bytes(b"no photograph")
    (root / "shapes" / "test" / "circle" / "again.png").write_bytes((circles / "00.png").read_bytes())
    checks.start(selection)
    found = wait_for(checks, selection, "done")
    assert (found["done"], found["total"]) == (29, 29)
    kinds = {problem["path"]: problem["kind"] for problem in found["problems"]}
    assert kinds["train/circle/broken.jpg"] == "unreadable image"
    assert "test" in kinds["test/circle/again.png"]
    samples = checks._shelf.open(selection).dataset.samples
    for problem in found["problems"]:
        assert samples[problem["row"]].id == problem["path"]


def test_a_result_stays_until_the_files_change(checks, selection, root):
    checks.start(selection)
    first = wait_for(checks, selection, "done")
    assert checks.start(selection) == first, "there is nothing to do again"
    (root / "shapes" / "train" / "circle" / "00.png").write_bytes(b"")
    assert checks.state(selection) == {"state": "none"}
    checks.start(selection)
    assert [p["path"] for p in wait_for(checks, selection, "done")["problems"]] == ["train/circle/00.png"]


def test_many_who_ask_share_one_check(checks, selection, monkeypatch):
    go_on, begun = threading.Event(), []

    def slowly(dataset, *, cache_root, progress):
        begun.append(dataset)
        progress(5, 27)
        assert go_on.wait(20)
        return [Problem("unreadable image", "nothing", "made up")]

    monkeypatch.setattr(checking, "check_images", slowly)
    for _ in range(5):
        checks.start(selection)
    running = checks.state(selection)
    assert running["state"] == "running"
    go_on.set()
    assert wait_for(checks, selection, "done")["problems"][0]["row"] is None
    assert len(begun) == 1


def test_a_check_that_fails_says_so_and_can_be_tried_again(checks, selection, monkeypatch):
    def failing(dataset, **_):
        raise DatasetError("the disk went away")

    original = checking.check_images
    monkeypatch.setattr(checking, "check_images", failing)
    checks.start(selection)
    assert wait_for(checks, selection, "failed")["message"] == "the disk went away"
    monkeypatch.setattr(checking, "check_images", original)
    checks.start(selection)
    assert wait_for(checks, selection, "done")["problems"] == []


def test_the_servers_end_ends_a_check(checks, selection, monkeypatch):
    def endlessly(dataset, *, cache_root, progress):
        while True:
            progress(1, 2)
            time.sleep(0.01)

    monkeypatch.setattr(checking, "check_images", endlessly)
    checks.start(selection)
    began = time.monotonic()
    checks.close()
    assert time.monotonic() - began < 3
    assert not any(thread.name == "checking" for thread in threading.enumerate())
