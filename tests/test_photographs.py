"""Real photographs through the command line, as a person would do it. SAM_PHOTOGRAPHS names the folder they lie in:
`flowers17/` (17 classes in train/ and test/) and `cub25/CUB_200_2011/` (25 classes of CUB-200-2011, official layout).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sam_core
from sam_core.config import PROJECT_ROOT
from sam_core.evaluation.localisation import uniform_part_hits
from sam_core.recording import layout
from sam_core.recording.reader import Run

pytestmark = [pytest.mark.photographs, pytest.mark.timeout(1800)]

METHODS = [("finetune", "cam"), ("sam", "cam"), ("sam-bilinear", "gradcam")]
FLOWERS_FLOOR = {"finetune": 80, "sam": 82, "sam-bilinear": 78}  # after 15 epochs; chance is 6 %
BIRDS_FLOOR = {"finetune": 24, "sam": 24, "sam-bilinear": 16}  # after 6 epochs; chance is 4 %


def command(*arguments: object) -> dict[str, Any]:
    """What a verb of the command line answers with --json."""
    words = [sys.executable, "-m", "sam_core", *map(str, arguments), "--json"]
    process = subprocess.run(words, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def trained(folder: Path, method: str, pseudo: str, epochs: int, tmp_path: Path) -> tuple[dict[str, Any], Run]:
    summary = command(
        "train", "--dataset", folder, "--label-ratio", 10, "--method", method, "--pseudo", pseudo,
        "--epochs", epochs, "--runs", tmp_path, "--data-root", tmp_path / "data",
    )  # fmt: skip
    print(f"{method}: test top-1 {summary['test']['top1']:.1f} % in {summary['seconds']:.0f} s")
    assert summary["state"] == "finished"
    run = sam_core.open_run(summary["run"])
    timeline = run.timeline(run.samples[0]["id"])
    assert list(timeline["epochs"]) == list(range(epochs + 1))
    assert timeline["cam"].shape == timeline["gradcam"].shape == (epochs + 1, 7, 7)
    assert (timeline["learned"] is None) == (method == "finetune")
    assert (run.folder / layout.MODEL).is_file()
    return summary, run


@pytest.mark.parametrize(("method", "pseudo"), METHODS)
def test_seven_flowers_per_class_are_enough(method: str, pseudo: str, real_photographs: Path, tmp_path: Path):
    summary, run = trained(real_photographs / "flowers17", method, pseudo, 15, tmp_path)
    assert summary["labelled"] == 119
    assert len(run.samples) == 119 + 272
    assert summary["test"]["top1"] >= FLOWERS_FLOOR[method]


def test_the_birds_are_recognised_counted_and_checked(real_photographs: Path, tmp_path: Path):
    answer = command("data", real_photographs / "cub25", "--label-ratio", 10, "--data-root", tmp_path)
    assert "CUB-200-2011" in answer["layout"]
    assert [answer[name] for name in ("classes", "train", "test", "labelled")] == [25, 750, 652, 75]
    assert answer["problems"] == {}


@pytest.mark.parametrize(("method", "pseudo"), METHODS)
def test_three_birds_per_class_with_boxes_and_parts(method: str, pseudo: str, real_photographs: Path, tmp_path: Path):
    summary, run = trained(real_photographs / "cub25", method, pseudo, 6, tmp_path)
    assert summary["labelled"] == 75
    assert len(run.samples) == 75 + 652
    assert summary["test"]["top1"] >= BIRDS_FLOOR[method]
    for entry in run.metrics("epoch"):
        for group in ("labelled", "test"):
            located = entry["attention"][group]["localisation"]
            assert located.keys() == {"cam", "gradcam", "energy", "uniform"} | (
                {"learned"} if method != "finetune" else set()
            )
            for kind, measures in located.items():
                assert 0 <= measures["inside"] <= 1
                assert 0 <= measures["parts"] <= 1, kind
            assert located["uniform"]["parts"] == pytest.approx(uniform_part_hits((7, 7)), abs=1e-4)
    for sample in run.samples:
        assert len(sample["box"]) == 4
        assert sample["parts"]
    last = run.metrics("epoch")[-1]["attention"]["test"]["localisation"]
    assert last["cam"]["inside"] > last["uniform"]["inside"] + 0.1
    assert last["cam"]["parts"] > last["uniform"]["parts"] + 0.05
