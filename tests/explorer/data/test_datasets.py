from __future__ import annotations

import threading
import time
import zipfile

import pytest

from explorer.data import datasets as datasets_module
from explorer.data import shelf as shelf_module
from explorer.data.additions import Additions
from explorer.data.datasets import Datasets
from explorer.data.shelf import Selection, Shelf
from explorer.places import Places
from tests.conftest import write_photographs
from tests.datasets.miniatures import write_cub200


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def listing(tmp_path, monkeypatch):
    """Makes the list of a server with some data roots; it looks at the folders whenever it is asked."""
    monkeypatch.setattr(datasets_module, "LISTING_LIVES_S", 0)
    monkeypatch.setattr(shelf_module, "LOOK_EVERY_S", 0)
    monkeypatch.setattr(shelf_module, "REFUSAL_LIVES_S", 0)
    shelves = []

    def make(*roots):
        places = Places(tmp_path / "runs", data_roots=roots)
        shelves.append(Shelf(places))
        return Datasets(places, shelves[-1], Additions(places))

    yield make
    for shelf in shelves:
        shelf.close()


def by_label(listing) -> dict[str, dict]:
    return {row["label"]: row for row in listing.rows(wait_s=None)}


def test_an_empty_root_has_the_field_guide_alone_and_says_how_to_get_the_others(listing, root):
    found = listing(root)
    (row,) = found.rows(wait_s=None)
    assert (row["name"], row["state"], row["classes"]) == ("fieldguide", "ready", 10)
    assert row["images"] == {"train": 400, "test": 200, "swapped": 200}
    assert not list(root.glob("fieldguide-*")), "listing must not draw"
    absent = found.absent()
    assert [row["name"] for row in absent] == ["cub200", "cars", "aircraft", "flowers102", "pets"]
    assert absent[0]["command"] == f"python -m sam_core data get cub200 --root {root}"


def test_a_root_with_a_space_in_its_name_can_be_pasted_into_a_shell(listing, tmp_path):
    (tmp_path / "my data").mkdir()
    assert listing(tmp_path / "my data").absent()[0]["command"].endswith(f"--root '{tmp_path}/my data'")


def test_a_named_dataset_is_listed_by_its_name_and_any_other_folder_by_its_path(listing, root, data_folder):
    write_photographs(root / "shapes")
    write_cub200(root / "some birds" / "CUB_200_2011")
    found = by_label(listing(root, data_folder))
    assert found["CUB-200-2011"]["name"] == found["CUB-200-2011"]["key"] == "cub200"
    assert found["CUB-200-2011"]["images"] == {"train": 12, "test": 9}
    assert "CUB" in found["CUB-200-2011"]["layout"]
    assert found["shapes"]["name"] == str(root / "shapes")
    assert found["shapes"]["key"] == "shapes"
    assert "official layout" in found["some birds"]["layout"], "a known layout one folder deeper is recognised"
    assert "CUB_200_2011" not in found, "it is not listed twice"


def test_what_cannot_be_opened_says_why_and_does_not_vanish(listing, root):
    (root / "one class" / "ash").mkdir(parents=True)
    (root / "one class" / "ash" / "1.jpg").write_bytes(b"x")
    (root / "papers").mkdir()
    (root / "papers" / "read me.txt").write_text("no photograph")
    write_cub200(root / "CUB_200_2011")
    (root / "CUB_200_2011" / "images.txt").write_text("1\n")
    found = by_label(listing(root))
    assert found["one class"]["state"] == "refused"
    assert found["one class"]["message"].startswith("one class holds one class (ash) of photographs")
    assert found["one class"]["holds_images"] is True
    assert found["papers"]["holds_images"] is False, "nobody meant this as a dataset"
    assert "images.txt, line 1" in found["CUB-200-2011"]["message"]


def test_one_that_breaks_its_reader_does_not_hide_the_others(listing, root, monkeypatch):
    write_photographs(root / "shapes")
    write_photographs(root / "odd")
    original = shelf_module.open_dataset

    def breaking(name, **choices):
        if name.endswith("odd"):
            raise KeyError("nobody thought of this")
        return original(name, **choices)

    monkeypatch.setattr(shelf_module, "open_dataset", breaking)
    found = by_label(listing(root))
    assert (found["odd"]["state"], found["shapes"]["state"]) == ("refused", "ready")
    assert "KeyError" in found["odd"]["message"]


def test_a_root_that_is_itself_one_dataset_is_the_one_that_is_listed(listing, tmp_path):
    split = write_photographs(tmp_path / "split")
    classes = split / "train"
    official = write_cub200(tmp_path / "CUB_200_2011")
    for root in (split, classes, official):
        rows = listing(root).rows(wait_s=None)
        assert [row["name"] for row in rows] == ["fieldguide", str(root)]
        assert rows[1]["state"] == "ready"


def test_a_link_that_leads_out_of_the_roots_is_not_followed(listing, root, tmp_path):
    outside = write_photographs(tmp_path / "elsewhere" / "shapes")
    (root / "linked").symlink_to(outside)
    row = by_label(listing(root))["linked"]
    assert row["state"] == "refused"
    assert "classes" not in row
    assert row["hint"] == f"add --data-root {outside}"


def test_a_zip_is_listed_and_not_unpacked_before_somebody_opens_it(listing, root):
    photographs = write_photographs(root / "shapes")
    with zipfile.ZipFile(root / "packed.zip", "w") as archive:
        for path in photographs.rglob("*.png"):
            archive.write(path, path.relative_to(root))
    found = listing(root)
    assert by_label(found)["packed.zip"]["state"] == "closed"
    assert not (root / ".unpacked").exists()
    found._shelf.open(Selection(str(root / "packed.zip")))
    assert by_label(found)["packed.zip"]["classes"] == 3
    assert set(by_label(found)) == {"Field guide", "shapes", "packed.zip"}, "what was unpacked is not listed again"


def test_folders_that_come_change_and_go_are_noticed_and_others_are_not_read_again(listing, root, monkeypatch):
    monkeypatch.setattr(shelf_module, "KEPT_IMAGES", 1)  # nothing but the last one stays open
    write_photographs(root / "shapes")
    found = listing(root)
    assert set(by_label(found)) == {"Field guide", "shapes"}
    read = []
    original = shelf_module.open_dataset
    monkeypatch.setattr(
        shelf_module, "open_dataset", lambda name, **choices: read.append(name) or original(name, **choices)
    )
    write_photographs(root / "more")
    assert by_label(found)["more"]["images"] == {"train": 18, "test": 9}
    (root / "more" / "test" / "circle" / "00.png").unlink()
    assert by_label(found)["more"]["images"] == {"train": 18, "test": 8}
    (root / "more").rename(root / ".hidden")
    assert set(by_label(found)) == {"Field guide", "shapes"}
    assert read == [str(root / "more")] * 2


def test_nobody_waits_for_a_large_dataset(listing, root, monkeypatch):
    write_photographs(root / "large")
    go_on = threading.Event()
    original = shelf_module.open_dataset

    def slowly(*arguments, **choices):
        assert go_on.wait(20)
        return original(*arguments, **choices)

    monkeypatch.setattr(shelf_module, "open_dataset", slowly)
    found = listing(root)
    began = time.monotonic()
    states = {row["label"]: row["state"] for row in found.rows(wait_s=0.2)}
    assert time.monotonic() - began < 5
    assert states["large"] == "unread"
    assert ("large", str(root / "large")) in found.choices(wait_s=0), "the form offers it already"
    go_on.set()
    assert by_label(found)["large"]["state"] == "ready"
    assert ("large (3 classes)", str(root / "large")) in found.choices(wait_s=20)


def test_the_form_offers_what_can_be_trained_on(listing, root, data_folder):
    (root / "papers").mkdir()
    write_photographs(root / "shapes")
    found = listing(root, data_folder)
    found.rows(wait_s=None)
    assert found.choices() == [
        ("Field guide (10 classes)", "fieldguide"),
        ("CUB-200-2011 (3 classes)", "cub200"),
        ("shapes (3 classes)", str(root / "shapes")),
    ]
    assert [row["name"] for row in found.usable()] == [value for _, value in found.choices()]


def test_a_folder_named_by_its_path_is_remembered(listing, root):
    deep = write_photographs(root / "papers" / "of" / "somebody")
    found = listing(root)
    found.remember(str(deep))
    assert by_label(found)["somebody"]["key"] == "papers/of/somebody"
