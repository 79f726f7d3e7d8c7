"""`data`: what is in a dataset, for people and for programs, whatever state it is in."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from sam_core.benchmark.evaluation import count_decodes
from sam_core.cli.main import main
from tests.datasets.miniature_lists import write_released
from tests.datasets.miniatures import write_aircraft, write_cars_devkit, write_cars_in_one, write_cub200


@pytest.fixture
def data(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Looks into a dataset with the cache switched on, and returns the object that --json prints."""
    monkeypatch.delenv("SAM_CACHE_GB")

    def look(*arguments: object, code: int = 0) -> dict:
        assert main(["data", *map(str, arguments), "--data-root", str(tmp_path / "root"), "--json"]) == code
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return look


@pytest.fixture
def said(capsys: pytest.CaptureFixture, tmp_path: Path):
    """Looks into a dataset, and returns what a person reads."""

    def look(*arguments: object) -> str:
        assert main(["data", *map(str, arguments), "--data-root", str(tmp_path / "root")]) == 0
        return capsys.readouterr().out

    return look


def spoil(photographs: Path) -> None:
    """One problem of every kind."""
    circle, square = photographs / "train" / "circle", photographs / "train" / "square"
    (circle / "00.png").write_bytes(b"")
    (circle / "01.png").write_bytes((circle / "01.png").read_bytes()[:-40])
    shutil.copy(circle / "02.png", circle / "twice.png")
    shutil.copy(circle / "03.png", square / "both.png")
    shutil.copy(square / "04.png", photographs / "test" / "square" / "leak.png")


def test_problems_of_every_kind_are_grouped_and_the_exit_stays_0(photographs: Path, data, said):
    spoil(photographs)
    found = data(photographs)
    assert {kind: [problem["path"] for problem in group] for kind, group in found["problems"].items()} == {
        "unreadable image": ["train/circle/00.png"],
        "truncated image": ["train/circle/01.png"],
        "duplicate image": ["train/circle/twice.png"],
        "same picture in two classes": ["train/square/both.png"],
        "misfiled: in train and in test": ["test/square/leak.png"],
    }
    assert (found["train"], found["test"], found["classes"]) == (20, 10, 3)
    text = said(photographs)
    assert "misfiled: in train and in test: 1\n  test/square/leak.png: the same file as train/square/04.png\n" in text
    assert "no problems found" not in text


def test_a_second_look_decodes_nothing(photographs: Path, data):
    first = data(photographs)
    with count_decodes() as count:
        assert data(photographs) == first
    assert count.decodes == 0


def test_of_many_problems_of_a_kind_some_are_printed_and_all_are_in_json(photographs: Path, data, said):
    for number in range(25):
        (photographs / "train" / "circle" / f"broken{number}.png").write_text("no photograph")
    assert len(data(photographs)["problems"]["unreadable image"]) == 25
    text = said(photographs)
    assert "unreadable image: 25\n" in text
    assert text.count("broken") == 20
    assert "and 5 more (--json lists all)" in text


def test_the_labelled_subset_says_what_chose_it(photographs: Path, tmp_path: Path, data, said):
    found = data(photographs, "--label-ratio", 50)
    assert (found["labelled"], found["labelled_by"], found["label_ratio"]) == (9, "seeded rule", 50)
    assert "9 labelled at 50 %, by the seeded rule" in said(photographs, "--label-ratio", 50)
    lists = photographs / "image_list"
    lists.mkdir()
    names = {split: sorted(photographs.glob(f"{split}/*/*.png")) for split in ("train", "test")}
    labels = {"circle": 0, "square": 1, "stripes": 2}
    for name, paths in (("train_100", names["train"]), ("train_50", names["train"][::6]), ("test", names["test"])):
        lines = [f"{path.relative_to(photographs).as_posix()} {labels[path.parent.name]}\n" for path in paths]
        (lists / f"{name}.txt").write_text("".join(lines))
    found = data(photographs, "--label-ratio", 50, "--list")
    assert (found["labelled"], found["labelled_by"]) == (3, "released list")
    assert found["labelled_images"] == [path.relative_to(photographs).as_posix() for path in names["train"][::6]]


def test_listing_alone_opens_no_image(photographs: Path, data, said, opened_images: list[Path]):
    spoil(photographs)
    found = data(photographs, "--no-check")
    assert (found["train"], found["checked"], found["problems"]) == (20, False, {})
    assert opened_images == []
    assert "the images themselves were not checked" in said(photographs, "--no-check")


@pytest.fixture
def opened_images(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    from sam_core.datasets import reading

    names: list[Path] = []
    original = reading.open_file
    monkeypatch.setattr(reading, "open_file", lambda path: names.append(path) or original(path))
    return names


def test_a_zip_is_looked_into_like_a_folder(photographs: Path, tmp_path: Path, data):
    spoil(photographs)
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        for path in sorted(path for path in photographs.rglob("*") if path.is_file()):
            archive.write(path, path.relative_to(photographs.parent))
    of_zip, of_folder = data(tmp_path / "shapes.zip"), data(photographs)
    for name in ("classes", "train", "test", "labelled", "per_class", "problems"):
        assert of_zip[name] == of_folder[name]


def test_what_counts_as_a_class_can_be_chosen(tmp_path: Path, data):
    root = write_aircraft(tmp_path / "fgvc-aircraft-2013b")
    assert data(root, "--class-level", "variant")["classes"] == 4
    assert data(root, "--class-level", "manufacturer")["classes"] == 2


def test_an_official_layout_without_problems_has_none(tmp_path: Path, data):
    found = data(write_cub200(tmp_path / "CUB_200_2011"))
    assert (found["classes"], found["train"], found["test"], found["problems"]) == (3, 9, 6, {})


def test_a_class_that_cannot_be_learned_is_a_problem_beside_the_others(tmp_path: Path, data, said):
    root = write_cub200(tmp_path / "CUB_200_2011", empty_class=1, kinds={0: "truncated"})
    found = data(root)
    assert found["labelled"] == 0
    (problem,) = found["problems"]["no labelled subset"]
    assert "002.Laysan_Albatross" in problem["detail"]
    assert len(found["problems"]["truncated image"]) == 1
    assert "labelled at" not in said(root)


def without_pictures(root: Path, label: int) -> Path:
    """CUB-200-2011 whose lists are whole, while one class's photographs were not unpacked."""
    write_cub200(root, train=3, test=2, missing=range(5 * label, 5 * label + 3))
    return root


@pytest.mark.parametrize(
    ("write", "file", "reason"),
    [
        (lambda root: write_cub200(root, empty_class=2), "train_test_split.txt", "names none"),
        (lambda root: without_pictures(root, 2), "train_test_split.txt", "names 3, and none of the files is there"),
        (lambda root: write_cars_devkit(root, empty_class=2), "cars_train_annos.mat", "names none"),
        (lambda root: write_cars_in_one(root, empty_class=2), "cars_annos.mat", "names none"),
        (lambda root: write_aircraft(root, empty_class=2), "images_variant_trainval.txt", "names none"),
        (lambda root: write_released(root, empty_class=2), "image_list/train_100.txt", None),
    ],
    ids=["CUB", "CUB without its pictures", "Cars", "Cars in one", "Aircraft", "released lists"],
)
def test_what_to_do_about_a_class_without_images_fits_the_layout(tmp_path: Path, data, write, file, reason):
    found = data(write(tmp_path / "set"))["problems"]
    (problem,) = found["no labelled subset"]
    assert f"see that {file} names one, and that its file is there" in problem["detail"]
    assert "folder" not in problem["detail"]
    if reason:
        (problem,) = found["class without training images"]
        assert problem["detail"] == f"{file} {reason}"
    assert data(tmp_path / "set", "--num-classes", 2)["labelled"] == 2, "the other way out that the hint names"


def test_an_unknown_level_is_wrong_usage(photographs: Path, capsys: pytest.CaptureFixture):
    assert main(["data", str(photographs), "--class-level", "varient"]) == 2
    assert "class_level" in capsys.readouterr().err
