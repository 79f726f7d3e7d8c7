"""A run begins, goes on, fails and stops, and its folder says so from the first moment."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sam_core
from sam_core.cli.main import main
from sam_core.config import RunConfig
from sam_core.recording import layout
from sam_core.recording.reader import Run, open_run
from sam_core.recording.writer import RunWriter
from sam_core.training import loop


def queued(config: RunConfig, runs: Path) -> Run:
    """A run that has a folder and has not begun."""
    writer = RunWriter.create(runs, config, epochs=3, state="queued")
    writer.close()
    return open_run(writer.folder)


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_queued_run_begins_as_a_new_one_would(shared_photographs: Path, tmp_path: Path, tiny):
    config = tiny(shared_photographs)
    run = queued(config, tmp_path / "queued")
    assert not (run.folder / layout.ENVIRONMENT).exists()
    assert sam_core.train(resume=run.folder, quiet=True).status["state"] == "finished"
    assert json.loads((run.folder / layout.ENVIRONMENT).read_text())["threads"] == torch.get_num_threads()
    new = sam_core.train(config, runs=tmp_path / "new", quiet=True)
    assert (run.folder / layout.MODEL).read_bytes() == (new.folder / layout.MODEL).read_bytes()
    assert {path.name for path in run.folder.iterdir()} == {path.name for path in new.folder.iterdir()}


def test_a_run_belongs_to_its_process_before_its_data_are_opened(
    shared_photographs: Path, tmp_path: Path, tiny, monkeypatch: pytest.MonkeyPatch
):
    run = queued(tiny(shared_photographs), tmp_path)
    load, seen = loop.load_run_data, []

    def look_and_load(*arguments: Any) -> Any:
        seen.append((run.is_alive, run.status))
        return load(*arguments)

    monkeypatch.setattr(loop, "load_run_data", look_and_load)
    sam_core.train(resume=run.folder, quiet=True)
    ((alive, status),) = seen
    assert alive
    assert (status["state"], status["pid"], status["epochs"], status["steps"]) == ("running", os.getpid(), 3, 0)


def vanished(config: RunConfig, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs.rename(photographs.with_name("elsewhere"))


def no_weights(config: RunConfig, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(config.weights).rename(photographs / "elsewhere.pth")


def no_memory(config: RunConfig, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(**options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "build_model", build)


def damaged(config: RunConfig, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(loop, "load_run_data", load)


@pytest.mark.parametrize(
    ("what", "kind", "message", "hint"),
    [
        (vanished, "DatasetError", "shapes", "folder of photographs"),
        (no_weights, "WeightsError", "weights: there is no file", "put right what it names"),
        (no_memory, "out of memory", "not enough memory", "--batch-size"),
        (damaged, "ZeroDivisionError", "a defect", "log.txt"),
    ],
)
def test_a_failure_before_the_first_step_is_recorded_and_can_be_mended(
    what: Callable[..., None], kind: str, message: str, hint: str, photographs: Path, tmp_path: Path, tiny,
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    weights = tmp_path / "weights.pth"
    torch.save(
        loop.build_model(
            backbone="test_resnet", classes=3, method="sam", pooling="gap", attention_maps=4
        ).backbone.state_dict(),
        weights,
    )
    config = tiny(photographs, weights=str(weights), epochs=1)
    run = queued(config, tmp_path / "runs")
    with monkeypatch.context() as patch:
        what(config, photographs, patch)
        assert main(["train", "--resume", str(run.folder), "--quiet"]) == 1
    assert message in capsys.readouterr().err
    status = run.status
    assert (status["state"], status["error"]["type"]) == ("failed", kind)
    assert message in status["error"]["message"]
    assert hint in status["error"]["hint"]
    assert "Traceback" in (run.folder / layout.LOG).read_text()
    assert not run.is_alive

    elsewhere = photographs.with_name("elsewhere")
    if elsewhere.exists():
        elsewhere.rename(photographs)
    if not weights.exists():
        (photographs / "elsewhere.pth").rename(weights)
    status = sam_core.train(resume=run.folder, quiet=True).status
    assert (status["state"], status["error"]) == ("finished", None)


def test_a_run_stopped_while_its_data_are_loaded_is_stopped(
    shared_photographs: Path, tmp_path: Path, tiny, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    run = queued(tiny(shared_photographs), tmp_path)
    states: list[str] = []

    def load(config: RunConfig, progress: Callable[[str, int, int], None]) -> None:
        ask_to_stop()
        states.append(run.status["state"])
        progress("reading images", 1, 2)
        pytest.fail("it went on")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "load_run_data", load)
        assert main(["train", "--resume", str(run.folder), "--json"]) == 130
        assert "Traceback" not in capsys.readouterr().err
    assert states == ["stopping"]
    assert (run.status["state"], run.status["error"]) == ("stopped", None)
    assert not (run.folder / layout.SAMPLES).exists()
    assert sam_core.train(resume=run.folder, quiet=True).status["state"] == "finished"


@pytest.mark.parametrize(
    ("place", "never"),
    [("load_run_data", "_build_model"), ("build_model", "_finish_epoch"), ("build_groups", "_finish_epoch")],
)
def test_wherever_it_is_before_the_first_step_a_run_gives_way(
    place: str, never: str, shared_photographs: Path, tmp_path: Path, tiny, monkeypatch: pytest.MonkeyPatch
):
    run = queued(tiny(shared_photographs), tmp_path)
    work = getattr(loop, place)

    def work_and_ask(*arguments: Any, **options: Any) -> Any:
        result = work(*arguments, **options)
        ask_to_stop()
        return result

    monkeypatch.setattr(loop, place, work_and_ask)
    monkeypatch.setattr(loop.Trainer, never, lambda *arguments, **options: pytest.fail("it went on"))
    assert sam_core.train(resume=run.folder, quiet=True).status["step"] == 0
    assert run.status["state"] == "stopped"


@pytest.mark.parametrize("status", ["", "[]", '{"state": "running", "epoch": "many"}'])
def test_a_run_goes_on_whatever_its_status_says(status: str, shared_photographs: Path, tmp_path: Path, tiny):
    run = queued(tiny(shared_photographs, epochs=1), tmp_path)
    (run.folder / layout.STATUS).write_text(status)
    assert sam_core.train(resume=run.folder, quiet=True).status["state"] == "finished"
