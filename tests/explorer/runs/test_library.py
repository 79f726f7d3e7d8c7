from __future__ import annotations

import json
import shutil
import time

import pytest

from explorer.runs import library as library_module
from explorer.runs.library import Library
from sam_core.recording.notes import Notes, write_notes


@pytest.fixture
def library(places, monkeypatch) -> Library:
    """A library that looks at everything each time it is asked."""
    monkeypatch.setattr(library_module, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(library_module, "LOOK_AT_ALL_EVERY_S", 0.0)
    return Library(places)


def test_without_runs_the_list_is_empty(library):
    changes = library.changes_since(0)
    assert changes["whole"]
    assert changes["runs"] == []


def test_a_summary_says_what_the_run_is_and_how_far_it_came(library, own_run, trained):
    (summary,) = library.summaries()
    assert summary["id"] == own_run.name
    assert summary["state"] == "finished"
    assert summary["choices"]["dataset"] == "shapes", "only the name of the folder, not where it is"
    assert summary["choices"]["method"] == "sam"
    assert summary["accuracy"] == trained.metrics("epoch")[-1]["test"]["top1"]
    assert summary["epoch"] == 2
    assert not summary["demo"]


def test_nothing_is_sent_when_nothing_changed(library, own_run):
    version = library.changes_since(0)["version"]
    assert library.changes_since(version) is None


def test_only_what_changed_is_sent(library, own_run, places):
    second = places.runs / "20260101-000000-second-1pct-sam-abcd"
    shutil.copytree(own_run, second)
    version = library.changes_since(0)["version"]
    write_notes(second, Notes(name="Anna's run", notes=""))
    changes = library.changes_since(version)
    assert not changes["whole"]
    assert [run["name"] for run in changes["runs"]] == ["Anna's run"]


def test_a_deleted_run_is_named_as_removed(library, own_run):
    version = library.changes_since(0)["version"]
    shutil.rmtree(own_run)
    changes = library.changes_since(version)
    assert changes["removed"] == [own_run.name]
    assert changes["runs"] == []


def test_a_version_of_another_server_gets_the_whole_list(library, own_run):
    version = library.changes_since(0)["version"]
    assert library.changes_since(version + 1000)["whole"]


def test_a_run_whose_process_is_gone_becomes_interrupted_without_any_file_changing(library, own_run):
    status = json.loads((own_run / "status.json").read_text())
    status |= {"state": "running", "pid": 2**22 - 3}
    (own_run / "status.json").write_text(json.dumps(status))
    assert library.summaries()[0]["state"] == "interrupted"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'"text"', b"null"])
@pytest.mark.parametrize("name", ["status.json", "config.json", "metrics.jsonl", "notes.json"])
def test_a_damaged_run_is_still_listed(library, own_run, name, content):
    (own_run / name).write_bytes(content)
    (summary,) = library.summaries()
    assert summary["id"] == own_run.name


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"name": "\\ud800", "dataset": "\\ud800", "method": ["sam"], "seed": ' + b"9" * 400 + b"}"],
)
@pytest.mark.parametrize("name", ["status.json", "config.json", "metrics.jsonl", "notes.json"])
def test_one_hostile_run_does_not_take_the_list_away(library, own_run, name, content):
    (own_run / name).write_bytes(content)
    (summary,) = json.loads(library.changes_json(0))["runs"]
    assert summary["id"] == own_run.name
    if name == "config.json":
        assert summary["choices"]["method"] is None, "lists are no choices"
        assert summary["choices"]["seed"] is None, "no page can hold such a number"


def test_a_status_is_shown_as_far_as_it_can_be(library, own_run):
    status = {
        "state": "failed",
        "epoch": "many",
        "steps": 10**400,
        "step": 3,
        "eta_s": [],
        "error": {"message": 5, "hint": "h"},
    }
    (own_run / "status.json").write_text(json.dumps(status))
    (summary,) = library.summaries()
    assert (summary["state"], summary["epoch"], summary["steps"], summary["step"], summary["eta_s"]) == (
        "failed", None, None, 3, None,
    )  # fmt: skip
    assert summary["error"] == {"type": None, "message": None, "hint": "h"}


def test_an_accuracy_that_is_no_number_is_none(library, own_run):
    with open(own_run / "metrics.jsonl", "a") as file:
        file.write('{"kind": "epoch", "test": {"top1": ' + "9" * 400 + "}}\n")
    assert library.summaries()[0]["accuracy"] is None


def test_folders_that_are_no_runs_are_not_listed(library, own_run, places):
    (places.runs / "notes").mkdir()
    (places.runs / ".being-removed").mkdir()
    (places.runs / ".being-removed" / "config.json").write_text("{}")
    (places.runs / "file.txt").write_text("")
    assert len(library.summaries()) == 1


def test_many_viewers_share_one_look(places, own_run, monkeypatch):
    monkeypatch.setattr(library_module, "LOOK_EVERY_S", 60.0)
    library, looked = Library(places), []
    monkeypatch.setattr(library, "_find_folders", lambda: looked.append(time.monotonic()))
    for _ in range(20):
        library.changes_since(0)
    assert len(looked) == 1
