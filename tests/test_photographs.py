"""Real photographs through the command line, as a person would do it. SAM_PHOTOGRAPHS names the folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sam_core
from sam_core.config import PROJECT_ROOT
from sam_core.recording import layout

pytestmark = [pytest.mark.photographs, pytest.mark.timeout(1800)]


@pytest.fixture
def folder() -> Path:
    path = Path(os.environ.get("SAM_PHOTOGRAPHS", ""))
    assert (path / "train").is_dir(), "set SAM_PHOTOGRAPHS to the folder of the 17 flower classes"
    return path


# The floors for 15 epochs on 7 of 64 images per class; chance is 6 %.
@pytest.mark.parametrize(
    ("method", "pseudo", "floor"), [("finetune", "cam", 80), ("sam", "cam", 82), ("sam-bilinear", "gradcam", 78)]
)
def test_seven_flowers_per_class_are_enough(method: str, pseudo: str, floor: float, folder: Path, tmp_path: Path):
    arguments = f"--dataset {folder} --label-ratio 10 --method {method} --pseudo {pseudo} --epochs 15 --json".split()
    command = [sys.executable, "-m", "sam_core", "train", "--runs", str(tmp_path), *arguments]
    process = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout.splitlines()[-1])
    print(f"{method}: test top-1 {summary['test']['top1']:.1f} % in {summary['seconds']:.0f} s")
    assert summary["state"] == "finished"
    assert summary["labelled"] == 119
    assert summary["test"]["top1"] >= floor
    run = sam_core.open_run(summary["run"])
    assert len(run.samples) == 119 + 272
    timeline = run.timeline(run.samples[0]["id"])
    assert list(timeline["epochs"]) == list(range(16))
    assert timeline["cam"].shape == timeline["gradcam"].shape == (16, 7, 7)
    assert (timeline["learned"] is None) == (method == "finetune")
    assert (run.folder / layout.MODEL).is_file()
