import numpy
import pytest
from PIL import Image

from sam_core.overlay import (
    COLOUR_MAPS,
    SUM_FULL_STRENGTH,
    colour_bar,
    overlay,
    scale_map,
    side_by_side,
    to_oklab,
)


def photograph(width: int = 40, height: int = 30) -> Image.Image:
    pixels = numpy.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=numpy.uint8)
    return Image.fromarray(pixels)


def distance(first: Image.Image, second: Image.Image) -> numpy.ndarray:
    """(height, width): the largest difference of a channel, 0..255."""
    return numpy.abs(numpy.asarray(first, dtype=int) - numpy.asarray(second, dtype=int)).max(axis=2)


def test_every_colour_map_is_a_table_of_256_colours_with_a_label():
    for colour_map in COLOUR_MAPS.values():
        assert colour_map.table.shape == (256, 3)
        assert colour_map.table.dtype == numpy.uint8
        assert colour_map.label


@pytest.mark.parametrize("name", ["viridis", "magma", "grey"])
def test_the_lightness_of_a_sequential_colour_map_rises_evenly(name: str):
    lightness = to_oklab(COLOUR_MAPS[name].table)[:, 0]
    steps = numpy.diff(lightness[::15])  # single steps are too small for values that are rounded to 255
    assert (steps > 0).all()
    assert steps.max() < 2 * steps.mean()


def test_a_diverging_colour_map_is_lightest_in_its_middle():
    lightness = to_oklab(COLOUR_MAPS["difference"].table)[:, 0]
    assert abs(int(lightness.argmax()) - 127.5) < 2
    assert lightness[0] == pytest.approx(lightness[-1], abs=0.1)


def test_colour_tables_pass_through_their_points():
    assert COLOUR_MAPS["viridis"].table[[0, -1]].tolist() == [[0x44, 0x01, 0x54], [0xFD, 0xE7, 0x25]]
    assert COLOUR_MAPS["magma"].table[[0, -1]].tolist() == [[0, 0, 4], [0xFC, 0xFD, 0xBF]]


def test_oklab_has_the_published_values():
    # White is lightness 1 without colour; red from the table of the publication's author.
    numpy.testing.assert_allclose(to_oklab(numpy.array([255, 255, 255])), [1, 0, 0], atol=1e-4)
    numpy.testing.assert_allclose(to_oklab(numpy.array([255, 0, 0])), [0.628, 0.225, 0.126], atol=1e-3)


def test_strengths_outside_their_range_take_the_end_colours():
    table = COLOUR_MAPS["grey"]
    assert table.colours(numpy.array([-1.0, 0.0, 1.0, 2.0])).tolist() == [[0] * 3, [0] * 3, [255] * 3, [255] * 3]


def test_scales_have_the_values_computed_by_hand():
    map = numpy.array([[1.0, 2.0], [4.0, -1.0]])
    numpy.testing.assert_allclose(scale_map(map, "max"), [[0.25, 0.5], [1, 0]])
    numpy.testing.assert_allclose(scale_map(map, "minmax"), [[0.4, 0.6], [1, 0]])
    numpy.testing.assert_allclose(scale_map(map, (0, 2)), [[0.5, 1], [1, 0]])
    full = 7 / 4 * SUM_FULL_STRENGTH
    numpy.testing.assert_allclose(scale_map(map, "sum"), [[1 / full, 2 / full], [4 / full, 0]], rtol=1e-6)


def test_on_the_sum_scale_a_uniform_map_is_faint_at_any_size():
    for factor in (1e-3, 1e3):
        strength = scale_map(numpy.full((7, 7), factor), "sum")
        numpy.testing.assert_allclose(strength, 1 / SUM_FULL_STRENGTH, rtol=1e-6)


def test_a_map_that_shows_nothing_has_no_strength():
    zeros = numpy.zeros((3, 3), dtype=numpy.float16)
    for how in ("max", "minmax", "sum", (0.0, 1.0), (0.0, 0.0)):
        assert not scale_map(zeros, how).any()
    assert not scale_map(numpy.ones((3, 3)), "minmax").any()
    assert scale_map(numpy.array([[numpy.nan, 1.0]]), "max").tolist() == [[0, 1]]


def test_unknown_scales_colour_maps_and_shapes_are_refused_by_name():
    with pytest.raises(ValueError, match="max, minmax, sum"):
        scale_map(numpy.ones((2, 2)), "median")
    with pytest.raises(ValueError, match="viridis, magma"):
        overlay(photograph(), numpy.ones((2, 2)), colour_map="jet")
    with pytest.raises(ValueError, match="two axes"):
        overlay(photograph(), numpy.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="opacity"):
        overlay(photograph(), numpy.ones((2, 2)), opacity=1.1)


@pytest.mark.parametrize("smooth", [True, False])
def test_an_overlay_has_the_size_of_the_image_and_leaves_it_alone(smooth: bool):
    image = photograph(41, 29)
    before = image.tobytes()
    result = overlay(image, numpy.random.default_rng(1).random((7, 5)), smooth=smooth)
    assert result.size == (41, 29)
    assert result.mode == "RGB"
    assert image.tobytes() == before


def test_without_opacity_the_photograph_stays_as_it_is():
    image = photograph()
    assert distance(overlay(image, numpy.random.default_rng(1).random((7, 7)), opacity=0), image).max() == 0


def test_at_full_opacity_the_strongest_cell_is_the_strongest_colour():
    map = numpy.zeros((3, 4))
    map[1, 2] = 5
    result = numpy.asarray(overlay(photograph(), map, opacity=1, smooth=False))
    cell = result[10:20, 20:30].reshape(-1, 3)
    assert (cell == COLOUR_MAPS["viridis"].table[-1]).all()


def test_crisp_cells_cover_exactly_their_part_of_the_image():
    map = numpy.zeros((3, 4))
    map[0, 0] = map[2, 3] = 1
    image = photograph()
    touched = distance(overlay(image, map, smooth=False), overlay(image, numpy.zeros((3, 4)), smooth=False)) > 0
    assert touched[:10, :10].mean() > 0.95
    assert touched[20:, 30:].mean() > 0.95
    touched[:10, :10] = touched[20:, 30:] = False
    assert not touched.any()


def test_a_smooth_overlay_is_mirrored_with_its_image_and_map():
    image = photograph()
    map = numpy.random.default_rng(2).random((5, 4))
    mirrored = overlay(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), map[:, ::-1])
    # A map that is laid half a pixel off would fail here.
    assert distance(mirrored.transpose(Image.Transpose.FLIP_LEFT_RIGHT), overlay(image, map)).max() <= 2


def test_a_smooth_overlay_passes_between_cells_without_a_step():
    white = Image.new("RGB", (200, 20), (255, 255, 255))
    steps = {}
    for smooth in (True, False):
        row = numpy.asarray(overlay(white, numpy.array([[0.0, 1.0]]), smooth=smooth, opacity=1), dtype=int)[10]
        steps[smooth] = numpy.abs(numpy.diff(row, axis=0)).max()
    assert steps[True] < 15
    assert steps[False] > 100


def test_the_photograph_stays_visible_where_the_map_is_weak():
    map = numpy.zeros((2, 2))
    map[0, 0] = 1
    image = photograph()
    weak = numpy.asarray(overlay(image, map, smooth=False, opacity=1).convert("L"), dtype=float)[15:, 20:]
    original = numpy.asarray(image.convert("L"), dtype=float)[15:, 20:]
    assert numpy.corrcoef(weak.ravel(), original.ravel())[0, 1] > 0.99


def test_a_difference_is_blue_below_orange_above_and_nothing_at_zero():
    image = Image.new("RGB", (30, 10), (128, 128, 128))
    result = numpy.asarray(
        overlay(image, numpy.array([[-0.5, 0.0, 0.5]]), colour_map="difference", smooth=False), dtype=int
    )
    below, middle, above = result[5, 5], result[5, 15], result[5, 25]
    assert below[2] > below[0] + 20
    assert above[0] > above[2] + 20
    # The strength of zero lies between two of 256 colours.
    assert numpy.ptp(middle) <= 1
    nothing = numpy.asarray(overlay(image, numpy.zeros((1, 3)), colour_map="difference", smooth=False), dtype=int)
    assert numpy.abs(nothing - middle).max() <= 1


def test_a_difference_refuses_scales_without_a_middle():
    with pytest.raises(ValueError, match="diverging"):
        overlay(photograph(), numpy.ones((2, 2)), colour_map="difference", scale="minmax")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1"])
def test_images_of_every_mode_are_shown(mode: str):
    image = photograph().convert("L").convert(mode) if mode == "LA" else photograph().convert(mode)
    assert overlay(image, numpy.ones((2, 2))).mode == "RGB"


def test_what_is_transparent_is_shown_on_white():
    image = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert overlay(image, numpy.zeros((2, 2)), opacity=0).getpixel((4, 4)) == (255, 255, 255)


def colours_of(sheet: Image.Image) -> set[tuple[int, ...]]:
    return {colour for _, colour in sheet.getcolors(sheet.width * sheet.height)}


def test_a_sheet_shows_every_panel_whole_with_white_margins():
    red, blue = Image.new("RGB", (50, 40), (255, 0, 0)), Image.new("RGB", (30, 40), (0, 0, 255))
    sheet = side_by_side([("one", red), ("two", blue), ("three", red)])
    pixels = numpy.asarray(sheet)
    assert (pixels == (255, 0, 0)).all(axis=2).sum() == 2 * 50 * 40
    assert (pixels == (0, 0, 255)).all(axis=2).sum() == 30 * 40
    border = numpy.concatenate([pixels[:5].reshape(-1, 3), pixels[-5:].reshape(-1, 3), pixels[:, :5].reshape(-1, 3)])
    assert (border == 255).all()


def test_columns_and_rows_of_a_sheet():
    panels = [("title", Image.new("RGB", (100, 60), (1, 2, 3)))] * 4
    row, square, column = (side_by_side(panels, columns=columns) for columns in (4, 2, 1))
    assert row.width > square.width > column.width
    assert row.height < square.height < column.height
    assert side_by_side(panels).size == row.size
    assert side_by_side(panels, columns=9).size == row.size
    assert side_by_side(panels * 3).size == side_by_side(panels * 3, columns=6).size


def test_a_long_title_is_broken_into_lines_and_stays_on_its_panel():
    long = "Grad-CAM of the predicted class Great_crested_flycatcher_of_the_north after epoch 12"
    picture = Image.new("RGB", (120, 60), (255, 0, 0))
    short_sheet, sheet = side_by_side([("CAM", picture)]), side_by_side([(long, picture)])
    assert sheet.width == short_sheet.width
    assert sheet.height > short_sheet.height
    pixels = numpy.asarray(sheet)
    margin = (sheet.width - 120) // 2
    assert (pixels[:, : margin - 1] == 255).all()
    assert (pixels[:, -(margin - 2) :] == 255).all()


def test_a_caption_is_below_the_panels_and_broken_to_their_width():
    picture = Image.new("RGB", (200, 60), (255, 0, 0))
    plain = side_by_side([("CAM", picture)])
    captioned = side_by_side([("CAM", picture)], caption="Where the map points after twelve epochs. " * 3)
    assert captioned.width == plain.width
    assert captioned.height > plain.height + 30
    assert numpy.array_equal(numpy.asarray(captioned)[: plain.height - 40], numpy.asarray(plain)[: plain.height - 40])


def test_a_sheet_without_titles_and_one_without_panels():
    picture = Image.new("RGB", (40, 40), (255, 0, 0))
    assert side_by_side([("", picture)]).height < side_by_side([("CAM", picture)]).height
    with pytest.raises(ValueError, match="panels"):
        side_by_side([])
    with pytest.raises(ValueError, match="columns"):
        side_by_side([("", picture)], columns=0)


def test_a_colour_bar_runs_from_the_first_colour_to_the_last():
    bar = colour_bar("viridis", width=300, title="share of the map")
    assert bar.width == 300
    row = numpy.asarray(bar, dtype=int)[3]
    table = COLOUR_MAPS["viridis"].table.astype(int)
    assert numpy.abs(row[2] - table[1]).max() < 8
    assert numpy.abs(row[-3] - table[-2]).max() < 8
    assert len(colours_of(bar)) > 100


def test_text_is_set_at_the_size_of_the_panels():
    small = side_by_side([("CAM", Image.new("RGB", (112, 112)))])
    large = side_by_side([("CAM", Image.new("RGB", (448, 448)))])
    assert large.width / small.width == pytest.approx(4, rel=0.05)
