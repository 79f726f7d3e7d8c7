"""Several processes train the run that one would: its numbers, its folder, its ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sam_core
from sam_core.cli.main import main
from sam_core.config import PROJECT_ROOT, RunConfig
from sam_core.process import follows, is_restarted_after_errors, started_together
from sam_core.recording import layout
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunWriter
from sam_core.team import Team
from sam_core.training.distributed import begun_by, this_launch
from tests.conftest import write_photographs
from tests.training.together import CASES, LONGER, STEPS_BEFORE, config_of

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
#: How far two processes may be from one: losses and measures, and weights beside how far training has moved them.
LOSSES, WEIGHTS = 1e-3, 1e-2


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 images to train with, and 7 to test on, which two processes cannot divide."""
    root = write_photographs(tmp_path_factory.mktemp("data") / "seven")
    for kind in ("circle", "square"):
        (root / "test" / kind / "02.png").unlink()
    return root


@pytest.fixture(scope="module")
def together(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes did together."""
    results = tmp_path_factory.mktemp("together")
    script = Path(__file__).with_name("together.py")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run(
        [*TORCHRUN, str(script), str(photographs), str(results)],
        cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    (results / "stderr.txt").write_text(done.stderr)
    return results


def seen(together: Path, name: str) -> list[dict[str, Any]]:
    """What each process saw of a case."""
    return [json.loads((together / f"{rank}.json").read_text())[name] for rank in (0, 1)]


def only_run(folder: Path) -> Run:
    (path,) = folder.iterdir()
    return sam_core.open_run(path)


def numbers(value: Any, path: str = "") -> dict[str, float]:
    """Every number of nested objects, by its path."""
    if isinstance(value, dict):
        return {name: number for key, item in value.items() for name, number in numbers(item, f"{path}/{key}").items()}
    return {path: value} if isinstance(value, int | float) else {}


def assert_same_curves(run: Run, reference: Run) -> None:
    entries, expected = run.metrics(), reference.metrics()
    assert len(entries) == len(expected)
    for entry, wanted in zip(entries, expected, strict=True):
        found, wanted = (numbers({**line, "seconds": None}) for line in (entry, wanted))
        assert found.keys() == wanted.keys()
        for name, number in wanted.items():
            assert found[name] == pytest.approx(number, rel=LOSSES, abs=LOSSES), (name, entry.get("step"))


def assert_same_weights(run: Run, reference: Run) -> None:
    """The parameters, all together, have gone to the same place, and so have the statistics of the batch-norms."""
    initial = load_file(reference.folder / layout.KEPT / "epoch-00000.safetensors")
    found, wanted = load_file(run.folder / layout.MODEL), load_file(reference.folder / layout.MODEL)
    assert list(found) == list(wanted)
    moved, apart = [], []
    for name, weight in wanted.items():
        if "running" in name:
            torch.testing.assert_close(found[name], weight, rtol=WEIGHTS, atol=1e-4)
        elif weight.is_floating_point():
            moved.append((weight - initial[name]).flatten())
            apart.append((weight - found[name]).flatten())
        else:
            assert torch.equal(found[name], weight), name
    assert torch.cat(apart).norm() <= WEIGHTS * torch.cat(moved).norm()


@pytest.fixture(scope="module")
def alone(photographs: Path, tmp_path_factory: pytest.TempPathFactory):
    """Trains a case by this process alone, once; its initial weights lie beside the trained ones."""
    runs = tmp_path_factory.mktemp("alone")
    trained: dict[str, Run] = {}

    def train(name: str, changes: dict[str, Any]) -> Run:
        if name not in trained:
            trained[name] = sam_core.train(config_of(photographs, changes), runs=runs / name, quiet=True)
        return trained[name]

    return train


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_the_run_that_one_would(name: str, together: Path, alone):
    reference, run = alone(name, CASES[name]), only_run(together / name)
    assert {case["folder"] for case in seen(together, name)} == {str(run.folder)}
    assert_same_curves(run, reference)
    assert_same_weights(run, reference)
    assert run.config == reference.config


@pytest.mark.parametrize("name", CASES)
def test_every_image_is_recorded_once_and_as_by_one_process(name: str, together: Path, alone):
    reference, run = alone(name, CASES[name]), only_run(together / name)
    assert run.samples == reference.samples
    assert len(run.samples) == CASES[name].get("record", (6 if CASES[name].get("batch_size") == 1 else 15) + 7)
    assert list(run.recorded_epochs) == list(reference.recorded_epochs)
    for sample in run.samples:
        found, wanted = run.timeline(sample["id"]), reference.timeline(sample["id"])
        np.testing.assert_array_equal(found["predicted"], wanted["predicted"])
        np.testing.assert_allclose(found["confidence"], wanted["confidence"], rtol=1e-3)
        for kind in run.attention_meta["kinds"]:
            np.testing.assert_allclose(found[kind], wanted[kind], rtol=1e-2, atol=2e-3 * wanted[kind].max())


def test_the_accuracies_are_counts_of_every_image_once(together: Path):
    for entry in only_run(together / "sam").metrics("epoch"):
        for group, images in (("train", 15), ("test", 7), ("validation", 3)):
            counted = entry[group]["top1"] * images / 100
            assert counted == pytest.approx(round(counted), abs=1e-5), group


def test_one_process_alone_writes_and_says_who_was_there(together: Path, alone):
    run = only_run(together / "sam")
    assert {path.name for path in run.folder.iterdir()} == {
        path.name for path in alone("sam", CASES["sam"]).folder.iterdir()
    }
    environment = json.loads((run.folder / layout.ENVIRONMENT).read_text())
    assert (environment["processes"], environment["backend"]) == (2, "gloo")
    assert len(environment["launches"]) == 1
    alone_there = json.loads((alone("sam", CASES["sam"]).folder / layout.ENVIRONMENT).read_text())
    assert (alone_there["processes"], alone_there["backend"]) == (1, None)
    assert "launches" not in alone_there
    assert (run.folder / layout.LOG).read_text().count("epoch   1 of 2") == 1


def test_what_one_process_is_asked_stops_all_at_the_same_step_and_the_run_goes_on(together: Path, alone):
    stopped = only_run(together / "alone")  # as it was left, to be gone on with by this process
    assert (stopped.status["state"], stopped.status["error"]) == ("stopped", None)
    assert stopped.status["step"] == STEPS_BEFORE + 1
    assert [case["steps"] for case in seen(together, "stopped")] == [list(range(STEPS_BEFORE + 1))] * 2
    assert stopped.status["epoch"] == STEPS_BEFORE // 2
    reference = alone("longer", LONGER)
    resumed = only_run(together / "stopped")
    assert resumed.status["state"] == "finished"
    assert (resumed.folder / layout.LOG).read_text().count("going on after epoch 2") == 1  # finished, it is left alone
    uninterrupted = only_run(together / "longer")
    assert (resumed.folder / layout.MODEL).read_bytes() == (uninterrupted.folder / layout.MODEL).read_bytes()
    for run in (resumed, sam_core.train(resume=stopped.folder, quiet=True)):
        assert run.status["state"] == "finished"
        assert_same_curves(run, reference)
        assert_same_weights(run, reference)


def test_a_stop_that_one_process_hears_of_while_it_loads_its_data_stops_all(together: Path):
    assert [case["state"] for case in seen(together, "stopped while loading")] == ["stopped"] * 2


@pytest.mark.parametrize("place", ["first", "second"])
def test_what_one_process_refuses_is_refused_by_all_before_anything_is_written(place: str, together: Path):
    for case in seen(together, f"refused by the {place}"):
        assert case["message"] == "the second machine has no photographs"
    assert not (together / f"refused by the {place}").exists()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("failed in the second", "out of memory", "not enough memory"),
        ("failed in the first", "disk full", "disk is full"),
        ("infinite", "non-finite loss", "infinite or undefined"),
        ("deaf", "out of memory", "not enough memory"),
    ],
)
def test_what_ends_one_process_ends_all_with_its_sentence(name: str, kind: str, message: str, together: Path):
    run = only_run(together / name)
    assert (run.status["state"], run.status["error"]["type"]) == ("failed", kind)
    assert run.status["error"]["hint"]
    assert not run.is_alive
    first = {} if name == "deaf" else seen(together, name)[0]  # that one was ended by its other thread
    second = json.loads((together / "1.json").read_text())[name]
    assert message in second["message"]
    assert second["said_elsewhere"]
    assert not first.get("said_elsewhere")
    assert first.get("message", second["message"]) == second["message"]
    assert ("Traceback" in (run.folder / layout.LOG).read_text()) == (name != "deaf")


def test_the_first_process_says_what_the_second_one_failed_of(together: Path):
    assert "run_out_of_memory" in (only_run(together / "failed in the second").folder / layout.LOG).read_text()
    assert "error: the device has not enough memory" in (together / "stderr.txt").read_text()


def test_a_failed_run_goes_on(together: Path, alone):
    run = sam_core.train(resume=only_run(together / "failed in the second").folder, quiet=True)
    assert_same_curves(run, alone("longer", LONGER))


# --- the command line -----------------------------------------------------------------------------------------------


def lines_of(runs: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in runs.glob(f"2*/{layout.METRICS}"))


def wait_for(condition: Any, process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def flags_of(config: RunConfig, tmp_path: Path) -> list[str]:
    layout.write_json(tmp_path / "config.json", config.to_json())
    return ["--config", str(tmp_path / "config.json")]


def test_processes_started_anew_go_on_with_the_run_that_they_had_begun(photographs: Path, tmp_path: Path, alone):
    changes = LONGER | {"epochs": 12} | dict.fromkeys(("lr", "head_lr", "attention_lr"), 2e-5)
    runs = tmp_path / "runs"
    command = [*TORCHRUN[:-1], "--max-restarts=1", TORCHRUN[-1], "-m", "sam_core", "train", "--json", "--quiet"]
    process = subprocess.Popen(
        [*command, *flags_of(config_of(photographs, changes), tmp_path), "--runs", str(runs)],
        cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: lines_of(runs) > 10, process)
    run = only_run(runs)
    first = run.status["pid"]
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (second,) = [int(pid) for pid in workers if int(pid) != first]
    os.kill(second, signal.SIGKILL)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads(output)["run"] == str(run.folder)  # and nothing else was printed
    assert only_run(runs).status["state"] == "finished"
    assert only_run(runs).status["pid"] != first
    assert (run.folder / layout.LOG).read_text().count("going on after epoch") == 1
    assert_same_curves(run, alone("twelve epochs", changes))
    assert_same_weights(run, alone("twelve epochs", changes))


def started_by_hand(arguments: list[str]) -> list[subprocess.CompletedProcess]:
    """Two processes with the environment that torchrun would give them, and this one in the place of its agent."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "sam_core", *arguments],
            cwd=PROJECT_ROOT, env={**os.environ, **place, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in processes]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *words)
        for process, words in zip(processes, said, strict=True)
    ]


def test_a_refusal_is_said_once_and_ends_both(tmp_path: Path):
    first, second = started_by_hand(["train", "--dataset", str(tmp_path / "nowhere"), "--runs", str(tmp_path / "runs")])
    assert (first.returncode, second.returncode) == (1, 1)
    assert first.stderr.count("error: ") == 1
    assert "nowhere" in first.stderr
    assert second.stderr == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("arguments", [["train", "--lr", "fast"], ["train", "--lr", "-1"], ["datasets"]])
def test_what_all_can_see_is_said_by_the_first(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.setenv(name, "2")

    def ends_with() -> int | str | None:
        try:
            return main(arguments)
        except SystemExit as ended:
            return ended.code

    monkeypatch.setenv("RANK", "1")
    assert ends_with() == 2
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "0")
    assert ends_with() == 2
    assert "error: " in capsys.readouterr().err


# --- a process's place ----------------------------------------------------------------------------------------------


def test_a_process_knows_whether_it_was_started_with_others():
    place = dict.fromkeys(("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"), "0")
    assert started_together(place | {"WORLD_SIZE": "2"})
    assert not follows(place | {"WORLD_SIZE": "2"})
    assert follows(place | {"WORLD_SIZE": "2", "RANK": "1"})
    assert not started_together(place | {"WORLD_SIZE": "1"})
    assert not started_together({"WORLD_SIZE": "2", "RANK": "1"})  # some queueing systems set these for all they start


def test_a_run_that_was_stopped_is_no_error_where_torchrun_would_start_it_again():
    assert not is_restarted_after_errors({})
    assert is_restarted_after_errors({"TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_RESTART_COUNT": "2"})
    assert not is_restarted_after_errors({"TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_RESTART_COUNT": "3"})


@pytest.mark.parametrize(("items", "size"), [(7, 2), (2, 8), (0, 3), (48, 16), (13, 1)])
def test_shares_are_even_and_leave_nothing_out(items: int, size: int):
    shares = [Team(rank=rank, size=size).part(range(items)) for rank in range(size)]
    assert [place for share in shares for place in share] == list(range(items))
    assert [len(share) for share in shares] == Team(size=size).parts(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_alone_talks_to_nobody():
    team = Team.join()
    values = torch.ones(3)
    assert team.size == 1
    assert team.is_first
    assert team.any(True)
    assert not team.any(False)
    assert team.exchange({"a": 1}) == [{"a": 1}]
    assert team.sum(values) is values
    assert team.gather(values)[0] is values
    assert team.from_first(lambda: values) is values
    with team, team.first_of_machine_first("data"):
        team.meet("here")
    assert not torch.distributed.is_initialized()


def test_a_launch_is_known_by_its_agent_not_by_its_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert this_launch(0) is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    launch = this_launch(0)
    assert launch == this_launch(0) != this_launch(1)
    monkeypatch.setattr("os.getppid", lambda: os.getpid())
    assert this_launch(0) != launch


def test_the_run_of_a_launch_is_found_and_no_other(tmp_path: Path, photographs: Path):
    config, other = config_of(photographs, {}), config_of(photographs, {"seed": 1})
    assert begun_by(["here 1"], tmp_path / "nowhere", config) is None
    folders = {}
    for name, wanted, launches in (("mine", config, ["there 7", "here 1"]), ("other", other, ["here 2"])):
        writer = RunWriter.create(tmp_path, wanted, epochs=2, environment={"launches": launches})
        folders[name] = writer.folder
        writer.close()
    (tmp_path / "9-not-a-run").mkdir()
    (tmp_path / "9-not-a-run" / layout.ENVIRONMENT).write_text("{")
    assert begun_by(["here 1"], tmp_path, config) == str(folders["mine"])
    assert begun_by(["here 1", "there 7"], tmp_path, config) == str(folders["mine"])
    assert begun_by(["here 2"], tmp_path, config) is None  # the same launch, and another run
    assert begun_by([], tmp_path, config) is None
