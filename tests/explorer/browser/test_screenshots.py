"""Every view as a person sees it, saved to build/screenshots, and what can be judged of it without eyes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from explorer.places import DEMO_RUNS, Places

PLAYER = "document.querySelector('.sx-player')?.player"
LOOKS = [("light", 1280, False), ("dark", 1280, True), ("phone", 390, False), ("phone-dark", 390, True)]

FAINT_TEXTS = Path(__file__).with_name("faint_texts.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def address(serving, tmp_path_factory):
    root = tmp_path_factory.mktemp("screenshots")
    (root / "data").mkdir()
    with serving(Places(root / "runs", demo=DEMO_RUNS, data_roots=(root / "data",))) as address:
        yield address


def check_and_save(page, path, width: int) -> None:
    page.screenshot(path=path, full_page=True)
    assert Image.open(path).width == width
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the screen"
    assert page.evaluate(FAINT_TEXTS) == []


@pytest.mark.parametrize(("look", "width", "dark"), LOOKS, ids=[look for look, *_ in LOOKS])
def test_the_train_view(reader, address, screenshots, until, look, width, dark):
    page = reader(address, width=width, dark=dark).open()
    until(lambda: "labelled images" in page.locator("#outlook").inner_text(), "the form", seconds=40)
    page.wait_for_selector(".sx-strip-row canvas")
    until(lambda: page.locator(".js-plotly-plot .scatterlayer").count() >= 5, "the curves")
    page.wait_for_timeout(600)
    check_and_save(page, screenshots / f"train-{look}.png", width)


@pytest.mark.parametrize(("look", "width", "dark"), LOOKS, ids=[look for look, *_ in LOOKS])
def test_the_attention_view(reader, address, screenshots, until, look, width, dark):
    page = reader(address, width=width, dark=dark).open("?tab=attention&epoch=6&outline=1")
    page.wait_for_function(f"{PLAYER}?.photograph.isBlank === false && {PLAYER}?.outline")
    until(lambda: page.locator(".js-plotly-plot .scatterlayer").count() >= 2, "the curves")
    page.wait_for_timeout(600)
    check_and_save(page, screenshots / f"attention-{look}.png", width)


@pytest.mark.parametrize(("look", "width", "dark"), LOOKS, ids=[look for look, *_ in LOOKS])
def test_the_data_view(reader, address, screenshots, until, look, width, dark):
    page = reader(address, width=width, dark=dark).open("?tab=data&ratio=25")
    # The first to open the field guide has it drawn.
    until(lambda: page.locator(".sx-class").count() == 10, "the field guide", seconds=120)
    until(lambda: page.locator(".sx-counts .bars .point").count() == 40, "the plot: four groups of ten classes")
    page.locator(".sx-class").first.scroll_into_view_if_needed()
    loaded = "images => images.length > 0 && images.every((image) => image.complete && image.naturalWidth > 0)"
    until(lambda: page.locator(".sx-class").first.locator("img").evaluate_all(loaded), "the first class's pictures")
    check_and_save(page, screenshots / f"data-{look}.png", width)
    page.locator(".sx-image").first.click()
    until(lambda: "pixels" in page.locator(".sx-photo").inner_text(), "one image, large")
    until(lambda: page.locator("#data-view .sx-root").evaluate("root => Boolean(root.view.viewer.outline)"), "its mask")
    page.screenshot(path=screenshots / f"data-photo-{look}.png")
    dialog = page.locator(".sx-photo").bounding_box()
    assert dialog["x"] >= 0
    assert dialog["x"] + dialog["width"] <= width
    assert page.evaluate(FAINT_TEXTS) == []


def test_the_data_view_without_a_dataset_of_ones_own(reader, serving, tmp_path, screenshots, until):
    (tmp_path / "data" / "holiday").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / "holiday" / "beach.png")
    with serving(Places(tmp_path / "runs", demo=tmp_path / "none", data_roots=(tmp_path / "data",))) as address:
        person = reader(address)
        person.expected = ["400"]
        page = person.open("?tab=data&set=holiday")
        until(lambda: "cannot be opened" in page.locator(".sx-stage").inner_text(), "what is wrong with it")
        page.get_by_text("5 known sets not here").click()
        check_and_save(page, screenshots / "data-empty.png", 1280)
        person.leave()


def test_the_first_page_without_any_run(reader, serving, tmp_path, screenshots, until):
    (tmp_path / "data").mkdir()
    with serving(Places(tmp_path / "runs", demo=tmp_path / "none", data_roots=(tmp_path / "data",))) as address:
        person = reader(address)
        page = person.open()
        until(lambda: "labelled images" in page.locator("#outlook").inner_text(), "the form", seconds=40)
        until(lambda: "None yet" in page.locator(".sx-runs").inner_text(), "what to do first is said")
        check_and_save(page, screenshots / "train-empty.png", 1280)
        page.get_by_role("tab", name="Attention").click()
        until(lambda: "No run is open" in page.locator(".sx-stage").inner_text(), "and here too")
        check_and_save(page, screenshots / "attention-empty.png", 1280)
        person.leave()
