from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from explorer.places import Places
from sam_core.evaluation.history import loss_distributions
from sam_core.overlay import SUM_FULL_STRENGTH, overlay
from sam_core.recording.views import view_picture

PLAYER = "document.querySelector('.sx-player')?.player"


@pytest.fixture(scope="module")
def recorded(shared_photographs, tiny, tmp_path_factory):
    """A run with a dozen epochs, whose weights were kept at some of them."""
    import sam_core

    config = tiny(shared_photographs, epochs=12, keep_checkpoints=4, name="Shapes")
    return sam_core.train(config, runs=tmp_path_factory.mktemp("recorded"), quiet=True)


@pytest.fixture(scope="module")
def places(recorded, shared_photographs, tmp_path_factory) -> Places:
    root = tmp_path_factory.mktemp("attention")
    shutil.copytree(recorded.folder, root / "runs" / recorded.id)
    return Places(root / "runs", demo=root / "demo", data_roots=(shared_photographs.parent,))


@pytest.fixture(scope="module")
def address(serving, places):
    with serving(places) as address:
        yield address


@pytest.fixture
def page(reader, address):
    """The Attention view with its first image loaded."""
    page = reader(address).open("?tab=attention")
    page.wait_for_function(f"{PLAYER}?.timeline?.about.epochs.length === 13 && {PLAYER}?.photograph.isBlank === false")
    return page


def epoch_shown(page) -> str:
    return page.locator(".sx-epoch").first.inner_text()


def panel_pixels(page, kind: str) -> np.ndarray:
    """What a panel's canvas holds, (H, W, 3)."""
    url = page.evaluate(f"document.querySelector('.sx-panel[data-kind=\"{kind}\"] canvas').toDataURL('image/png')")
    import base64

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))


# --- The slider ------------------------------------------------------------------------------------------------------


def test_moving_the_slider_changes_every_map_and_asks_the_server_nothing(page):
    before = {kind: panel_pixels(page, kind) for kind in ("photograph", "cam", "gradcam", "learned")}
    page.wait_for_timeout(500)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator(".sx-slider").first.focus()
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    assert epoch_shown(page) == "epoch 0 of 12"
    page.keyboard.press("End")
    page.keyboard.press("Home")
    assert [url for url in asked if "/pulse" not in url] == []
    after = {kind: panel_pixels(page, kind) for kind in before}
    for kind in ("cam", "gradcam", "learned"):
        assert (before[kind] != after[kind]).any(), f"{kind} did not change"
    assert (before["photograph"] == after["photograph"]).all()


def test_the_keys_step_play_and_change_the_image(page, until):
    assert epoch_shown(page) == "epoch 12 of 12"
    page.locator(".sx-image-title").click()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert epoch_shown(page) == "epoch 10 of 12"
    page.keyboard.press("ArrowRight")
    assert epoch_shown(page) == "epoch 11 of 12"
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    assert page.locator(".sx-play").first.inner_text() == "Pause"
    until(lambda: epoch_shown(page) == "epoch 3 of 12", "playing moves the slider")
    page.keyboard.press(" ")
    stopped_at = epoch_shown(page)
    page.wait_for_timeout(1200)
    assert epoch_shown(page) == stopped_at
    first = page.locator(".sx-image-title").inner_text()
    page.keyboard.press("ArrowDown")
    until(lambda: page.locator(".sx-image-title").inner_text() != first, "another image is open")
    assert epoch_shown(page) == stopped_at, "the next image is shown at the same epoch"


def test_playing_ends_at_the_last_epoch_and_begins_anew(page, until):
    page.locator(".sx-slider").first.focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Play").first.click()
    until(lambda: page.locator(".sx-play").first.inner_text() == "Play", "it stops at the end")
    assert epoch_shown(page) == "epoch 12 of 12"
    page.get_by_role("button", name="Play").first.click()
    until(lambda: epoch_shown(page) in ("epoch 0 of 12", "epoch 1 of 12"), "it begins at the first epoch")


def test_typing_in_a_field_does_not_move_the_slider(page):
    page.get_by_label("Values", exact=True).focus()
    page.keyboard.press("ArrowDown")
    assert epoch_shown(page) == "epoch 12 of 12"


# --- What is drawn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "colours", "cells", "opacity"),
    [("distribution", "viridis", False, 0.65), ("frame", "magma", True, 1.0), ("frame", "grey", False, 0.3)],
)
def test_the_page_draws_what_the_engine_draws_pixel_for_pixel(
    reader, address, recorded, scale, colours, cells, opacity
):
    sample = recorded.samples[-1]["id"]
    page = reader(address).open(
        f"?tab=attention&run={recorded.id}&image={sample}&epoch=5&scale={scale}&colours={colours}"
        f"&cells={int(cells)}&opacity={opacity}"
    )
    page.wait_for_function(f"{PLAYER}?.timeline?.about.id === '{sample}' && {PLAYER}?.photograph.isBlank === false")
    page.wait_for_timeout(300)
    timeline = recorded.timeline(sample)
    photograph = Image.fromarray(panel_pixels(page, "photograph"))
    for kind in ("cam", "learned"):
        if scale == "distribution":
            values = loss_distributions(timeline, recorded.config)[kind][5]
            how = (0.0, SUM_FULL_STRENGTH / values.size)
        else:
            values, how = timeline[kind][5], "max"
        expected = overlay(photograph, values, colour_map=colours, opacity=opacity, smooth=not cells, scale=how)
        difference = np.abs(panel_pixels(page, kind).astype(int) - np.asarray(expected).astype(int))
        # Shares are sent as 16-bit floats and visibility is looked up in a table: at most two of 255 levels.
        assert difference.max() <= 2, f"{kind}: {difference.max()}"


def test_the_photograph_is_the_view_that_the_network_saw(page, recorded):
    row = page.evaluate(f"{PLAYER}?.timeline.about.row")
    shown = panel_pixels(page, "photograph")
    expected = view_picture(recorded, row, side=max(shown.shape))
    assert shown.shape[:2] == (expected.height, expected.width)
    assert np.abs(shown.astype(int) - np.asarray(expected).astype(int)).mean() < 6


def test_every_choice_of_look_changes_the_picture(page):
    learned = panel_pixels(page, "learned")
    page.get_by_label("Strength", exact=True).fill("0")
    assert (panel_pixels(page, "learned") != learned).any(), "opacity"
    page.get_by_label("Strength", exact=True).fill("0.9")
    strong = panel_pixels(page, "learned")
    page.get_by_label("Colours", exact=True).select_option("magma")
    assert (panel_pixels(page, "learned") != strong).any(), "colours"
    magma = panel_pixels(page, "learned")
    page.get_by_text("Cells", exact=True).click()
    cells = panel_pixels(page, "learned")
    assert (cells != magma).any(), "cells"
    page.get_by_label("Values", exact=True).select_option("frame")
    assert (panel_pixels(page, "learned") != cells).any(), "scale"
    assert "its own scale" in page.locator(".sx-look .sx-help").inner_text()
    page.get_by_label("Feature energy").first.check()
    assert page.locator(".sx-player").first.locator('[data-kind="energy"]').count() == 1


def test_the_difference_of_two_maps_is_a_panel_of_its_own(page):
    page.get_by_label("Difference", exact=True).select_option("cam")
    page.get_by_label("minus", exact=True).select_option("learned")
    title = page.locator('[data-kind="difference"] .sx-panel-title')
    assert title.inner_text() == "CAM minus Learned attention"
    changed = panel_pixels(page, "difference")
    page.get_by_label("minus", exact=True).select_option("cam")
    nothing = panel_pixels(page, "difference")
    assert (changed != nothing).any()
    page.get_by_label("Difference", exact=True).select_option("")
    assert page.locator('[data-kind="difference"]').count() == 0


def test_maps_of_the_predicted_class_can_be_shown(page):
    page.get_by_text("Predicted class", exact=True).first.click()
    titles = page.locator(".sx-player").first.locator(".sx-panel-title").all_inner_texts()
    assert titles[1:3] == ["CAM, predicted class", "Grad-CAM, predicted class"]


def test_why_cam_and_grad_cam_coincide_is_said(page):
    assert "CAM divided by the" in page.locator(".sx-insight").inner_text()


def test_the_value_under_the_pointer_is_told(page, recorded):
    page.locator('[data-kind="cam"] .sx-frame').hover(position={"x": 3, "y": 3})
    assert "row 1, column 1: raw" in page.locator(".sx-readout").first.inner_text()


def test_a_click_on_a_curve_moves_the_slider(page, until):
    plot = page.locator('[data-chart="image-agreement"] .js-plotly-plot')
    plot.wait_for()
    page.wait_for_timeout(500)
    point = page.evaluate(
        """() => { const plot = document.querySelector('[data-chart="image-agreement"] .js-plotly-plot');
        const axis = plot._fullLayout.xaxis, y = plot._fullLayout.yaxis, box = plot.getBoundingClientRect();
        return [box.left + axis._offset + axis.l2p(4), box.top + y._offset + y.l2p(plot.data[0].y[4])]; }"""
    )
    page.mouse.move(*point)
    page.wait_for_timeout(200)
    page.mouse.click(*point)
    until(lambda: epoch_shown(page) == "epoch 4 of 12", "the slider follows the click")
    marker = page.locator('[data-chart="image-agreement"] .sx-marker').bounding_box()
    assert abs(marker["x"] - point[0]) < 3, "the current epoch is marked"


# --- The gallery -----------------------------------------------------------------------------------------------------


def test_the_gallery_filters_and_sorts(page, until):
    everything = page.locator(".sx-thumb").count()
    page.get_by_label("Split", exact=True).select_option("test")
    tests = page.locator(".sx-thumb").count()
    assert 0 < tests < everything
    page.get_by_label("Split", exact=True).select_option("")
    page.get_by_label("Show", exact=True).select_option("wrong")
    wrong = page.locator(".sx-thumb").count()
    assert wrong == page.locator(".sx-thumb.sx-wrong").count()
    page.get_by_label("Show", exact=True).select_option("all")
    as_recorded = page.locator(".sx-thumb").evaluate_all("all => all.map((one) => one.dataset.id)")
    page.get_by_label("Order", exact=True).select_option("change")
    until(
        lambda: page.locator(".sx-thumb").evaluate_all("all => all.map((one) => one.dataset.id)") != as_recorded,
        "sorted by change",
    )
    page.locator(".sx-thumb").first.click()
    until(
        lambda: (
            page.locator(".sx-image-title").inner_text() == page.locator(".sx-thumb").first.get_attribute("data-id")
        ),
        "the image that was clicked is open",
    )


# --- Links and files -------------------------------------------------------------------------------------------------


def test_a_link_reopens_exactly_this_image_epoch_and_look(page, reader, address, until):
    page.locator(".sx-thumb").nth(3).click()
    image = page.locator(".sx-thumb").nth(3).get_attribute("data-id")
    until(lambda: page.locator(".sx-image-title").inner_text() == image, "the image is open")
    page.locator(".sx-slider").first.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    page.get_by_label("Colours", exact=True).select_option("magma")
    page.get_by_text("Cells", exact=True).click()

    def link() -> str:
        return page.evaluate("location.href")

    until(lambda: all(word in link() for word in ("epoch=7", "colours=magma", "cells=1")), "the link says so")
    pixels = panel_pixels(page, "learned")

    other = reader(address).open(link().removeprefix(address).removeprefix("/"))
    other.wait_for_function(f"{PLAYER}?.timeline && {PLAYER}?.photograph.isBlank === false")
    other.wait_for_timeout(300)
    assert other.locator(".sx-image-title").inner_text() == image
    assert epoch_shown(other) == "epoch 7 of 12"
    assert (panel_pixels(other, "learned") == pixels).all()


def test_the_short_link_of_run_image_and_epoch_opens_the_attention_view(reader, address, recorded):
    image = recorded.samples[2]["id"]
    page = reader(address).open(f"?run={recorded.id}&image={image}&epoch=3")
    page.wait_for_function(f"{PLAYER}?.timeline?.about.id === '{image}'")
    assert epoch_shown(page) == "epoch 3 of 12"


def test_frame_animation_and_maps_are_saved(page, recorded):
    for button, suffix in (("Save frame", ".png"), ("Save all epochs", ".gif"), ("Save maps", ".npz")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        saved = download.value
        assert saved.suggested_filename.startswith(recorded.id)
        assert saved.suggested_filename.endswith(suffix)
        content = open(saved.path(), "rb").read()  # noqa: SIM115
        if suffix == ".npz":
            assert np.load(io.BytesIO(content))["learned"].shape[0] == 13
        else:
            picture = Image.open(io.BytesIO(content))
            assert picture.width > 600
            assert getattr(picture, "n_frames", 1) == (13 if suffix == ".gif" else 1)


# --- One's own photograph --------------------------------------------------------------------------------------------


def test_a_dropped_photograph_is_looked_at_under_any_map_and_class(page, shared_photographs, until):
    picture = next((shared_photographs / "test").rglob("*.png"))
    page.set_input_files("#sx-photograph", picture)
    page.wait_for_selector(".sx-result:not([hidden])")
    assert page.locator(".sx-top-name").count() == 3
    kinds = page.locator(".sx-result .sx-panel").evaluate_all("all => all.map((one) => one.dataset.kind)")
    assert kinds == ["photograph", "cam", "gradcam", "learned"]
    page.get_by_label("Grad-CAM++").check()
    page.get_by_label("All K maps").check()
    page.get_by_label("For class").select_option(label="square")
    until(lambda: "Maps for square" in page.locator(".sx-top").inner_text(), "the class that was asked for")
    assert page.locator('.sx-result [data-kind="gradcam++"]').count() == 1
    assert page.locator('.sx-result [data-kind="A4"]').count() == 1
    page.get_by_label("Weights").select_option("kept")
    until(lambda: page.locator(".sx-result .sx-slider").get_attribute("max") == "3", "epochs 0, 4, 8, 12")


def test_the_open_image_can_be_looked_at_again(page):
    page.get_by_role("button", name="Use the image above").click()
    page.wait_for_selector(".sx-result:not([hidden])")
    assert page.locator(".sx-result .sx-panel").count() == 4


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jpg", b"", "0 bytes"),
        ("text.jpg", b"only text", "not a JPEG"),
        ("cut.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, ""),
    ],
)
def test_a_file_that_is_no_photograph_gets_a_sentence_in_the_page(reader, address, tmp_path, name, content, words):
    person = reader(address)
    person.expected = ["400"]
    page = person.open("?tab=attention")
    page.wait_for_function("document.querySelector('.sx-drop:not(.sx-disabled) input:not([disabled])')")
    (tmp_path / name).write_bytes(content)
    page.set_input_files("#sx-photograph", tmp_path / name)
    notice = page.locator(".sx-inspection .sx-notice")
    notice.wait_for()
    assert words in notice.inner_text()
    assert page.locator(".sx-result").is_hidden()


# --- Runs that are no longer as they were ----------------------------------------------------------------------------


def test_a_run_deleted_while_it_is_open_is_said_to_be_gone_and_the_page_goes_on(
    reader, serving, places, recorded, tmp_path, until
):
    second = recorded.id + "-copy"
    shutil.copytree(places.runs / recorded.id, tmp_path / "runs" / recorded.id)
    shutil.copytree(places.runs / recorded.id, tmp_path / "runs" / second)
    with serving(Places(tmp_path / "runs", demo=tmp_path / "demo", data_roots=places.data_roots)) as address:
        person = reader(address)
        person.expected = ["404"]
        page = person.open(f"?tab=attention&run={second}")
        page.wait_for_function(f"{PLAYER}?.timeline")
        shutil.rmtree(tmp_path / "runs" / second)
        until(lambda: "not here" in page.locator(".sx-stage > .sx-empty").inner_text(), "the page says so")
        page.get_by_label("Run", exact=True).select_option(recorded.id)
        page.wait_for_function(f"{PLAYER}?.timeline?.about.run === '{recorded.id}'")
        person.leave()


def test_a_run_whose_photographs_are_elsewhere_shows_its_maps_and_says_why(reader, serving, recorded, tmp_path, until):
    shutil.copytree(recorded.folder, tmp_path / "runs" / recorded.id)
    (tmp_path / "data").mkdir()
    with serving(Places(tmp_path / "runs", demo=tmp_path / "demo", data_roots=(tmp_path / "data",))) as address:
        person = reader(address)
        person.expected = ["404"]
        page = person.open("?tab=attention")
        until(lambda: "--data-root" in page.locator(".sx-stage > .sx-notice").inner_text(), "how to see them")
        assert page.locator('[data-kind="learned"]').count() == 1
        person.leave()


# --- Small pages -----------------------------------------------------------------------------------------------------


def test_on_a_phone_nothing_is_wider_than_the_page_and_the_player_works(reader, address):
    page = reader(address, width=390, height=800).open("?tab=attention")
    page.wait_for_function(f"{PLAYER}?.timeline")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".sx-slider").first.fill("4")
    assert epoch_shown(page) == "epoch 4 of 12"
    box = page.locator(".sx-play").first.bounding_box()
    assert box["height"] >= 28, "large enough for a finger"


def test_every_control_has_a_name_for_those_who_cannot_see_it(page):
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('.sx-root :is(button, input, select, textarea)')].filter((one) => {
            const label = one.closest('label') || (one.id && document.querySelector(`label[for="${one.id}"]`));
            return !(one.getAttribute('aria-label') || one.textContent.trim() || label?.textContent?.trim());
        }).map((one) => one.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
