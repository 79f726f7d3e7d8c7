"""The README's table from the released commands to ours: each of ours runs, on miniatures in the released layout."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import sam_core
from sam_core.cli.main import main
from sam_core.config import PROJECT_ROOT
from tests.datasets.miniature_lists import write_released

README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"\| `(?:CUDA_VISIBLE_DEVICES=\d )?python -m sam_core (train --preset paper [^`]*)` \|", README)
#: A miniature has a few classes, of which a category subset takes two, and a step takes milliseconds.
CLASSES, FIRST = 4, 2
SMALL = (
    "--iterations 3 --eval-every 3 --backbone test_resnet --weights none --image-size 64 --batch-size 4 "
    "--attention-maps 4 --pooling-start 1 --device cpu --json"
)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three folders as the released code wants them, side by side."""
    root = tmp_path_factory.mktemp("released")
    for style in ("StanfordCars", "CUB200", "Aircraft"):
        write_released(root / style, style, classes=CLASSES, train=7, test=2, firsts=(FIRST,))
    return root


def test_the_table_has_the_six_commands_and_a_category_subset_of_every_set():
    wanted = {
        f"train --preset paper --dataset ./{name} --label-ratio 10 --pseudo {pseudo}"
        for name in ("StanfordCars", "CUB200", "Aircraft")
        for pseudo in ("gradcam", "cam")
    }
    assert wanted <= set(COMMANDS)
    subsets = [command for command in COMMANDS if "--num-classes" in command]
    assert {re.search(r"\./(\w+)", command).group(1) for command in subsets} == {"StanfordCars", "CUB200", "Aircraft"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_table_trains_on_exactly_the_released_list(
    command: str, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    subset = "--num-classes" in command
    command = re.sub(r"--num-classes \d+", f"--num-classes {FIRST}", command)
    monkeypatch.chdir(released)  # the table's paths are relative
    places = ["--runs", str(tmp_path / "runs"), "--data-root", str(tmp_path / "data")]
    assert main([*command.split(), *SMALL.split(), *places]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["state"] == "finished"

    run = sam_core.open_run(summary["run"])
    folder, ratio = Path(run.config.dataset), round(run.config.label_ratio)
    name = f"train_{ratio}{CLASSES:03}{FIRST}.txt" if subset else f"train_{ratio}.txt"
    listed = [line.rsplit(" ", 1)[0] for line in (folder / "image_list" / name).read_text().splitlines()]
    assert sorted(sample["id"] for sample in run.samples if sample["labelled"]) == sorted(listed)
    assert len(run.classes) == (FIRST if subset else CLASSES)
    assert sum(sample["split"] == "test" for sample in run.samples) == 2 * len(run.classes)
    assert "labelled images by the released list\n" in (run.folder / "log.txt").read_text(encoding="utf-8")
    assert run.config.pseudo in command.split()
    assert (run.config.test_crops, run.config.target_scale) == (10, "raw")
