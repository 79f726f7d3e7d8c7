"""`datasets`: what is here, and how to get what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sam_core.benchmark.evaluation import count_decodes
from sam_core.cli.main import main
from tests.datasets.miniatures import write_cub200


@pytest.fixture
def listed(capsys: pytest.CaptureFixture, tmp_path: Path):
    def run() -> dict[str, dict]:
        assert main(["datasets", "--data-root", str(tmp_path), "--json"]) == 0
        return {row["name"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])["datasets"]}

    return run


def test_what_is_not_here_comes_with_the_command_that_gets_it(listed, tmp_path: Path, capsys: pytest.CaptureFixture):
    rows = listed()
    assert list(rows) == ["fieldguide", "cub200", "cars", "aircraft", "flowers102", "pets"]
    for name in list(rows)[1:]:
        assert rows[name]["state"] == "not here"
        assert rows[name]["get"] == f"python -m sam_core data get {name} --root {tmp_path}"
    assert main(["datasets", "--data-root", str(tmp_path)]) == 0
    assert f"not here; python -m sam_core data get pets --root {tmp_path}" in capsys.readouterr().out


def test_the_guide_is_counted_without_being_drawn(listed, tmp_path: Path):
    guide = listed()["fieldguide"]
    assert (guide["classes"], guide["images"]) == (10, {"train": 400, "test": 200, "swapped": 200})
    assert guide["state"] == "drawn at its first use"
    assert list(tmp_path.iterdir()) == []


def test_a_named_set_is_found_once_with_its_layout_and_counts(listed, tmp_path: Path):
    root = write_cub200(tmp_path / "CUB_200_2011")
    rows = listed()
    assert len(rows) == 6
    birds = rows["cub200"]
    assert (birds["state"], birds["path"], birds["classes"]) == ("here", str(root), 3)
    assert birds["images"] == {"train": 9, "test": 6}
    assert "official layout" in birds["layout"]


def test_a_named_set_that_cannot_be_used_says_why_and_stops_nothing(
    listed, tmp_path: Path, capsys: pytest.CaptureFixture
):
    root = write_cub200(tmp_path / "CUB_200_2011")
    (root / "image_class_labels.txt").write_text("1 999\n", encoding="utf-8")
    birds = listed()["cub200"]
    assert birds["state"] == "cannot be used"
    assert "image_class_labels.txt" in birds["problem"]
    assert main(["datasets", "--data-root", str(tmp_path)]) == 0
    assert "cannot be used: " in capsys.readouterr().out


def test_folders_of_photographs_are_listed_and_others_are_not(listed, tmp_path: Path, shared_photographs: Path):
    (tmp_path / "mine").symlink_to(shared_photographs)
    for name in (".cache/a", ".cache/b", "fieldguide-12345678/a", "notes/a"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name / "0.png")
    with count_decodes() as count:
        rows = listed()
    assert count.decodes == 0
    assert list(rows)[6:] == ["mine"]
    assert rows["mine"]["images"] == {"train": 18, "test": 9}


def test_a_data_root_that_is_not_there_holds_nothing(capsys: pytest.CaptureFixture, tmp_path: Path):
    assert main(["datasets", "--data-root", str(tmp_path / "none")]) == 0
    assert "not here" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
