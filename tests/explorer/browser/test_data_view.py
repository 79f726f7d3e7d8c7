from __future__ import annotations

import contextlib
import io
import os
import re
import threading
import zipfile
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from PIL import Image

from explorer.data import shelf as shelf_module
from explorer.places import Places
from tests.conftest import write_photographs

BIRDS = "?tab=data&set=cub200"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The data root that the server writes to: a folder of photographs, and two that are none."""
    root = tmp_path_factory.mktemp("data")
    write_photographs(root / "shapes")
    (root / "holiday").mkdir()
    Image.new("RGB", (8, 8)).save(root / "holiday" / "beach.png")
    (root / "papers").mkdir()
    return root


@pytest.fixture(scope="module")
def address(serving, tmp_path_factory, root, data_folder):
    place = tmp_path_factory.mktemp("data-view")
    with serving(Places(place / "runs", demo=place / "demo", data_roots=(root, data_folder))) as address:
        yield address


@pytest.fixture
def own_server(serving, tmp_path, reader):
    """A server that a test changes; its pages are closed before it ends: `with own_server(root) as person`."""

    @contextlib.contextmanager
    def serve(root: Path):
        with serving(Places(tmp_path / "runs", demo=tmp_path / "demo", data_roots=(root,))) as address:
            person = reader(address)
            yield person
            person.leave()

    return serve


@pytest.fixture
def birds(reader, address):
    """The miniature of CUB-200-2011, open. Two of its pictures are damaged, and the browser says so."""
    person = reader(address)
    person.expected = ["404", "classes=9", "400 (Bad"]
    page = person.open(BIRDS)
    page.wait_for_selector(".sx-image")
    return page


def view(page):
    """The Data view alone: the form of the Train view has fields of the same names."""
    return page.locator("#data-view")


def rows(page) -> dict[str, str]:
    """The list of datasets: what each row says, by its name."""
    read = "rows => rows.map((row) => [row.querySelector('.sx-set-name').textContent, row.innerText])"
    return dict(page.locator(".sx-set-row").evaluate_all(read))


def tiles(page, group: str) -> int:
    return page.locator(f'.sx-image[data-group="{group}"]').count()


def query(page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(page.evaluate("location.search.slice(1)")).items()}


def drawn(page) -> str:
    """What is drawn over the large picture."""
    return page.evaluate("document.querySelector('.sx-photo .sx-truth').toDataURL()")


# --- The list --------------------------------------------------------------------------------------------------------


def test_the_list_has_what_can_be_opened_what_cannot_and_what_is_not_here(birds, until, data_folder, root):
    page = birds
    until(lambda: "reading" not in page.locator(".sx-sets .sx-head").inner_text(), "all are read")
    listed = rows(page)
    assert list(listed) == ["Field guide", "CUB-200-2011", "holiday", "shapes"]
    assert "3 classes, 21 images" in listed["CUB-200-2011"]
    assert "train/ and test/ folders" in listed["shapes"]
    assert "holds no class of photographs" in listed["holiday"], "why it cannot be opened"
    page.get_by_text("1 folder without photographs").click()
    assert page.get_by_text(str(root / "papers")).is_visible()
    page.get_by_text("4 known sets not here").click()
    assert page.get_by_text(f"python -m sam_core data get cars --root {root}").is_visible()


def test_a_dataset_that_cannot_be_opened_says_why_in_its_place(reader, address, until):
    person = reader(address)
    person.expected = ["400"]
    page = person.open("?tab=data&set=holiday")
    until(lambda: "holds no class of photographs" in page.locator(".sx-stage").inner_text(), "why")
    assert "FOLDER/CLASS/*.jpg" in page.locator(".sx-stage").inner_text(), "and what to do"
    page.locator(".sx-set-row", has_text="shapes").click()
    page.wait_for_selector(".sx-image")
    assert page.locator(".sx-data-head h2").inner_text() == "shapes"


def test_a_dataset_that_takes_long_shows_how_far_it_is(own_server, tmp_path, until, monkeypatch):
    write_photographs(tmp_path / "data" / "shapes")
    go_on = threading.Event()
    original = shelf_module.open_dataset

    def slowly(*arguments, progress, **choices):
        progress(1200, 12_000)
        assert go_on.wait(30)
        return original(*arguments, progress=progress, **choices)

    monkeypatch.setattr(shelf_module, "open_dataset", slowly)
    with own_server(tmp_path / "data") as person:
        page = person.open("?tab=data&set=shapes")
        until(lambda: "1,200 of 12,000" in page.locator(".sx-waiting").inner_text(), "the progress")
        assert page.locator(".sx-waiting progress").evaluate("bar => bar.value / bar.max") == pytest.approx(0.1)
        assert "being read" in rows(page)["shapes"]
        go_on.set()
        page.wait_for_selector(".sx-image")
        until(lambda: "27 images" in rows(page)["shapes"], "the list knows it too")


# --- What is in a set ------------------------------------------------------------------------------------------------


def test_a_set_shows_its_counts_and_every_class_with_the_labelled_images_marked(birds):
    page = birds
    assert "3 classes, 12 training and 9 test images" in page.locator(".sx-data-head").inner_text()
    assert "3 labelled images of 3 classes at 10 %" in page.locator(".sx-label-words").inner_text()
    assert "seeded rule" in page.locator(".sx-label-words").inner_text()
    assert page.locator(".sx-class").count() == 3
    assert "1 labelled of 4 training · 3 test" in page.locator(".sx-class").first.inner_text()
    assert (tiles(page, "labelled"), tiles(page, "train"), tiles(page, "test")) == (3, 9, 9)
    badges = page.locator('.sx-image[data-group="labelled"] .sx-badge').all_inner_texts()
    assert badges == ["✓"] * 3, "not by colour alone"
    assert "labelled training image" in page.locator(".sx-image").first.get_attribute("aria-label")


def test_the_marks_follow_the_label_ratio_and_the_number_of_classes(birds, until):
    page = birds
    view(page).get_by_label("Labelled images, % of each class").fill("50")
    until(lambda: tiles(page, "labelled") == 6, "two of four in each class")
    assert "2 of each class" in page.locator(".sx-label-words").inner_text()
    page.get_by_label("Label ratio in percent").focus()
    page.keyboard.press("End")
    until(lambda: tiles(page, "labelled") == 12, "the slider does the same")
    assert view(page).get_by_label("Labelled images, % of each class").input_value() == "100"
    view(page).get_by_label("Classes", exact=True).fill("2")
    until(lambda: page.locator(".sx-class").count() == 2, "the first two classes")
    view(page).get_by_label("Classes", exact=True).fill("9")
    until(lambda: "3 classes, not 9" in page.locator(".sx-label-words").inner_text(), "too many are refused")


def test_images_are_shown_by_split_and_by_class(birds, until):
    page = birds
    page.get_by_label("Show").select_option("test")
    until(lambda: (tiles(page, "test"), page.locator(".sx-image").count()) == (9, 9), "test images alone")
    page.get_by_label("Class", exact=True).select_option("1")
    until(lambda: page.locator(".sx-image").count() == 3, "of one class")
    assert "3 of 21 images" in page.locator(".sx-images-head").inner_text()
    assert {key: query(page)[key] for key in ("set", "split", "class")} == {
        "set": "cub200", "split": "test", "class": "1",
    }  # fmt: skip


def test_a_click_on_a_class_in_the_plot_shows_its_images(birds, until):
    page = birds
    bar = page.locator(".sx-counts .bars .point").first
    bar.wait_for()
    assert "002.Laysan_Albatross" in page.locator(".sx-counts .yaxislayer-above").text_content()
    assert "labelled" in page.locator(".sx-counts-legend").inner_text()
    page.locator(".sx-counts").scroll_into_view_if_needed()
    place = page.locator(".sx-counts .bars").nth(1).locator(".point").nth(2).bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2, steps=3)
    page.mouse.down()
    page.mouse.up()
    until(lambda: page.locator(".sx-class").count() == 1, "that class alone")
    assert "003.Sooty" in page.locator(".sx-class").inner_text()


def test_a_link_reopens_a_set_as_it_was_left(reader, address, until, birds):
    page = birds
    view(page).get_by_label("Labelled images, % of each class").fill("50")
    page.get_by_label("Show").select_option("labelled")
    until(lambda: query(page).get("ratio") == "50", "the address follows")
    person = reader(address)
    person.expected = ["404"]
    again = person.open(page.evaluate("location.search"))
    until(lambda: tiles(again, "labelled") == 6, "the same images")
    assert again.locator(".sx-image").count() == 6
    assert view(again).get_by_label("Labelled images, % of each class").input_value() == "50"


# --- One image -------------------------------------------------------------------------------------------------------


def test_an_image_opens_large_with_what_is_marked_on_it(birds, until):
    page = birds
    page.get_by_label("Show").select_option("test")
    first = page.locator(".sx-image").first
    until(lambda: tiles(page, "test") == page.locator(".sx-image").count() == 9, "test images alone")
    image = first.get_attribute("aria-label").split(",")[0]
    first.click()
    photo = page.locator(".sx-photo")
    until(lambda: "pixels" in photo.inner_text(), "its size")
    assert photo.locator("h3").inner_text() == image
    assert "001.Black_footed_Albatross" in photo.inner_text()
    assert "test image" in photo.inner_text()
    assert "1 of 9" in photo.inner_text()
    assert "breast" in photo.inner_text(), "the visible parts by name"
    until(lambda: page.locator("#data-view .sx-root").evaluate("root => Boolean(root.view.viewer.outline)"), "the mask")
    pictures = {drawn(page)}
    for mark in ("Outline", "Parts", "Box"):
        photo.get_by_label(mark).uncheck()
        pictures.add(drawn(page))
    assert len(pictures) == 4, "each is drawn, and can be left out"
    blank = page.evaluate(
        "(() => { const canvas = document.querySelector('.sx-photo .sx-truth'); const other = "
        "document.createElement('canvas'); [other.width, other.height] = [canvas.width, canvas.height]; "
        "return other.toDataURL() === canvas.toDataURL(); })()"
    )
    assert blank, "without any mark nothing lies over the photograph"


def test_the_keys_go_from_image_to_image(birds, until):
    page = birds
    page.locator(".sx-image").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    photo = page.locator(".sx-photo")
    until(lambda: "2 of 21" in photo.inner_text(), "the second image of the list")
    names = [photo.locator("h3").inner_text()]
    for key, place in (("ArrowRight", "3 of 21"), ("ArrowLeft", "2 of 21"), ("ArrowLeft", "1 of 21")):
        page.keyboard.press(key)
        until(lambda place=place: place in photo.inner_text(), place)
        names.append(photo.locator("h3").inner_text())
    assert names[0] == names[2]
    assert len(set(names)) == 3
    until(lambda: query(page).get("photo") == names[-1], "its link")
    page.keyboard.press("Escape")
    until(lambda: not photo.is_visible(), "closed")
    until(lambda: "photo" not in query(page), "and gone from the link")


def test_a_link_opens_one_image_and_a_damaged_one_says_so(birds, until, data_folder):
    page = birds
    damaged = next(path for path in (data_folder / "CUB_200_2011" / "images").rglob("*_0009_*"))
    tile = page.locator(f'.sx-image[aria-label*="{damaged.name}"]')
    tile.scroll_into_view_if_needed()
    until(lambda: "sx-gone" in tile.get_attribute("class"), "its place says that there is no picture")
    image = tile.get_attribute("aria-label").split(",")[0]
    page.goto(f"{page.url}&photo={image}")
    photo = page.locator(".sx-photo")
    until(lambda: "not a JPEG" in photo.inner_text(), "why it cannot be shown")
    page.keyboard.press("ArrowRight")
    until(lambda: "pixels" in photo.inner_text(), "and the next one can")


# --- Problems --------------------------------------------------------------------------------------------------------


def test_every_image_is_checked_and_the_result_is_there_after_a_reload(birds, until):
    page = birds
    assert "no image was opened yet" in page.locator(".sx-problems").inner_text()
    page.get_by_role("button", name="Check every image").click()
    until(lambda: "All 21 images were looked at" in page.locator(".sx-problems").inner_text(), "the result")
    said = page.locator(".sx-problems").inner_text()
    assert "Unreadable image (1)" in said
    assert "Truncated image (1)" in said
    page.reload()
    page.wait_for_selector(".sx-image")
    until(lambda: "Truncated image (1)" in page.locator(".sx-problems").inner_text(), "it is still known")
    page.locator(".sx-problem-open", has_text="_0001_").click()
    until(lambda: page.locator(".sx-photo h3").inner_text().endswith("_0001_7001.jpg"), "a click shows the image")


# --- Own photographs -------------------------------------------------------------------------------------------------


def zip_of(folder: Path, place: Path) -> Path:
    with zipfile.ZipFile(place, "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder))
    return place


def test_a_zip_is_added_looked_into_trained_on_and_deleted(own_server, photographs, tmp_path, until):
    root = tmp_path / "data"
    root.mkdir()
    packed = zip_of(photographs, tmp_path / "My leaves.zip")
    write_photographs(root / "shapes")
    with own_server(root) as person:
        page = person.open("?tab=data&set=shapes")
        page.wait_for_selector(".sx-image")
        page.set_input_files("#sx-own-zip", packed)
        until(lambda: page.locator(".sx-data-head h2").inner_text() == "My-leaves", "it is added and opened")
        until(lambda: page.locator(".sx-image").count() == 27, "its images")
        assert list(rows(page)) == ["Field guide", "My-leaves", "shapes"]
        view(page).get_by_label("Labelled images, % of each class").fill("50")
        until(lambda: tiles(page, "labelled") == 9, "half of them")

        page.get_by_role("button", name="Train on this set").click()
        until(lambda: "My-leaves" in page.locator("#field-dataset input").input_value(), "the form has the set")
        until(lambda: "9 labelled images of 3 classes" in page.locator("#outlook").inner_text(), "and the ratio")

        page.get_by_role("tab", name="Data").click()
        page.locator(".sx-data-head").get_by_role("button", name="Delete").click()
        page.locator("dialog[open]").get_by_role("button", name="Delete").click()
        until(lambda: list(rows(page)) == ["Field guide", "shapes"], "it is gone from the list")
    assert [path.name for path in root.iterdir() if not path.name.startswith((".cache", "fieldguide"))] == ["shapes"]


def test_a_zip_that_is_no_dataset_is_refused_in_words_and_leaves_nothing(own_server, photographs, tmp_path, until):
    root = tmp_path / "data"
    write_photographs(root / "shapes")
    one_class = zip_of(photographs / "train" / "circle", tmp_path / "circles.zip")
    (tmp_path / "text.zip").write_text("no zip at all")
    with own_server(root) as person:
        person.expected = ["400"]
        page = person.open("?tab=data&set=shapes")
        page.wait_for_selector(".sx-image")
        said = page.locator(".sx-add .sx-notice")
        page.set_input_files("#sx-own-zip", tmp_path / "text.zip")
        until(lambda: said.is_visible() and "text.zip is no zip archive" in said.inner_text(), "no zip")
        page.set_input_files("#sx-own-zip", one_class)
        until(lambda: said.is_visible() and "circles.zip holds no class" in said.inner_text(), "no class folders")
        assert page.locator(".sx-data-head").get_by_role("button", name="Delete").count() == 0, "not made here"
    assert [path.name for path in root.iterdir()] == ["shapes"]


def test_a_folder_is_opened_by_its_path(reader, address, root, until):
    write_photographs(root / "papers" / "of somebody", train=2, test=1)
    person = reader(address)
    person.expected = ["400"]
    page = person.open("?tab=data&set=shapes")
    page.wait_for_selector(".sx-image")
    page.get_by_label("Path of a folder or zip").fill("/etc")
    page.keyboard.press("Enter")
    said = page.locator(".sx-add .sx-notice")
    until(lambda: said.is_visible() and "--data-root FOLDER" in said.inner_text(), "outside the data roots")
    page.get_by_label("Path of a folder or zip").fill("papers/of somebody")
    page.get_by_role("button", name="Open", exact=True).click()
    until(lambda: page.locator(".sx-image").count() == 9, "its images")
    assert query(page)["set"] == "papers/of somebody"


# --- Many images -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A data root with 90 classes of 40 images each, all of one picture."""
    root = tmp_path_factory.mktemp("many")
    content = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(content, "PNG")
    (root / "one.png").write_bytes(content.getvalue())
    for label in range(90):
        for split in ("train", "test"):
            folder = root / "crowd" / split / f"class {label:03}"
            folder.mkdir(parents=True)
            for number in range(20):
                os.link(root / "one.png", folder / f"{number:02}.png")
    return root


def test_thousands_of_images_cost_no_more_than_those_in_sight(own_server, many, until):
    with own_server(many) as person:
        page = person.open("?tab=data&set=crowd")
        page.wait_for_selector(".sx-image")
        until(lambda: "3,600 images" in page.locator(".sx-images-head").inner_text(), "all are counted")
        assert page.locator(".sx-class").count() == 90
        assert page.locator(".sx-image").count() < 400, "classes out of sight have no tile yet"
        page.wait_for_timeout(300)
        thumbs = [url for url in person.requests if "/data/thumb" in url]
        assert len(thumbs) < 400, "nor are their pictures asked for"

        last = page.locator(".sx-class").last
        last.scroll_into_view_if_needed()
        until(lambda: last.locator(".sx-image").count() >= 9, "the last class is filled when it comes near")
        shown = "img => img.complete && img.naturalWidth > 0"
        until(lambda: last.locator("img").first.evaluate(shown), "and its pictures come at once")
        last.get_by_role("button", name=re.compile("Show .* more")).click()
        until(lambda: last.locator(".sx-image").count() == 40, "all of the class")

        asked = len(person.requests)
        page.wait_for_timeout(1500)
        assert [url for url in person.requests[asked:] if "/pulse" not in url] == [], "then nothing is asked any more"
