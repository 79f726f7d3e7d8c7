from __future__ import annotations

import pytest

from explorer.places import Places
from sam_core.config import ConfigError
from sam_core.recording.writer import RunError

HOSTILE_IDS = [
    "",
    ".",
    "..",
    "../runs",
    "a/b",
    "a\\b",
    "/etc",
    ".hidden",
    "a\0b",
    "a" * 300,
    "a b",
    "%2e%2e",
    "~",
    None,
    7,
    "run\n",
]


@pytest.mark.parametrize("run_id", HOSTILE_IDS)
def test_a_run_id_that_is_no_plain_name_reaches_no_folder(places, run_id):
    with pytest.raises(RunError, match="there is no run"):
        places.run_folder(run_id)


def test_a_run_that_is_a_link_to_another_place_is_not_followed(places, own_run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    own_run.rename(elsewhere)
    own_run.symlink_to(elsewhere)
    with pytest.raises(RunError):
        places.run_folder(own_run.name)


def test_a_run_is_found_by_its_id(places, own_run):
    assert places.run_folder(own_run.name) == own_run


def test_the_demonstration_can_be_looked_at_but_not_changed(places, own_run):
    places.demo.mkdir()
    own_run.rename(places.demo / own_run.name)
    assert places.run_folder(own_run.name).parent == places.demo
    with pytest.raises(RunError, match="demonstration"):
        places.own_run_folder(own_run.name)


def test_only_files_within_the_roots_may_be_read(places, shared_photographs, tmp_path):
    picture = next(shared_photographs.rglob("*.png"))
    assert places.may_read(picture)
    assert not places.may_read("/etc/passwd")
    assert not places.may_read(picture.parent / ".." / ".." / ".." / ".." / "etc" / "passwd")
    assert not places.may_read("a\0b")
    link = places.runs / "link.png"
    places.runs.mkdir()
    (tmp_path / "secret.png").write_bytes(picture.read_bytes())
    link.symlink_to(tmp_path / "secret.png")
    assert not places.may_read(link), "a link out of the roots was followed"


def test_a_neighbour_whose_name_begins_like_a_root_is_not_within_it(tmp_path):
    (tmp_path / "data-secret").mkdir()
    (tmp_path / "data").mkdir()
    places = Places(tmp_path / "runs", data_roots=(tmp_path / "data",))
    assert not places.may_read(tmp_path / "data-secret")


@pytest.mark.parametrize("name", ["/etc", "..", "../..", "shapes/../../..", "nothing-here", "~root", "a\0b", "/"])
def test_a_dataset_outside_the_roots_is_refused_with_the_way_out(places, name):
    with pytest.raises(ConfigError, match="--data-root") as caught:
        places.dataset(name)
    assert caught.value.field == "dataset"


def test_a_dataset_is_taken_by_name_by_path_and_relative_to_a_root(places, shared_photographs):
    assert places.dataset("fieldguide") == "fieldguide"
    assert places.dataset(str(shared_photographs)) == str(shared_photographs)
    assert places.dataset(shared_photographs.name) == str(shared_photographs)


def test_a_zip_within_the_roots_is_a_dataset_and_any_other_file_is_not(places):
    root = places.data_roots[0]
    for name in ("photographs.zip", "notes.txt"):
        (root / name).write_bytes(b"x")
    assert places.dataset("photographs.zip") == str(root / "photographs.zip")
    with pytest.raises(ConfigError):
        places.dataset("notes.txt")


def test_a_named_dataset_is_opened_under_the_root_that_has_it(places, data_folder, tmp_path):
    both = Places(tmp_path / "runs", data_roots=(places.data_roots[0], data_folder))
    assert both.named_folder("cub200") == data_folder / "CUB_200_2011"
    assert both.data_root_of("cub200") == data_folder
    assert both.named_folder("cars") is None
    assert both.data_root_of("cars") == both.data_root_of("fieldguide") == places.data_roots[0]


def test_a_short_name_leads_back_to_the_same_dataset(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first / "a", second / "a", second / "b" / "c", second / "pets"):
        folder.mkdir(parents=True)
    places = Places(tmp_path / "runs", data_roots=(first, second))
    shorts = {}
    for folder in (first / "a", second / "a", second / "b" / "c", second / "pets", first):
        shorts[places.short_name(str(folder))] = str(folder)
    assert {name: places.dataset(name) for name in shorts} == shorts
    assert list(shorts) == ["a", str(second / "a"), "b/c", str(second / "pets"), str(first)]


@pytest.mark.parametrize("name", ["/etc/passwd", "../../x.safetensors", "missing.safetensors", ""])
def test_weights_are_named_choices_or_files_of_the_pretrained_folder_only(places, name):
    with pytest.raises(ConfigError, match="weights"):
        places.weights(name)


def test_named_weights_pass(places):
    assert places.weights("imagenet") == "imagenet"
    assert places.weights("none") == "none"
