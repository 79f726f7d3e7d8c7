from __future__ import annotations

import json
import shutil

import pytest

from explorer.runs import live
from explorer.runs.live import RunFeed, epoch_point


@pytest.fixture
def feed(own_run, monkeypatch) -> RunFeed:
    monkeypatch.setattr(live, "SHARED_LOOK_S", 0.0)
    return RunFeed(own_run)


def test_the_first_answer_has_everything(feed, trained):
    news = feed.news("")
    assert news["reset"]
    assert [point["epoch"] for point in news["epochs"]] == [0, 1, 2]
    assert len(news["steps"]) == len(trained.metrics("step"))
    assert news["recorded"] == [0, 1, 2]
    assert news["state"] == "finished"
    assert "finished" in news["log"]


def test_nothing_is_sent_while_nothing_happens(feed):
    assert feed.news(feed.news("")["cursor"]) is None


def test_new_lines_are_sent_once_and_a_cut_line_waits_until_it_is_whole(feed, own_run):
    cursor = feed.news("")["cursor"]
    with open(own_run / "metrics.jsonl", "a") as file:
        file.write('{"kind": "step", "epoch": 3, "step": 99, "loss": 1.5}\n{"kind": "step", "epo')
        file.flush()
        news = feed.news(cursor)
        assert [point["step"] for point in news["steps"]] == [99]
        assert news["epochs"] == []
        assert not news["reset"]
        file.write('ch": 3, "step": 100, "loss": 1.4}\n')
        file.flush()
    later = feed.news(news["cursor"])
    assert [point["step"] for point in later["steps"]] == [100]


def test_recorded_epochs_are_sent_once(feed, monkeypatch):
    monkeypatch.setattr(live, "recorded_epochs", lambda folder: [0])
    first = feed.news("")
    assert first["recorded"] == [0]
    monkeypatch.setattr(live, "recorded_epochs", lambda folder: [0, 1, 2])
    second = feed.news(first["cursor"])
    assert (second["recorded"], second["epochs"], second["log"], second["reset"]) == ([1, 2], [], None, False)
    assert feed.news(second["cursor"]) is None


def test_a_recording_that_is_not_the_one_before_begins_anew(feed, monkeypatch):
    cursor = feed.news("")["cursor"]
    monkeypatch.setattr(live, "recorded_epochs", lambda folder: [0, 1])
    news = feed.news(cursor)
    assert news["reset"]
    assert (news["recorded"], len(news["epochs"])) == ([0, 1], 3)


def test_a_page_that_begins_anew_is_told_everything(feed, own_run):
    """Until there is a point, each answer begins anew: it has the log and the epochs that the page knew before."""
    (own_run / "metrics.jsonl").write_bytes(b"")
    first = feed.news("")
    with open(own_run / "metrics.jsonl", "a") as file:
        file.write('{"kind": "epoch", "epoch": 0}\n')
    news = feed.news(first["cursor"])
    assert news["reset"]
    assert (news["recorded"], news["log"]) == (first["recorded"], first["log"])


def test_a_file_that_was_replaced_begins_anew(feed, own_run):
    cursor = feed.news("")["cursor"]
    lines = (own_run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (own_run / "new").write_bytes(b"".join(lines[:1]))
    (own_run / "new").rename(own_run / "metrics.jsonl")
    news = feed.news(cursor)
    assert news["reset"]
    assert len(news["epochs"]) + len(news["steps"]) == 1


def test_a_file_that_is_gone_begins_anew(feed, own_run):
    cursor = feed.news("")["cursor"]
    (own_run / "metrics.jsonl").unlink()
    assert feed.news(cursor)["epochs"] == []


def test_an_answer_in_json_is_the_same_and_is_made_once_between_two_looks(feed, monkeypatch):
    monkeypatch.setattr(live, "SHARED_LOOK_S", 60.0)
    answer = feed.news_json("")
    assert json.loads(answer) == json.loads(json.dumps(feed.news("")))
    monkeypatch.setattr(feed, "_news", lambda cursor: pytest.fail("made again"))
    assert feed.news_json("") is answer


@pytest.mark.parametrize("cursor", ["x", "1|2", "1|2|3|4|5", "||||", "9|-1|-1|0|s", "1e9|0|0|0|s", "a" * 10_000])
def test_a_cursor_that_makes_no_sense_gets_everything(feed, cursor):
    assert len(feed.news(cursor)["epochs"]) == 3


def test_a_run_folder_that_is_gone_is_said_to_be(feed, own_run):
    feed.news("")
    shutil.rmtree(own_run)
    with pytest.raises(FileNotFoundError):
        feed.news("")


def test_a_long_run_comes_in_parts(feed, own_run, monkeypatch):
    monkeypatch.setattr(live, "POINTS_PER_ANSWER", 2)
    seen, cursor = [], ""
    while (news := feed.news(cursor)) is not None:
        seen += news["epochs"]
        cursor = news["cursor"]
    assert [point["epoch"] for point in seen] == [0, 1, 2]


def test_an_epoch_becomes_a_flat_point_in_the_names_of_the_figures(trained):
    point = epoch_point(trained.metrics("epoch")[-1])
    entry = trained.metrics("epoch")[-1]
    assert point["test.top1"] == entry["test"]["top1"]
    assert point["agreement.cam-learned.kl"] == entry["attention"]["test"]["agreement"]["cam-learned"]["kl"]
    json.dumps(point)


@pytest.mark.parametrize(
    "entry", [{}, {"attention": None}, {"attention": 3, "test": []}, {"epoch": "x", "train": None}]
)
def test_strange_epochs_do_not_stop_the_feed(entry):
    epoch_point(entry)


def test_only_numbers_become_points(feed, own_run):
    cursor = feed.news("")["cursor"]
    with open(own_run / "metrics.jsonl", "a") as file:
        file.write(
            '{"kind": "step", "epoch": 3, "step": "x", "loss": [1], "lr": 0.5, "attention": ' + "9" * 400 + "}\n"
        )
        file.write('{"kind": "step", "a": ' + "[" * 5000 + "\n")
        file.write('{"kind": "epoch", "epoch": 3, "test": ' + '{"a": ' * 300 + "1" + "}" * 301 + "\n")
    news = json.loads(feed.news_json(cursor))
    assert news["steps"] == [{"epoch": 3, "lr": 0.5}]
    assert news["epochs"] == [{"epoch": 3, "seconds": None}]


def test_a_line_without_an_end_is_passed_over_in_pieces(feed, own_run, monkeypatch):
    monkeypatch.setattr(live, "BYTES_PER_LOOK", 1000)
    with open(own_run / "metrics.jsonl", "ab") as file:
        file.write(b"x" * 5000 + b'\n{"kind": "epoch", "epoch": 3}\n')
    for _ in range(20):
        news = feed.news("")
    assert [point["epoch"] for point in news["epochs"]][-1] == 3


@pytest.mark.parametrize("name", ["epochs.npy", "meta.json"])
@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01\0v\0{'shape': (9999999999999,)", b"PK\x03\x04", b"[" * 100_000]
)
def test_a_damaged_recording_has_no_epochs(feed, own_run, name, content):
    (own_run / "attention" / name).write_bytes(content)
    assert feed.news("")["recorded"] == []


def test_a_status_comes_as_a_page_can_take_it(feed, own_run):
    (own_run / "status.json").write_text(
        '{"state": "failed", "epoch": "x", "error": {"message": "\\ud800"}, "more": [1]}'
    )
    status = json.loads(feed.news_json(""))["status"]
    assert status["epoch"] is None
    assert status["error"]["message"] == "\ud800"
    assert "more" not in status
