"""The explorer's benchmark measures what it says: each measurement in a small form, and a page made worse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.benchmark import slider, suite
from explorer.benchmark.command import main
from explorer.benchmark.made_up import Photographs, write_recorded_run, write_runs
from explorer.benchmark.many_runs import measure_many_runs
from explorer.benchmark.ready import measure_ready
from explorer.benchmark.rows import BUDGETS
from explorer.benchmark.server import ServerError, processor_seconds, running_server
from explorer.benchmark.slider import NoBrowserError, find_chromium, measure_slider
from explorer.benchmark.viewers import measure_viewers
from explorer.cli import main as explorer_main
from explorer.context import Explorer
from explorer.places import Places
from sam_core.benchmark import history
from sam_core.benchmark.rows import BUDGETS as ENGINE_BUDGETS
from sam_core.benchmark.rows import Figure
from sam_core.benchmark.rows import row as engine_row
from sam_core.benchmark.suite import Measurement
from sam_core.config import PROJECT_ROOT
from sam_core.device import Machine
from sam_core.recording.reader import open_run

CPU = Machine(torch.device("cpu"), bfloat16=False)


# --- rows and budgets -------------------------------------------------------------------------------------------------


def test_rows_and_budgets_are_those_of_the_design():
    limits = {name: budget.limit for name, budget in BUDGETS.items()}
    assert limits == {
        "explorer_ready_s": 15,
        "slider_requests": 0,
        "slider_work_ms": 20,
        "runs_1000_s": 1,
        "viewers_step_ratio": 1.05,
    }
    assert not any(budget.at_least for budget in BUDGETS.values())
    assert not BUDGETS.keys() & ENGINE_BUDGETS.keys()


def test_every_row_is_measured_by_exactly_one_measurement():
    assert [name for measurement in suite.MEASUREMENTS for name in measurement.rows] == list(BUDGETS)


# --- made-up runs -----------------------------------------------------------------------------------------------------


def test_made_up_runs_are_listed_as_real_ones_are(tmp_path: Path):
    photographs = Photographs(tmp_path / "photographs")
    write_runs(tmp_path / "runs", 20)
    newest = write_recorded_run(tmp_path / "runs", photographs, epochs=3, images=8)
    explorer = Explorer(Places(tmp_path / "runs", demo=tmp_path / "demo", data_roots=(photographs.folder,)))
    runs = explorer.library.summaries()
    explorer.close()
    assert Counter(run["state"] for run in runs) == {"finished": 17, "failed": 2, "stopped": 2}
    assert runs[0]["id"] == newest.name, "the run with maps must be the newest"
    assert all(run["accuracy"] is not None for run in runs)
    assert sum(bool(run["notes"]) for run in runs) == 5


def test_the_made_up_recording_has_every_map_of_every_image(tmp_path: Path):
    photographs = Photographs(tmp_path / "photographs")
    run = open_run(write_recorded_run(tmp_path / "runs", photographs, epochs=3, images=8))
    timeline = run.timeline(run.samples[-1]["id"])
    assert timeline["epochs"].tolist() == [0, 1, 2, 3]
    assert all(timeline[kind].shape == (4, 7, 7) for kind in ("cam", "gradcam", "learned", "energy"))
    assert Path(run.samples[-1]["path"]).is_file()
    assert Path(run.samples[-1]["mask"]).is_file()


# --- the measurements, small ------------------------------------------------------------------------------------------


def test_the_start_is_timed_after_one_that_is_not_counted():
    figure = measure_ready(starts=1)
    assert 0.5 < figure.value < 150
    assert figure.details["starts"] == 1
    assert figure.details["before_them_s"] > 0.5


def test_a_server_that_does_not_start_says_why(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match="did not start: error: runs"), running_server(tmp_path / "file" / "runs"):
        pass


def test_the_slider_reaches_every_epoch_and_asks_for_nothing():
    figures = measure_slider(rounds=1, epochs=8)
    assert figures["slider_requests"].value == 0
    assert 0 < figures["slider_work_ms"].value < 500
    assert figures["slider_work_ms"].details["moves"] == 16


def test_a_page_that_asks_and_dawdles_at_every_move_is_found_out(monkeypatch: pytest.MonkeyPatch):
    worse = """const ends = performance.now() + 60; while (performance.now() < ends);
    fetch('explorer/setup'); seek(point);"""
    assert slider.WATCH.count("seek(point);") == 1
    monkeypatch.setattr(slider, "WATCH", slider.WATCH.replace("seek(point);", worse))
    figures = measure_slider(rounds=1, epochs=4)
    assert figures["slider_requests"].value == 8
    assert figures["slider_requests"].details["requests"][0] == "/explorer/setup"
    assert figures["slider_work_ms"].value > 60


def test_the_first_view_of_many_runs_is_timed_request_by_request():
    figure = measure_many_runs(servers=1, runs=12)
    parts = [figure.details[f"{name}_ms"] for name in ("list", "samples", "timeline", "view")]
    assert all(part > 0 for part in parts)
    assert 1000 * figure.value == pytest.approx(sum(parts), abs=1)


def test_steps_are_timed_with_viewers_and_without():
    small: dict[str, Any] = {"backbone": "test_resnet", "image_size": 64, "batch_size": 4, "attention_maps": 4}
    figure = measure_viewers(CPU, pairs=2, viewers=3, steps_per_turn=3, images=40, choices=small)
    assert 0.05 < figure.value < 20  # tiny steps, on a machine that may be busy
    assert figure.details["pairs"] == 2
    assert figure.details["viewers_polls"] >= 6
    assert figure.details["viewers_timelines"] >= 3
    assert figure.details["viewers_failed"] == 0


def test_viewers_ask_again_and_again_but_fetch_what_was_recorded_once(serving, own_run: Path, places: Places):
    with serving(places) as address:
        command = [sys.executable, "-m", "explorer.benchmark.audience", address, own_run.name, "4"]
        process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process.stdin.write("watch\n")
        process.stdin.flush()
        time.sleep(4)
        said, _ = process.communicate("rest\n", timeout=20)
    done = json.loads(said)
    assert done["polls"] > done["news"] >= 4
    assert done["timelines"] == 4
    assert done["failed"] == 0


def test_the_processor_time_of_a_process_grows_as_it_works():
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        if processor_seconds(process.pid) is None:
            pytest.skip("this system does not tell the processor time of a process")
        time.sleep(2)
        assert processor_seconds(process.pid) > 0.1
    finally:
        process.kill()
        process.wait()
    assert processor_seconds(process.pid) is None


# --- without a browser ------------------------------------------------------------------------------------------------


def test_a_missing_browser_costs_its_own_rows_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setenv("SAM_CHROMIUM", str(tmp_path / "no-browser"))
    only = ["--only", "slider_requests", "slider_work_ms", "--history", str(tmp_path / "none.jsonl")]
    assert main(["--json", *only]) == 1
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [(row["name"], row["value"], row["holds"]) for row in rows] == [
        ("slider_requests", None, False),
        ("slider_work_ms", None, False),
    ]
    assert all("SAM_CHROMIUM" in row["error"] for row in rows)


def test_without_any_browser_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("SAM_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoBrowserError, match="install"):
        find_chromium()


def test_a_browser_of_ones_own_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    own = tmp_path / "browser"
    shutil.copy(sys.executable, own)
    monkeypatch.setenv("SAM_CHROMIUM", str(own))
    assert find_chromium() == str(own)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements that take no time: one within its budget, one beyond, one that breaks."""

    def broken(*_: object) -> dict[str, Figure]:
        raise OSError("no space left on device")

    stand_in = (
        Measurement(("explorer_ready_s",), "within", lambda *_: {"explorer_ready_s": Figure(8.0, 0.1)}),
        Measurement(("viewers_step_ratio",), "beyond", lambda *_: {"viewers_step_ratio": Figure(1.2, 0.01)}),
        Measurement(("runs_1000_s",), "broken", broken),
    )
    monkeypatch.setattr(suite, "MEASUREMENTS", stand_in)


@pytest.mark.usefixtures("stand_ins")
def test_the_last_line_is_one_object_with_machine_and_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    only = ["--only", "explorer_ready_s", "viewers_step_ratio", "--history", str(tmp_path / "none.jsonl")]
    assert explorer_main(["benchmark", "--json", *only]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out.splitlines()[-1])
    assert {"cpu", "cores", "memory_gb", "packages", "threads", "load_before"} <= set(result["machine"])
    assert "gradio" in result["machine"]["packages"]
    shown = [{name: row[name] for name in ("name", "value", "budget", "holds")} for row in result["rows"]]
    assert shown == [
        {"name": "explorer_ready_s", "value": 8.0, "budget": 15, "holds": True},
        {"name": "viewers_step_ratio", "value": 1.2, "budget": 1.05, "holds": False},
    ]
    assert "DOES NOT HOLD" in captured.err


@pytest.mark.usefixtures("stand_ins")
def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["--history", str(tmp_path / "none.jsonl")]) == 1, "a row could not be measured"
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.split()[0] for line in lines] == ["explorer_ready_s", "viewers_step_ratio", "runs_1000_s"]
    assert "<= 15" in lines[0]
    assert lines[0].endswith("holds")
    assert "not measured" in lines[2]
    assert "no space left" in captured.err


@pytest.mark.usefixtures("stand_ins")
def test_a_broken_budget_fails_only_when_strict(tmp_path: Path):
    common = ["--only", "viewers_step_ratio", "--history", str(tmp_path / "none.jsonl")]
    assert main(common) == 0
    assert main([*common, "--strict"]) == 1


@pytest.mark.usefixtures("stand_ins")
def test_both_commands_keep_one_history_and_compare_row_by_row(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = tmp_path / "history.jsonl"
    common = ["--only", "explorer_ready_s", "--history", str(path)]
    assert main([*common, "--save"]) == 0
    entry = history.load(path)[0]
    entry["rows"][0]["value"] = 5.0
    path.write_text(json.dumps(entry) + "\n", encoding="utf-8")
    history.save(entry["machine"], [engine_row("timeline_ms", Figure(5.0, 0.1), gpu=False)], path)
    capsys.readouterr()
    assert main(common) == 0
    captured = capsys.readouterr()
    assert "explorer_ready_s was 5, is 8" in captured.err
    assert "timeline_ms" not in captured.err


def test_a_benchmark_that_is_asked_to_end_leaves_no_process_behind(tmp_path: Path):
    command = [sys.executable, "-m", "explorer", "benchmark", "--only", "explorer_ready_s"]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=os.environ | {"TMPDIR": str(tmp_path)})
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("sam-benchmark-*/said.txt")):
            assert time.monotonic() < deadline, "it did not start a server"
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
    assert not list(tmp_path.glob("sam-benchmark-*")), "its folders are removed when its processes have ended"


@pytest.mark.parametrize("arguments", [["--only", "timeline_ms"], ["--save", "--quick"]])
def test_wrong_usage_is_refused_before_anything_is_measured(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    nothing = Measurement(tuple(BUDGETS), "nothing", lambda *_: pytest.fail("it began to measure"))
    monkeypatch.setattr(suite, "MEASUREMENTS", (nothing,))
    assert main(arguments) == 2
    assert "error: " in capsys.readouterr().err


def test_the_help_lists_every_row_and_does_not_wait_for_torch():
    code = (
        "import sys, contextlib\nfrom explorer.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['benchmark', '--help'])\n"
        "print('torch' in sys.modules, 'gradio' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert all(name in said.stdout for name in BUDGETS)
    assert said.stdout.splitlines()[-1] == "False False"
