"""Maps made visible: colour maps, a map laid over its photograph, and sheets of labelled panels.

For the command line and for figures; the explorer draws in the browser and takes its colour tables from here. Pillow
and numpy only. Nothing here reads or writes a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy
from PIL import Image, ImageDraw, ImageFont

MapScale = Literal["max", "minmax", "sum"] | tuple[float, float]
Colour = tuple[int, int, int]

#: At scale `sum` a cell is drawn at full strength when it holds this many times the share that a uniform map gives it.
#: The scale is then the same for all maps of one grid, and strong cells of a 7 x 7 map are still told apart.
SUM_FULL_STRENGTH = 4.0

#: A sheet's paper and the inks of its titles, its small print and its thin lines.
PAPER: Colour = (255, 255, 255)
INK: Colour = (28, 32, 38)
SOFT_INK: Colour = (92, 99, 110)
HAIRLINE: Colour = (217, 220, 225)


# --- Colour maps -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ColourMap:
    """Colours for a map's strength from 0 (first row) to 1 (last row)."""

    label: str
    table: numpy.ndarray
    """(256, 3) uint8, red, green, blue."""
    diverging: bool = False
    """Whether its middle, not its beginning, stands for nothing: for the difference of two maps."""

    def colours(self, strength: numpy.ndarray) -> numpy.ndarray:
        """(..., ) strengths, cut to 0..1 -> (..., 3) uint8."""
        return self.table[numpy.rint(numpy.clip(strength, 0, 1) * 255).astype(numpy.intp)]


def _linear_light(values: numpy.ndarray) -> numpy.ndarray:
    """Screen values (sRGB) 0..1 -> intensities of light 0..1 (IEC 61966-2-1)."""
    return numpy.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _screen_values(light: numpy.ndarray) -> numpy.ndarray:
    """Intensities of light 0..1 -> sRGB values 0..1, the reverse of `_linear_light`."""
    return numpy.where(light <= 0.0031308, light * 12.92, 1.055 * numpy.maximum(light, 0) ** (1 / 2.4) - 0.055)


#: Oklab (Björn Ottosson, 2020), a space in which equal distances look about equal: linear light -> cones -> Oklab.
_LIGHT_TO_CONES = numpy.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_CONES_TO_OKLAB = numpy.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def to_oklab(colours: numpy.ndarray) -> numpy.ndarray:
    """(..., 3) sRGB 0..255 -> (..., 3) Oklab: lightness 0..1, green-red, blue-yellow."""
    cones = _linear_light(numpy.asarray(colours) / 255) @ _LIGHT_TO_CONES.T
    return numpy.cbrt(cones) @ _CONES_TO_OKLAB.T


def _from_oklab(values: numpy.ndarray) -> numpy.ndarray:
    """(..., 3) Oklab -> (..., 3) uint8 sRGB, the reverse of `to_oklab`."""
    cones = (values @ numpy.linalg.inv(_CONES_TO_OKLAB).T) ** 3
    light = cones @ numpy.linalg.inv(_LIGHT_TO_CONES).T
    return numpy.rint(numpy.clip(_screen_values(light), 0, 1) * 255).astype(numpy.uint8)


def _table(points: str) -> numpy.ndarray:
    """A (256, 3) uint8 table through evenly spaced colours, written as `rrggbb rrggbb ...`, straight in Oklab."""
    stops = numpy.array([list(bytes.fromhex(point)) for point in points.split()])
    lab = to_oklab(stops)  # (P, 3)
    at = numpy.linspace(0, 1, len(stops))
    strength = numpy.linspace(0, 1, 256)
    return _from_oklab(numpy.stack([numpy.interp(strength, at, lab[:, axis]) for axis in range(3)], axis=1))


COLOUR_MAPS: dict[str, ColourMap] = {
    # Ten points each of viridis and magma (van der Walt and Smith, 2015, released as CC0): lightness rises evenly, and
    # the order of the colours survives colour-blindness and grey print.
    "viridis": ColourMap(
        "Viridis: blue to yellow, safe for colour-blind eyes",
        _table("440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725"),
    ),
    "magma": ColourMap(
        "Magma: black to cream, safe for colour-blind eyes",
        _table("000004 180f3d 440f76 721f81 9e2f7f cd4071 f1605d fd9668 feca8d fcfdbf"),
    ),
    "grey": ColourMap("Grey: black to white", _table("000000 ffffff")),
    "rainbow": ColourMap(
        "Rainbow: blue to red, vivid but not safe for colour-blind eyes",
        _table("2c2a8c 2f6fe0 18b4d8 3fd08a a6dc3c f5cf33 f78a25 d93a1e 8c1113"),
    ),
    "difference": ColourMap(
        "Difference: blue below, orange above",
        _table("0b3c7d 2f74b8 7fb2dc f4f3f0 f0a868 d06a1c 873a05"),
        diverging=True,
    ),
}


def colour_map_named(name: str) -> ColourMap:
    """The colour map of that name; `ValueError` with the known names otherwise."""
    if name not in COLOUR_MAPS:
        raise ValueError(f"colour_map must be one of {', '.join(COLOUR_MAPS)}, not {name!r}")
    return COLOUR_MAPS[name]


# --- A map over its photograph -----------------------------------------------------------------------------------


def scale_map(map: numpy.ndarray, how: MapScale = "max") -> numpy.ndarray:
    """Bring a raw map to strengths from 0 to 1.

    - `max`: divided by its largest value; below zero is 0. Where the map is strong, whatever its size.
    - `minmax`: its smallest value is 0, its largest 1. Shows the most, and makes a difference of nothing look like one.
    - `sum`: each cell's share of the whole, at full strength from `SUM_FULL_STRENGTH` times a uniform share. One scale
      for all maps of one grid.
    - `(low, high)`: these two values are 0 and 1. One scale for anything; for a difference of maps `(-d, d)`.

    Values beyond the scale are cut. A map that the scale cannot tell apart (all zero; constant for `minmax`) is 0, and
    so is a value that is not a number.

    Args:
        map: (H, W) numbers.
        how: one of the above.

    Returns:
        (H, W) float32 from 0 to 1.
    """
    values = numpy.nan_to_num(numpy.asarray(map, dtype=numpy.float64), nan=0.0)
    if values.ndim != 2:
        raise ValueError(f"map must have two axes, height and width, not the shape {values.shape}")
    if how == "max":
        low, high = 0.0, values.max()
    elif how == "minmax":
        low, high = values.min(), values.max()
    elif how == "sum":
        low, high = 0.0, numpy.maximum(values, 0).sum() / values.size * SUM_FULL_STRENGTH
    elif isinstance(how, tuple):
        low, high = how
    else:
        raise ValueError(f"scale must be one of max, minmax, sum or (low, high), not {how!r}")
    if not high > low:
        return numpy.zeros(values.shape, dtype=numpy.float32)
    return numpy.clip((values - low) / (high - low), 0, 1).astype(numpy.float32)


def overlay(
    image: Image.Image,
    map: numpy.ndarray,
    *,
    colour_map: str = "viridis",
    opacity: float = 0.5,
    smooth: bool = True,
    scale: MapScale = "max",
) -> Image.Image:
    """Lay a map over its photograph: its colour where it is strong, the photograph where it is weak.

    The photograph's own colours step back as the opacity rises: on a yellow flower, a strong yellow would otherwise be
    read as the flower.

    The map covers exactly the image's area, as it covers the view that the network saw: give the view, not the
    photograph it was cut from.

    Args:
        image: any size; it is shown in RGB, transparency on white.
        map: (H, W) numbers, raw.
        colour_map: a name in `COLOUR_MAPS`.
        opacity: how far the strongest colour hides the photograph, from 0 (not at all) to 1.
        smooth: whether the map is interpolated between the centres of its cells; otherwise each cell is one rectangle.
        scale: how the map becomes strengths, see `scale_map`. For a diverging colour map zero has to be in the middle:
            `max` then means from minus the largest magnitude to plus that, and `minmax` and `sum` are refused.

    Returns:
        An RGB image of the size of `image`.
    """
    colours = colour_map_named(colour_map)
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be between 0 and 1, not {opacity!r}")
    if colours.diverging:
        scale = _symmetric_scale(map, scale)
    strength = _resize(scale_map(map, scale), image.size, smooth=smooth)  # (H, W) -> (height, width)
    visible = numpy.abs(strength - 0.5) * 2 if colours.diverging else strength
    alpha = opacity * _presence(visible)[:, :, None]  # (height, width, 1)
    photograph = _muted(numpy.asarray(_on_white(image), dtype=numpy.float32), min(1, 1.7 * opacity))
    mixed = (1 - alpha) * photograph + alpha * colours.colours(strength)
    return Image.fromarray(numpy.rint(mixed).astype(numpy.uint8))


def _symmetric_scale(map: numpy.ndarray, scale: MapScale) -> tuple[float, float]:
    """The scale of a difference, with zero in the middle unless the caller gives both ends."""
    if isinstance(scale, tuple):
        return scale
    if scale != "max":
        raise ValueError(f"scale must be max or (low, high) for a diverging colour map, not {scale!r}")
    peak = float(numpy.abs(numpy.nan_to_num(map)).max())
    # Any ends do where there is no difference; equal ones would put it at the bottom of the colours.
    return (-peak, peak) if peak > 0 else (-1.0, 1.0)


def _presence(strength: numpy.ndarray) -> numpy.ndarray:
    """How visible a strength's colour is, both from 0 to 1: nothing at 0, nearly all from 0.6 on (a smooth step)."""
    position = numpy.clip(strength / 0.7, 0, 1)
    return position * position * (3 - 2 * position)


def _muted(photograph: numpy.ndarray, amount: float) -> numpy.ndarray:
    """(height, width, 3) 0..255: each pixel towards its own grey by `amount`, 0 to 1, and a little darker."""
    grey = photograph @ numpy.array([0.299, 0.587, 0.114], dtype=numpy.float32)  # Rec. 601 luma, as Pillow's mode L
    # Darker, because the strong end of most colour maps is bright and has to stand out on white petals too.
    return ((1 - amount) * photograph + amount * grey[:, :, None]) * (1 - 0.25 * amount)


def _resize(strength: numpy.ndarray, size: tuple[int, int], *, smooth: bool) -> numpy.ndarray:
    """(H, W) -> (height, width) of `size` = (width, height), the corners of one on the corners of the other."""
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    enlarged = Image.fromarray(strength).resize(size, method)
    # A cubic runs past its end points.
    return numpy.clip(numpy.asarray(enlarged), 0, 1)


def _on_white(image: Image.Image) -> Image.Image:
    """The image in RGB, with white behind what is transparent."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")
    return image.convert("RGB")


# --- Sheets of panels --------------------------------------------------------------------------------------------


def side_by_side(
    panels: Sequence[tuple[str, Image.Image]], *, columns: int | None = None, caption: str | None = None
) -> Image.Image:
    """Set pictures beside each other on white paper, each under its title.

    All panels get one frame, as large as the largest picture; a smaller one is centred in it, not enlarged. Titles and
    caption are broken into lines that fit.

    Args:
        panels: title and picture of each, in reading order.
        columns: how many in a row; left out, all in one row up to six, then rows of about equal length.
        caption: a sentence or two below the panels.

    Returns:
        An RGB image.
    """
    if not panels:
        raise ValueError("panels must hold at least one picture")
    if columns is None:
        rows = -(-len(panels) // 6)
        columns = -(-len(panels) // rows)
    if columns < 1:
        raise ValueError(f"columns must be 1 or more, not {columns!r}")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)

    width = max(picture.width for _, picture in panels)
    height = max(picture.height for _, picture in panels)
    # Type and space follow the panels' size, so that a sheet looks the same at 224 and at 896 pixels.
    unit = max(width, height) / 224
    size = max(11, round(13 * unit))
    title_font = ImageFont.load_default(size)
    caption_font = ImageFont.load_default(max(10, round(12 * unit)))
    margin, gap, row_gap = round(28 * unit), round(16 * unit), round(24 * unit)

    titles = [break_lines(title, title_font, width) for title, _ in panels]
    title_height = text_height(max(len(lines) for lines in titles), size)
    title_space = title_height + round(7 * unit) if title_height else 0
    paper_width = 2 * margin + columns * width + (columns - 1) * gap
    caption_lines = break_lines(caption or "", caption_font, paper_width - 2 * margin)
    caption_height = text_height(len(caption_lines), caption_font.size)
    caption_space = caption_height + round(18 * unit) if caption_lines else 0
    paper_height = 2 * margin + rows * (title_space + height) + (rows - 1) * row_gap + caption_space

    sheet = Image.new("RGB", (paper_width, paper_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for position, ((_, picture), lines) in enumerate(zip(panels, titles, strict=True)):
        row, column = divmod(position, columns)
        left = margin + column * (width + gap)
        top = margin + row * (title_space + height + row_gap)
        # A short title stands on its picture, level with the last line of a long one.
        first_line = top + title_height - text_height(len(lines), size)
        draw_lines(draw, (left, first_line), lines, title_font, INK)
        inset = ((width - picture.width) // 2, (height - picture.height) // 2)
        sheet.paste(_on_white(picture), (left + inset[0], top + title_space + inset[1]))
    draw_lines(draw, (margin, paper_height - margin - caption_height), caption_lines, caption_font, SOFT_INK)
    return sheet


def colour_bar(
    colour_map: str = "viridis",
    *,
    width: int = 224,
    low: str = "weak",
    high: str = "strong",
    title: str | None = None,
) -> Image.Image:
    """A bar that says what the colours mean, for beside or below a sheet.

    Args:
        colour_map: a name in `COLOUR_MAPS`.
        width: of the whole picture, in pixels; its height follows.
        low: what the left end stands for.
        high: what the right end stands for.
        title: what is shown, between the two.

    Returns:
        An RGB image.
    """
    table = colour_map_named(colour_map).table
    unit = width / 224
    size = max(10, round(11 * unit))
    font = ImageFont.load_default(size)
    bar_height, space = max(6, round(10 * unit)), max(3, round(4 * unit))
    picture = Image.new("RGB", (width, bar_height + space + text_height(1, size)), PAPER)
    row = Image.fromarray(table[None])  # (1, 256, 3)
    picture.paste(row.resize((width, bar_height), Image.Resampling.BILINEAR), (0, 0))
    draw = ImageDraw.Draw(picture)
    # The bar's own end may be as white as the paper.
    draw.rectangle((0, 0, width - 1, bar_height - 1), outline=HAIRLINE)
    baseline = bar_height + space
    draw.text((0, baseline), low, font=font, fill=SOFT_INK)
    draw.text((width, baseline), high, font=font, fill=SOFT_INK, anchor="ra")
    if title:
        draw.text((width / 2, baseline), title, font=font, fill=INK, anchor="ma")
    return picture


def break_lines(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break a text into lines no wider than `width`: between words, inside one only where it is too long by itself."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            extended = f"{line} {word}" if line else word
            if font.getlength(extended) <= width:
                line = extended
                continue
            if line:
                lines.append(line)
            while font.getlength(word) > width and len(word) > 1:
                fitting = max(1, max(n for n in range(len(word)) if font.getlength(word[:n]) <= width))
                lines.append(word[:fitting])
                word = word[fitting:]
            line = word
        lines.append(line)
    return lines


def text_height(lines: int, size: float) -> int:
    """The height in pixels of that many lines of type of that size."""
    return round(lines * size * 1.25)


def draw_lines(
    draw: ImageDraw.ImageDraw,
    position: tuple[float, float],
    lines: Sequence[str],
    font: ImageFont.FreeTypeFont,
    colour: Colour,
) -> None:
    """Write lines below each other, the first one's top left corner at `position`."""
    for number, line in enumerate(lines):
        draw.text((position[0], position[1] + text_height(number, font.size)), line, font=font, fill=colour)
