from __future__ import annotations

import io
import time
import zipfile

import pytest
from PIL import Image

from explorer.data import shelf as shelf_module
from explorer.places import Places
from explorer.routes import data as data_routes
from sam_core.datasets.base import DatasetError
from tests.conftest import write_photographs
from tests.explorer.routes.conftest import OURS


@pytest.fixture
def places(tmp_path, data_folder) -> Places:
    """A server with a root of its own, where what is added goes, and one with the miniature birds."""
    (tmp_path / "data").mkdir()
    write_photographs(tmp_path / "data" / "shapes")
    return Places(tmp_path / "runs", demo=tmp_path / "demo", data_roots=(tmp_path / "data", data_folder))


@pytest.fixture
def ask(client):
    """Asks one of the routes and gives its JSON: `ask("labels", set="shapes")`."""
    return lambda path, **query: client.get(f"/explorer/data/{path}", params=query).json()


def post(client, route: str, content: bytes = b"", **query):
    return client.post(f"/explorer/data/{route}", params=query, content=content, headers=OURS)


# --- Looking ---------------------------------------------------------------------------------------------------------


def test_the_list_settles_once_everything_is_read(ask):
    deadline = time.monotonic() + 20
    while (listed := ask("sets"))["reading"]:
        assert time.monotonic() < deadline
    assert [row["key"] for row in listed["sets"]] == ["fieldguide", "cub200", "shapes"]
    assert [row["name"] for row in listed["absent"]] == ["cars", "aircraft", "flowers102", "pets"]
    assert len(listed["roots"]) == 2


def test_what_is_in_a_dataset_and_which_images_are_labelled(ask):
    columns = ask("contents", set="cub200")
    labels = ask("labels", set="cub200", ratio=25)
    assert labels["version"] == columns["version"]
    assert labels["source"] == "seeded rule"
    assert [columns["label"][row] for row in labels["rows"]] == [0, 1, 2], "one of four in each class"
    assert {columns["splits"][columns["split"][row]] for row in labels["rows"]} == {"train"}
    nested = ask("labels", set="cub200", ratio=50)["rows"]
    assert set(labels["rows"]) < set(nested)
    assert len(ask("labels", set="cub200", ratio=50, classes=2)["rows"]) == 4
    assert ask("labels", set="cub200", ratio=25, seed=5)["rows"] != labels["rows"]


def test_a_dataset_that_takes_long_is_answered_with_how_far_it_is(client, monkeypatch):
    monkeypatch.setattr(data_routes, "PATIENCE_S", 0.1)
    original = shelf_module.open_dataset

    def slowly(*arguments, progress, **choices):
        progress(5, 10)
        time.sleep(0.5)
        return original(*arguments, progress=progress, **choices)

    monkeypatch.setattr(shelf_module, "open_dataset", slowly)
    first = client.get("/explorer/data/contents", params={"set": "shapes"})
    assert first.status_code == 202
    assert first.json() == {"words": "Reading the list of images", "done": 5, "total": 10}
    deadline = time.monotonic() + 20
    while (answer := client.get("/explorer/data/contents", params={"set": "shapes"})).status_code == 202:
        assert time.monotonic() < deadline
    assert len(answer.json()["ids"]) == 27


def test_pictures_are_sent_once_and_then_known_by_their_tag(client, ask):
    image = ask("contents", set="cub200")["ids"][0]
    for path, kind in (("thumb", "jpeg"), ("large", "jpeg"), ("mask", "png")):
        first = client.get(f"/explorer/data/{path}", params={"set": "cub200", "image": image})
        assert first.headers["content-type"] == f"image/{kind}"
        assert Image.open(io.BytesIO(first.content)).format == kind.upper()
        again = client.get(
            f"/explorer/data/{path}", params={"set": "cub200", "image": image},
            headers={"If-None-Match": first.headers["etag"]},
        )  # fmt: skip
        assert (again.status_code, again.content) == (304, b"")
        assert "max-age" in first.headers["cache-control"]


def test_what_is_marked_on_an_image_is_what_its_dataset_says(ask, explorer):
    columns = ask("contents", set="cub200")
    sample = explorer.shelf.any_of("cub200").dataset.samples[2]
    about = ask("image", set="cub200", image=columns["ids"][2])
    assert about["box"] == pytest.approx(sample.box)
    assert [name for name, *_ in about["parts"]] == [part.name for part in sample.parts]
    assert about["mask"] is True
    assert about["width"] in (50, 64, 80)


def test_an_image_that_is_damaged_or_not_there_gets_a_sentence(client, ask):
    ids = ask("contents", set="cub200")["ids"]
    for image, words in ((ids[9], "not a JPEG"), ("nothing.jpg", "no such image"), ("../../etc/passwd", "no such")):
        for path in ("thumb", "large", "mask"):
            answer = client.get(f"/explorer/data/{path}", params={"set": "cub200", "image": image})
            if path == "mask" and image == ids[9]:
                continue  # its mask is whole
            assert answer.status_code == 404
            assert words in answer.json()["message"]


@pytest.mark.parametrize("path", ["contents", "labels", "thumb", "large", "mask", "image", "check"])
@pytest.mark.parametrize("name", ["/etc", "..", "../..", "nothing", "a\0b", "shapes/../../..", "~", "x" * 5000])
def test_nothing_outside_the_roots_is_reached(client, path, name):
    answer = client.get(f"/explorer/data/{path}", params={"set": name, "image": "passwd"})
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("dataset:")


@pytest.mark.parametrize(
    ("choices", "field"),
    [
        ({"ratio": "0"}, "label_ratio"),
        ({"ratio": "250"}, "label_ratio"),
        ({"ratio": "many"}, "label_ratio"),
        ({"classes": "1"}, "num_classes"),
        ({"classes": "9"}, "num_classes"),
        ({"seed": "-1"}, "split_seed"),
        ({"seed": "1.5"}, "split_seed"),
        ({"level": "species"}, "class_level"),
    ],
    ids=str,
)
def test_choices_that_cannot_be_name_their_field(client, choices, field):
    answer = client.get("/explorer/data/labels", params={"set": "shapes", **choices})
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(f"{field}:")


def test_a_known_dataset_that_is_not_here_is_refused_with_what_fetches_it(client, places):
    answer = client.get("/explorer/data/contents", params={"set": "pets"}).json()
    assert "Oxford-IIIT Pet" in answer["message"]
    assert f"data get pets --root {places.data_roots[0]}" in answer["hint"]


# --- Checking --------------------------------------------------------------------------------------------------------


def test_a_check_is_begun_and_its_result_found_again(client, ask):
    assert ask("check", set="cub200") == {"state": "none"}
    assert post(client, "check", set="cub200").json()["state"] in ("running", "done")
    deadline = time.monotonic() + 20
    while (found := ask("check", set="cub200"))["state"] == "running":
        assert time.monotonic() < deadline
    assert found["state"] == "done"
    assert {problem["row"] for problem in found["problems"]} >= {1, 9}


# --- Adding and deleting ---------------------------------------------------------------------------------------------


@pytest.fixture
def packed(photographs) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in photographs.rglob("*.png"):
            archive.write(path, path.relative_to(photographs))
    return buffer.getvalue()


def test_a_zip_is_added_shown_trained_on_and_deleted(client, ask, explorer, places, packed):
    added = post(client, "add", packed, name="My leaves.zip").json()
    assert added == {"key": "My-leaves", "label": "My-leaves"}
    (row,) = [row for row in explorer.datasets.rows(wait_s=None) if row["key"] == "My-leaves"]
    assert (row["added"], row["classes"]) == (True, 3)
    assert len(ask("contents", set="My-leaves")["ids"]) == 27
    assert ("My-leaves (3 classes)", row["name"]) in explorer.datasets.choices()
    assert post(client, "delete", set="My-leaves").json() == {"deleted": "My-leaves"}
    assert "My-leaves" not in [row["key"] for row in explorer.datasets.rows(wait_s=None)]
    assert client.get("/explorer/data/contents", params={"set": "My-leaves"}).status_code == 400
    assert [path.name for path in places.data_roots[0].iterdir()] == ["shapes"]


def test_a_known_dataset_that_was_added_as_a_zip_is_known_by_its_name(client, explorer, places, data_folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in (data_folder / "CUB_200_2011").rglob("*.*"):
            archive.write(path, path.relative_to(data_folder))
    post(client, "add", buffer.getvalue(), name="CUB_200_2011.zip")
    rows = {row["key"]: row for row in explorer.datasets.rows(wait_s=None)}
    assert rows["cub200"]["place"] == str(places.data_roots[0] / "CUB_200_2011")
    assert post(client, "delete", set="cub200").status_code == 200
    assert (data_folder / "CUB_200_2011").is_dir(), "the other one stays"


def test_what_is_no_zip_of_photographs_is_refused_and_leaves_nothing(client, places):
    answer = post(client, "add", b"no zip at all", name="leaves.zip")
    assert answer.status_code == 400
    assert "leaves.zip is no zip archive" in answer.json()["message"]
    assert [path.name for path in places.data_roots[0].iterdir()] == ["shapes"]


def test_an_upload_beyond_the_limit_is_cut_off(client, places, monkeypatch):
    monkeypatch.setattr(data_routes, "MAX_ARCHIVE_BYTES", 1000)
    said = post(client, "add", b"x" * 2000, name="leaves.zip")
    unsaid = client.post("/explorer/data/add", content=iter([b"x" * 600] * 4), headers=OURS)
    for answer in (said, unsaid):
        assert answer.status_code == 400
        assert "larger than the limit" in answer.json()["message"]
    assert [path.name for path in places.data_roots[0].iterdir()] == ["shapes"]


def test_a_folder_is_found_by_its_path_and_listed_from_then_on(client, explorer, places):
    deep = write_photographs(places.data_roots[0] / "papers" / "somebody")
    for path in (str(deep), "papers/somebody", " papers/somebody/ "):
        assert post(client, "find", path=path).json() == {"key": "papers/somebody", "label": "somebody"}
    assert "papers/somebody" in [row["key"] for row in explorer.datasets.rows(wait_s=None)]


@pytest.mark.parametrize("path", ["/etc", "../..", "nothing", "", "a\0b"])
def test_a_path_outside_the_roots_is_refused(client, path):
    answer = post(client, "find", path=path)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("dataset:")


@pytest.mark.parametrize("name", ["shapes", "fieldguide", "cub200"])
def test_what_was_not_added_from_the_page_is_not_deleted(client, places, data_folder, name):
    answer = post(client, "delete", set=name)
    assert answer.status_code == 400
    assert "not added from this page" in answer.json()["message"]
    assert (places.data_roots[0] / "shapes").is_dir()
    assert (data_folder / "CUB_200_2011").is_dir()


@pytest.mark.parametrize("path", ["add", "find?path=shapes", "delete?set=shapes", "check?set=shapes"])
def test_a_page_of_another_site_can_change_nothing(client, path):
    answer = client.post(f"/explorer/data/{path}", content=b"x", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 400
    assert "own page" in answer.json()["message"]


def test_a_run_on_a_known_dataset_that_is_not_here_is_refused_before_anything_is_written(explorer, tiny):
    with pytest.raises(DatasetError, match="Stanford Cars") as refused:
        explorer.start(tiny("cars"))
    assert "data get cars" in refused.value.hint
    assert explorer.library.summaries() == []
