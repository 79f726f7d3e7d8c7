"""The table of what is published where."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sam_core.datasets.catalog import DATASETS, named_folder
from sam_core.datasets.sources import SOURCES, amount

FILES = [(name, file) for name, source in SOURCES.items() for file in source.files]


def test_every_named_dataset_that_is_not_drawn_has_a_source():
    assert set(SOURCES) == set(DATASETS) - {"fieldguide"}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_says_what_a_person_must_know(name: str):
    source = SOURCES[name]
    assert source.homepage.startswith("https://")
    assert source.terms
    assert source.holds
    assert source.folder == DATASETS[name].folders[0]
    assert all(file.target.startswith(source.folder) for file in source.files)
    assert any(not file.adds for file in source.files)
    assert all(file.urls for file in source.files) != bool(source.gone)


@pytest.mark.parametrize(("name", "file"), FILES, ids=[file.name for _, file in FILES])
def test_a_file_is_described_in_full(name: str, file):
    assert {key: len(value) for key, value in file.checksums.items()} == {"md5": 32, "sha256": 64}
    assert all(set(value) <= set("0123456789abcdef") for value in file.checksums.values())
    assert file.size > 100
    for url in file.urls:
        assert urlsplit(url).scheme == "https"
        assert file.name in urlsplit(url).path.split("/")
    assert file.place.name == file.name
    assert str(file.place) == file.target or file.is_archive


def test_no_file_is_described_twice():
    for what in (lambda file: file.checksums["md5"], lambda file: file.checksums["sha256"], lambda file: file.place):
        assert len({str(what(file)) for _, file in FILES}) == len(FILES)


def test_the_facts_are_those_of_torchvision():
    from torchvision.datasets import FGVCAircraft, Flowers102, OxfordIIITPet

    (aircraft,) = SOURCES["aircraft"].files
    assert aircraft.urls == (FGVCAircraft._URL,)
    flowers = {file.name: file.checksums["md5"] for file in SOURCES["flowers102"].files}
    assert flowers == dict(Flowers102._file_dict.values())
    assert all(file.urls == (Flowers102._download_url_prefix + file.name,) for file in SOURCES["flowers102"].files)
    pets = tuple((file.urls[0], file.checksums["md5"]) for file in SOURCES["pets"].files)
    assert pets == OxfordIIITPet._RESOURCES


@pytest.mark.parametrize("name", ["cars", "flowers102", "pets"])
def test_half_a_dataset_is_not_taken_for_a_whole_one(name: str, tmp_path: Path):
    holds = {
        "devkit": ("cars_meta.mat", "cars_train_annos.mat", "cars_test_annos.mat"),
        "annotations": ("list.txt", "trainval.txt", "test.txt"),
    }
    for file in SOURCES[name].files:
        assert named_folder(name, tmp_path) is None
        target = tmp_path / file.target
        for path in [target / part for part in holds.get(target.name, ("1.jpg",))] if file.is_archive else [target]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert named_folder(name, tmp_path) == (tmp_path / SOURCES[name].folder).resolve()


def test_what_to_place_where_by_hand_names_files_and_folders(tmp_path: Path):
    cars = SOURCES["cars"]
    words = cars.by_hand(cars.files, tmp_path)
    for word in ("cars_train.tgz", "cars_test.tgz", "car_devkit.tgz", "cars_test_annos_withlabels.mat"):
        assert word in words
    assert f"into {tmp_path / 'stanford_cars'} and run the same command again" in words
    assert "devkit/cars_meta.mat" in words
    birds = SOURCES["cub200"]
    assert (
        f"put CUB_200_2011.tgz into {tmp_path} and segmentations.tgz into {tmp_path / 'CUB_200_2011'}"
        in birds.by_hand(birds.files, tmp_path)
    )


def test_amounts_are_rounded_for_people():
    assert [amount(size) for size in (0, 502, 14_989, 39_272_883, 1_150_585_339)] == [
        "0 bytes", "502 bytes", "15 kB", "39.3 MB", "1.15 GB",
    ]  # fmt: skip
