"""The dataset is gone, or another one, when a run goes on: it says so, and with the images back ends as it should."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sam_core.config import RunConfig
from sam_core.recording.reader import Run
from tests.faults.damage import files_of
from tests.faults.workers import Workers, run_folders

LABELLED, TEST = "train/circle", "test/square"


@pytest.fixture
def own(workers: Workers, config: RunConfig, few_photographs: Path, tmp_path: Path) -> RunConfig:
    """The run on images of its own."""
    shutil.copytree(few_photographs, tmp_path / "shapes")
    return RunConfig.from_json(config.to_json() | {"dataset": str(tmp_path / "shapes")})


@pytest.fixture
def cut_own(workers: Workers, own: RunConfig, tmp_path: Path) -> Path:
    """That run, killed in its second epoch."""
    assert workers.begin(own, tmp_path / "runs", ("die_in_step", {"number": 4})).wait().was_killed
    (folder,) = run_folders(tmp_path / "runs")
    return folder


def unreadable(root: Path) -> Path:
    path = sorted((root / TEST).iterdir())[0]
    path.write_bytes(b"\x89PNG but damaged")
    return path


def unreadable_labelled(root: Path) -> Path:
    for path in sorted((root / LABELLED).iterdir())[1:]:
        path.write_bytes(path.read_bytes()[:50])
    return path


def one_more(root: Path) -> Path:
    path = root / TEST / "00-another.png"
    shutil.copy(sorted((root / TEST).iterdir())[0], path)
    return path


def one_less(root: Path) -> Path:
    path = sorted((root / TEST).iterdir())[0]
    path.unlink()
    return path


def gone(root: Path) -> Path:
    root.rename(root.with_name("elsewhere"))
    return root


def no_folder(root: Path) -> Path:
    shutil.rmtree(root)
    root.write_text("not a folder")
    return root


CHANGES = (unreadable, unreadable_labelled, one_more, one_less, gone, no_folder)


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_whose_images_are_others_is_refused_and_changes_nothing(
    change: Callable[[Path], Path], workers: Workers, own: RunConfig, cut_own: Path, few_photographs: Path,
    whole: Path, tmp_path: Path, tried: Counter[str],
):  # fmt: skip
    photographs = tmp_path / "shapes"
    before = {path: path.read_bytes() for path in files_of(cut_own) if path.name not in ("status.json", "log.txt")}
    changed = change(photographs)
    ending = workers.resume(cut_own).wait()
    assert ending.state is None
    if change in (unreadable, one_less):
        assert changed.name in ending.sentence
    assert Run(cut_own).status["state"] == "failed"
    for path, content in before.items():
        assert path.read_bytes() == content, path.name
    tried["datasets changed under a run"] += 1

    shutil.rmtree(photographs, ignore_errors=True)
    photographs.unlink() if photographs.is_file() else None
    shutil.copytree(few_photographs, photographs)
    workers.finish(cut_own)
    assert (cut_own / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_run_that_is_going_on_needs_its_images_no_more(workers: Workers, own: RunConfig, tmp_path: Path):
    longer = RunConfig.from_json(own.to_json() | {"epochs": 12})
    worker = workers.begin(longer, tmp_path / "runs")
    end = time.monotonic() + 30
    while not any((folder / "last.pt").exists() for folder in run_folders(tmp_path / "runs")):
        assert time.monotonic() < end
        time.sleep(0.01)
    shutil.rmtree(tmp_path / "shapes")
    assert worker.wait().state == "finished"
