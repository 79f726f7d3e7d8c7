"""Every wrong input ends with one sentence that names what to change, no traceback, and no half-made run folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from sam_core.cli.main import main
from sam_core.config import ConfigError
from sam_core.models import backbones


def attempt(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, str]:
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse's own way out
        code = int(stop.code)
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--label-ratio", "0"], 2, ["label_ratio", "above 0"]),
        (["--label-ratio", "250"], 2, ["label_ratio", "at most 100"]),
        (["--label-ratio", "many"], 2, ["--label-ratio", "many"]),
        (["--method", "samm"], 2, ["method", "did you mean sam"]),
        (["--backbone", "resnet5000"], 2, ["backbone", "resnet50"]),
        (["--backbone", "vit_tiny_patch16_224", "--weights", "none"], 2, ["backbone"]),
        (["--weights", "nowhere.pth"], 2, ["weights", "nowhere.pth"]),
        (["--num-classes", "40"], 1, ["num_classes", "3"]),
        (["--num-classes", "1"], 2, ["num_classes", "at least 2"]),
        (["--epochs", "0"], 2, ["epochs", "at least 1"]),
        (["--epochs", "2", "--iterations", "5"], 2, ["epochs", "not both"]),
        (["--method", "finetune", "--pooling", "bilinear"], 2, ["pooling"]),
        (["--image-size", "7"], 2, ["image_size"]),
        (["--device", "cuda"], 2, ["device", "cpu"]),
        (["--config", "missing.json"], 2, ["config", "missing.json"]),
        (["--resume", "20200101-000000-nothing"], 1, ["run", "20200101"]),
        (["--dataset", "nosuchfolder"], 1, ["dataset", "nosuchfolder"]),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value, list) and value[0][:2] == "--" else "",
)
def test_a_wrong_option_is_refused(
    arguments: list[str], code: int, words: list[str], shared_photographs: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    runs = tmp_path / "runs"
    given = [] if "--dataset" in arguments else ["--dataset", shared_photographs]
    own_weights = [] if "--weights" in arguments or "--resume" in arguments else ["--weights", "none"]
    if "--resume" in arguments:
        given = []
    ended, said = attempt(capsys, "train", "--runs", runs, *given, *own_weights, *arguments)
    assert ended == code, said
    assert "Traceback" not in said
    for word in words:
        assert word in said
    assert not runs.exists()


def make_dataset(kind: str, photographs: Path) -> Path:
    circle = photographs / "train" / "circle"
    if kind == "no classes":
        for part in ("train", "test"):
            shutil.rmtree(photographs / part)
    elif kind == "one class":
        for name in ("square", "stripes"):
            shutil.rmtree(photographs / "train" / name)
    else:
        for path in circle.iterdir():
            if kind == "empty files":
                path.write_bytes(b"")
            elif kind == "text files":
                path.write_text("no photograph")
            elif kind == "cut files":
                path.write_bytes(path.read_bytes()[:60])
            elif kind == "enormous images":
                Image.new("1", (60_000, 1)).save(path)
    return photographs


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("no classes", "no class"),
        ("one class", "one class"),
        ("empty files", "0 bytes"),
        ("text files", "not a JPEG"),
        ("cut files", "damaged"),
        ("enormous images", "60,000 x 1 pixels"),
    ],
)
def test_a_dataset_that_cannot_be_used_is_refused(
    kind: str, word: str, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    runs = tmp_path / "runs"
    dataset = make_dataset(kind, photographs)
    code, said = attempt(capsys, "train", "--dataset", dataset, "--weights", "none", "--runs", runs, "--quiet")
    assert (code, "Traceback" in said) == (1, False)
    assert word in said
    assert "hint: " in said
    assert not runs.exists()


def test_missing_weights_name_the_three_ways(
    shared_photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def offline(name: str) -> None:
        raise OSError("no network")

    monkeypatch.setattr(backbones, "download", offline)
    code, said = attempt(
        capsys,
        "train",
        "--dataset",
        shared_photographs,
        "--backbone",
        "resnet18",
        "--runs",
        tmp_path / "runs",
        "--quiet",
    )
    assert code == 2
    for way in ("checkpoints/pretrained", "package", "network", "--weights none"):
        assert way in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("content", "word"), [(b"", "0 bytes"), (b"text", "not a JPEG"), (None, "does not exist")])
def test_attend_refuses_what_is_no_photograph_before_it_writes(
    content: bytes | None, word: str, trained, tmp_path: Path, capsys: pytest.CaptureFixture
):
    image = tmp_path / "a.jpg"
    if content is not None:
        image.write_bytes(content)
    code, said = attempt(capsys, "attend", trained.folder, image, "--out", tmp_path / "out")
    assert (code, "Traceback" in said) == (1, False)
    assert word in said
    assert "a.jpg" in said
    assert not (tmp_path / "out").exists()


def test_an_unforeseen_error_has_no_traceback_unless_asked(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("sam_core.cli.train.config_from", broken)
    code, said = attempt(capsys, "train")
    assert (code, "Traceback" in said) == (1, False)
    assert "ZeroDivisionError: a defect" in said
    assert "Traceback" in attempt(capsys, "train", "--debug")[1]


def test_resuming_takes_no_other_options(trained, capsys: pytest.CaptureFixture):
    code, said = attempt(capsys, "train", "--resume", trained.folder, "--epochs", "9")
    assert code == 2
    assert "--epochs" in said


@pytest.mark.parametrize("name", ["config.json", "classes.json", "model.safetensors"])
def test_a_damaged_run_is_named(name: str, trained, tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = tmp_path / "damaged"
    shutil.copytree(trained.folder, folder)
    (folder / name).write_bytes(b"{broken")
    code, said = attempt(capsys, "evaluate", folder)
    assert (code, "Traceback" in said) == (1, False)
    assert name in said


def test_config_errors_carry_their_field():
    assert ConfigError("epochs", "must be").field == "epochs"
