"""Pictures to take away show what the page shows, on the scale that they name."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageSequence

from explorer.attention import sheets
from explorer.attention.sheets import SCALES, SheetSettings, draw_animation, draw_frame, maps_as_npz
from sam_core.config import PROJECT_ROOT, build_config
from sam_core.evaluation.history import loss_distributions
from sam_core.overlay import SUM_FULL_STRENGTH, overlay
from sam_core.recording.layout import MAP_KINDS

EPOCHS, GRID, POINT = 4, (3, 4), 1
#: The share of a cell at full strength at scale `distribution`.
FULL = SUM_FULL_STRENGTH / 12
#: The photograph's right edge on a sheet of pictures 96 pixels wide, in pixels.
PHOTOGRAPH_RIGHT = 12 + 96


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((96, 72), Image.Resampling.BICUBIC)


@pytest.fixture
def timeline() -> dict:
    generator = np.random.default_rng(1)
    maps = {kind: generator.random((EPOCHS, *GRID), dtype=np.float32) for kind in MAP_KINDS}
    maps["gradcam"] /= 12
    about = {"epochs": np.array([0, 2, 5, 9]), "predicted": np.zeros(EPOCHS, int), "confidence": np.ones(EPOCHS)}
    return maps | about


def distributions(timeline: dict) -> dict:
    return loss_distributions(timeline, build_config({}))


def frame(picture: Image.Image, timeline: dict, point: int = POINT, title: str = "A bird", **settings) -> Image.Image:
    shown = SheetSettings(**settings)
    return draw_frame(picture, timeline, distributions(timeline), point, shown, title=title, caption="Test image")


def panels(picture: Image.Image, timeline: dict, point: int = POINT, **settings) -> list:
    return sheets._Panels(picture, timeline, distributions(timeline), SheetSettings(**settings)).at(point)


def is_in(sheet: Image.Image, panel: Image.Image) -> bool:
    """Whether a sheet has this picture somewhere, pixel by pixel."""
    paper, wanted = np.asarray(sheet), np.asarray(panel.convert("RGB"))
    height, width = wanted.shape[:2]
    corners = np.argwhere((paper[: 1 - height, : 1 - width] == wanted[0, 0]).all(axis=2))
    return any((paper[y : y + height, x : x + width] == wanted).all() for y, x in corners)


# --- Frames -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_a_frame_has_the_photograph_and_every_map_on_the_scale_it_names(scale: str, picture, timeline):
    values = distributions(timeline) if scale == "distribution" else timeline
    highs = {
        "distribution": dict.fromkeys(MAP_KINDS, FULL),
        "frame": {kind: timeline[kind][POINT].max() for kind in MAP_KINDS},
        "epochs": {kind: timeline[kind].max() for kind in MAP_KINDS},
        "maps": dict.fromkeys(MAP_KINDS, max(timeline[kind].max() for kind in ("cam", "gradcam", "learned"))),
    }[scale]
    sheet = frame(picture, timeline, scale=scale, opacity=0.8, smooth=False, colour_map="magma")
    assert is_in(sheet, picture)
    for kind in ("cam", "gradcam", "learned"):
        expected = overlay(
            picture, values[kind][POINT], colour_map="magma", opacity=0.8, smooth=False, scale=(0.0, float(highs[kind]))
        )
        assert is_in(sheet, expected), kind
        assert not is_in(sheet, overlay(picture, values[kind][POINT], colour_map="magma", opacity=0.8, scale="minmax"))


@pytest.mark.parametrize("scale", SCALES)
def test_a_difference_is_symmetric_about_nothing(scale: str, picture, timeline):
    values = distributions(timeline) if scale == "distribution" else timeline
    change = values["learned"] - values["cam"]
    at_point, ever = float(np.abs(change[POINT]).max()), float(np.abs(change).max())
    high = {"distribution": FULL / 2, "frame": at_point, "epochs": ever, "maps": ever}[scale]
    sheet = frame(picture, timeline, scale=scale, difference=("learned", "cam"))
    expected = overlay(picture, change[POINT], colour_map="difference", opacity=0.6, scale=(-high, high))
    assert is_in(sheet, expected)


def test_no_difference_shows_the_photograph_and_not_the_end_of_the_colours(picture, timeline):
    shown = panels(picture, timeline, scale="frame", difference=("cam", "cam"))[-1].picture
    assert shown == overlay(picture, np.zeros(GRID), colour_map="difference", opacity=0.6, scale=(-1.0, 1.0))


def test_panels_are_titled_in_words(picture, timeline):
    titles = [panel.title for panel in panels(picture, timeline, difference=("learned", "energy"))]
    assert titles == ["Photograph", "CAM", "Grad-CAM", "Learned attention", "Learned attention minus feature energy"]
    predicted = panels(picture, timeline, maps=("cam", "learned"), predicted=True, difference=("cam", "gradcam"))
    assert [panel.title for panel in predicted[1:]] == [
        "CAM, predicted class",
        "Learned attention",
        "CAM minus Grad-CAM, predicted class",
    ]


def test_the_predicted_class_has_its_own_maps(picture, timeline):
    shown = panels(picture, timeline, maps=("cam", "learned"), predicted=True, scale="frame")
    for panel, kind in zip(shown[1:], ("cam_predicted", "learned"), strict=True):
        values = timeline[kind][POINT]
        assert panel.picture == overlay(picture, values, opacity=0.6, scale=(0.0, float(values.max())))


def test_a_map_that_is_not_there_is_the_grey_photograph_and_says_why(picture, timeline):
    timeline["learned"] = None
    maps = ("cam", "learned", "layercam")
    shown = panels(picture, timeline, maps=maps, difference=("cam", "learned"))
    assert [panel.title for panel in shown[2:]] == [
        "Learned attention: this network has none",
        "LayerCAM: not recorded",
        "CAM minus learned attention: this network has none",
    ]
    for panel in shown[2:]:
        assert panel.picture == picture.convert("L")
        assert panel.bar is None
    for scale in SCALES:
        assert is_in(frame(picture, timeline, maps=maps, scale=scale), picture.convert("L"))


@pytest.mark.parametrize("scale", SCALES)
def test_an_empty_map_says_so_and_has_no_colour(scale: str, picture, timeline):
    timeline["cam"][:] = 0
    shown = panels(picture, timeline, scale=scale)
    assert [panel.title for panel in shown[1:]] == ["CAM: empty", "Grad-CAM", "Learned attention"]
    if scale != "distribution":
        assert shown[1].picture == overlay(picture, np.zeros(GRID), opacity=0.6)
    frame(picture, timeline, scale=scale)


def test_the_bar_says_what_the_strongest_colour_stands_for(picture, timeline, monkeypatch: pytest.MonkeyPatch):
    written = []

    def keep(colour_map: str, **words: object) -> Image.Image:
        written.append((colour_map, words["low"], words["high"], words["title"]))
        return Image.new("RGB", (96, 20))

    monkeypatch.setattr(sheets, "colour_bar", keep)
    timeline["cam"][:, 0, 0] = [3, 7.25, 1, 12.125]
    panels(picture, timeline, maps=("cam",))
    panels(picture, timeline, maps=("cam",), scale="frame", colour_map="grey")
    panels(picture, timeline, maps=("cam", "gradcam"), scale="maps")
    panels(picture, timeline, maps=(), difference=("cam", "learned"))
    assert written == [
        ("viridis", "0", f"{100 * FULL:.3g} % or more", None),
        ("grey", "0", "7.25", None),
        ("viridis", "0", "12.1", None),
        ("viridis", "0", "12.1", None),
        ("difference", f"-{50 * FULL:.3g} %", f"+{50 * FULL:.3g} %", "0"),
    ]


def test_sheets_of_one_image_have_one_size_and_its_pictures_stay_in_place(picture, timeline):
    without = frame(picture, timeline)
    timeline["learned"][2] = 0  # its title takes two lines there
    settings = SheetSettings()
    drawn = [
        draw_frame(picture, timeline, distributions(timeline), point, settings, title="A bird", caption="Test image")
        for point in range(EPOCHS)
    ]
    assert len({sheet.size for sheet in drawn}) == 1
    assert drawn[0].height > without.height
    photographs = [np.asarray(sheet)[:, :PHOTOGRAPH_RIGHT] for sheet in drawn]
    assert all((each == photographs[0]).all() for each in photographs)


def test_many_maps_go_into_rows(picture, timeline):
    one_row = frame(picture, timeline)
    many = frame(picture, timeline, maps=(*MAP_KINDS, "cam"))
    assert many.height > 1.5 * one_row.height
    assert many.width == one_row.width
    for kind in MAP_KINDS:
        expected = overlay(picture, distributions(timeline)[kind][POINT], opacity=0.6, scale=(0.0, FULL))
        assert is_in(many, expected)


def test_a_name_with_accents_is_written_without_them_where_no_font_has_them(
    picture, timeline, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sheets, "WIDE_FONTS", ("no such font",))
    assert frame(picture, timeline, title="Grünfink №") == frame(picture, timeline, title="Grunfink No")


def test_a_point_that_was_not_recorded_is_refused(picture, timeline):
    for point in (-1, EPOCHS):
        with pytest.raises(ValueError, match="point: must be from 0 to 3"):
            frame(picture, timeline, point)
    with pytest.raises(ValueError, match="no epoch"):
        frame(picture, {name: values[:0] for name, values in timeline.items()}, 0)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"maps": ("cam", "spam")}, "maps"),
        ({"difference": ("cam", "spam")}, "maps"),
        ({"difference": ("cam",)}, "difference"),
        ({"scale": "log"}, "scale"),
        ({"colour_map": "jet"}, "colour_map"),
        ({"colour_map": "difference"}, "colour_map"),
        ({"opacity": 1.1}, "opacity"),
        ({"opacity": float("nan")}, "opacity"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(values: dict, field: str):
    with pytest.raises(ValueError, match=f"^{field}: "):
        SheetSettings(**values)


# --- Animations ---------------------------------------------------------------------------------------------------


@pytest.fixture
def animation(picture, timeline) -> Image.Image:
    content = draw_animation(
        picture, timeline, distributions(timeline), SheetSettings(), title="A bird",
        caption=lambda point: "Predicted: a rather long name, and then some more words about it" if point else "",
    )  # fmt: skip
    return Image.open(io.BytesIO(content))


def test_an_animation_shows_every_epoch_for_half_a_second_and_holds_the_last(animation: Image.Image):
    assert animation.format == "GIF"
    assert animation.n_frames == EPOCHS
    assert animation.info["loop"] == 0
    assert [each.info["duration"] for each in ImageSequence.Iterator(animation)] == [500, 500, 500, 1500]


def test_the_frames_of_an_animation_are_the_sheets_and_nothing_but_the_maps_moves(
    animation: Image.Image, picture, timeline
):
    frames = [np.asarray(each.convert("RGB"), dtype=float) for each in ImageSequence.Iterator(animation)]
    sheet = draw_frame(
        picture, timeline, distributions(timeline), 2, SheetSettings(), title="A bird",
        caption="Predicted: a rather long name, and then some more words about it",
    )  # fmt: skip
    assert animation.size == sheet.size
    assert np.abs(frames[2] - np.asarray(sheet, dtype=float)).mean() < 3
    for each in frames:
        assert (each[:5] == 255).all()  # the paper is white
        # Above the caption, which changes.
        assert (each[:120, :PHOTOGRAPH_RIGHT] == frames[0][:120, :PHOTOGRAPH_RIGHT]).all()
    assert (frames[0] != frames[1]).any()


def test_an_animation_of_one_epoch_is_one_picture(picture, timeline):
    single = {name: values[:1] for name, values in timeline.items()}
    content = draw_animation(picture, single, distributions(single), SheetSettings(), title="", caption="")
    assert Image.open(io.BytesIO(content)).n_frames == 1


def test_without_an_epoch_there_is_no_animation(picture, timeline):
    none = {name: values[:0] for name, values in timeline.items()}
    with pytest.raises(ValueError, match="no epoch"):
        draw_animation(picture, none, distributions(none), SheetSettings(), title="", caption="")


# --- Numbers ------------------------------------------------------------------------------------------------------


def test_the_maps_come_as_numbers(timeline):
    timeline["learned"] = None
    with np.load(io.BytesIO(maps_as_npz(timeline)), allow_pickle=False) as archive:
        assert set(archive.files) == set(timeline) - {"learned"}
        for name in archive.files:
            np.testing.assert_array_equal(archive[name], timeline[name])
            assert archive[name].dtype == timeline[name].dtype


def test_sheets_need_no_browser_toolkit():
    code = (
        "import sys, explorer.attention.sheets\n"
        "print([name for name in ('gradio', 'plotly', 'pandas') if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
