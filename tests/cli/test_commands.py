"""The verbs, as a person or a program calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sam_core
from sam_core.cli.main import VERBS, build_parser, main
from sam_core.config import PROJECT_ROOT, options


def call(capsys: pytest.CaptureFixture, *arguments: object) -> dict:
    """Run a verb with --json and return the object on the last line of standard output."""
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_train_json_has_what_the_contract_says(
    shared_photographs: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
):
    summary = call(
        capsys, "train", "--dataset", shared_photographs, *tiny_flags, "--epochs", 1, "--runs", tmp_path, "--quiet"
    )
    assert {"run", "state", "epochs", "labelled", "test", "seconds"} <= set(summary)
    assert (summary["state"], summary["epochs"], summary["labelled"]) == ("finished", 1, 9)
    assert set(summary["test"]) >= {"top1", "top5"}
    assert Path(summary["run"]).is_absolute()
    assert sam_core.open_run(summary["run"]).status["state"] == "finished"
    again = call(capsys, "train", "--resume", Path(summary["run"]).name, "--runs", tmp_path, "--quiet")
    assert again == summary


def test_data_json_has_what_the_contract_says(photographs: Path, capsys: pytest.CaptureFixture):
    (photographs / "test" / "circle" / "00.png").write_bytes(b"")
    found = call(capsys, "data", photographs, "--label-ratio", 50)
    assert {"layout", "classes", "train", "test", "labelled", "problems"} <= set(found)
    assert (found["classes"], found["train"], found["test"], found["labelled"]) == (3, 18, 9, 9)
    assert found["problems"]["unreadable image"][0]["path"] == "test/circle/00.png"


def test_data_speaks_to_people_too(photographs: Path, capsys: pytest.CaptureFixture):
    assert main(["data", str(photographs), "--list"]) == 0
    said = capsys.readouterr().out
    assert "3 classes, 18 training and 9 test images" in said
    assert "no problems found" in said
    assert "train/circle/" in said


def test_evaluate_repeats_the_accuracy_of_the_last_epoch(trained, capsys: pytest.CaptureFixture):
    found = call(capsys, "evaluate", trained.folder, "--attention", "--images", 3)
    last = trained.metrics("epoch")[-1]
    assert found["test"] == pytest.approx(last["test"], abs=1e-4)
    assert found["train"]["top1"] == pytest.approx(last["train"]["top1"], abs=1e-4)
    assert np.array(found["confusion"]).sum() == 9
    assert set(found["per_class"]) == {"circle", "square", "stripes"}
    faithfulness = found["attention"]["test"]["faithfulness"]
    assert set(faithfulness) == {"images", "cam", "gradcam", "learned", "energy", "random"}
    assert json.loads((trained.folder / "evaluation.json").read_text())["test"] == found["test"]


def test_ten_crops_are_another_measurement(trained, capsys: pytest.CaptureFixture):
    assert call(capsys, "evaluate", trained.folder, "--test-crops", 10)["test_crops"] == 10


def test_attend_draws_every_map_for_any_class(trained, tmp_path: Path, capsys: pytest.CaptureFixture):
    photograph = tmp_path / "one.jpg"
    Image.effect_noise((90, 60), 80).convert("RGB").save(photograph)
    again = tmp_path / "other" / "one.jpg"
    again.parent.mkdir()
    again.write_bytes(photograph.read_bytes())
    maps = "cam,gradcam,learned,energy,eigencam,scorecam,fullgrad"
    found = call(
        capsys, "attend", trained.folder, photograph, again, "--out", tmp_path / "out",
        "--maps", maps, "--class", "square", "--npz",
    )  # fmt: skip
    first, second = found["images"]
    assert first["shown_class"] == "square"
    assert len(first["top"]) == 3
    assert Path(first["sheet"]) != Path(second["sheet"])
    assert Image.open(first["sheet"]).width > 300
    with np.load(Path(first["sheet"]).with_suffix(".npz")) as arrays:
        assert set(arrays) == set(maps.split(","))
        assert arrays["cam"].shape == (2, 2)


def test_attend_suggests_the_class_that_was_meant(trained, tmp_path: Path, capsys: pytest.CaptureFixture):
    image = tmp_path / "a.png"
    Image.new("RGB", (9, 9)).save(image)
    assert main(["attend", str(trained.folder), str(image), "--out", str(tmp_path), "--class", "sqare"]) == 2
    assert "did you mean 'square'?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [module.__name__.rsplit(".", 1)[-1] for module in VERBS])
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_every_option_of_a_run_is_a_flag():
    text = build_parser()._subparsers._group_actions[0].choices["train"].format_help()
    for name in options():
        assert f"--{name.replace('_', '-')}" in text


def test_the_command_line_runs_as_a_module_and_prints_only_json_on_standard_output(
    shared_photographs: Path, tiny_flags: list[str], tmp_path: Path
):
    command = [sys.executable, "-m", "sam_core", "train", "--dataset", str(shared_photographs), *tiny_flags]
    process = subprocess.run(
        [*command, "--epochs", "1", "--runs", str(tmp_path), "--json"],
        cwd=PROJECT_ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(process.stdout.splitlines()) == 1
    assert "finished" in process.stderr
