"""Pictures to take away: one epoch of an image under its maps, all epochs as an animation, the maps as numbers.

They show what the page shows, with the same scales, and say on the picture what the colours mean.
"""

from __future__ import annotations

import functools
import io
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sam_core.overlay import (
    COLOUR_MAPS,
    INK,
    PAPER,
    SOFT_INK,
    SUM_FULL_STRENGTH,
    break_lines,
    colour_bar,
    draw_lines,
    overlay,
    text_height,
)
from sam_core.pseudo_attention import PSEUDO_ATTENTION
from sam_core.recording.layout import MAP_KINDS

Timeline = Mapping[str, Any]
Distributions = Mapping[str, np.ndarray | None]

#: How maps become colours, each with the sentence that a sheet says about it.
SCALES = {
    "distribution": "Colour: each cell's share of the attention, as the loss compares the maps. One scale for all maps "
    "and epochs.",
    "frame": "Colour: raw values. Each map has a scale of its own, up to its largest value at this epoch.",
    "epochs": "Colour: raw values. Each map has a scale of its own, up to its largest value at any epoch.",
    "maps": "Colour: raw values. One scale for all maps and epochs.",
}
TITLES = {"learned": "Learned attention", "energy": "Feature energy"}
PREDICTED = ", predicted class"
MOST_COLUMNS = 6
#: Milliseconds that an animation shows a frame, and its last one.
FRAME_MS, LAST_FRAME_MS = 500, 1500
#: Frames from which an animation's palette is chosen.
PALETTE_FRAMES = 8
#: Fonts of common systems for names that the font which comes with Pillow, English only, cannot write.
WIDE_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "segoeui.ttf")


@dataclass(frozen=True)
class SheetSettings:
    """What a sheet shows.

    Attributes:
        maps: the kinds of map beside the photograph, from left to right.
        scale: one of `SCALES`.
        opacity: how far the strongest colour hides the photograph, from 0 to 1.
        colour_map: a sequential one of `COLOUR_MAPS`.
        smooth: whether maps are interpolated between their cells.
        difference: two kinds of map; a last panel shows the first minus the second.
        predicted: whether CAM and Grad-CAM are those of the predicted class, not of the true one.
    """

    maps: tuple[str, ...] = ("cam", "gradcam", "learned")
    scale: str = "distribution"
    opacity: float = 0.6
    colour_map: str = "viridis"
    smooth: bool = True
    difference: tuple[str, str] | None = None
    predicted: bool = False

    def __post_init__(self) -> None:
        sequential = [name for name, colours in COLOUR_MAPS.items() if not colours.diverging]
        known = (*MAP_KINDS, *PSEUDO_ATTENTION)
        for kind in (*self.maps, *(self.difference or ())):
            if kind not in known:
                raise ValueError(f"maps: there is no map {kind!r}; choose from {', '.join(known)}")
        if self.difference is not None and len(self.difference) != 2:
            raise ValueError(f"difference: must be two maps, not {len(self.difference)}")
        if self.scale not in SCALES:
            raise ValueError(f"scale: must be one of {', '.join(SCALES)}, not {self.scale!r}")
        if self.colour_map not in sequential:
            raise ValueError(f"colour_map: must be one of {', '.join(sequential)}, not {self.colour_map!r}")
        if not 0 <= self.opacity <= 1:
            raise ValueError(f"opacity: must be between 0 and 1, not {self.opacity!r}")

    @property
    def kinds(self) -> list[str]:
        """The recorded maps that `maps` stands for."""
        return [self.recorded(kind) for kind in self.maps]

    def recorded(self, kind: str) -> str:
        """The recorded map that a kind stands for: with `predicted`, CAM is that of the predicted class."""
        return f"{kind}_predicted" if self.predicted and f"{kind}_predicted" in MAP_KINDS else kind


# --- Sheets -------------------------------------------------------------------------------------------------------


def draw_frame(
    picture: Image.Image,
    timeline: Timeline,
    distributions: Distributions,
    point: int,
    settings: SheetSettings,
    *,
    title: str,
    caption: str,
) -> Image.Image:
    """Draw one epoch: the photograph and the maps on it side by side, with what their colours mean.

    Args:
        picture: the view that the maps cover; the panels get its size.
        timeline: from `Run.timeline`: kinds of map, each (E, H, W) or None, and `epochs`.
        distributions: from `loss_distributions`.
        point: which of the E recorded epochs.
        settings: what is shown and how.
        title: above the panels; the epoch stands beside it.
        caption: below the panels.

    Returns:
        An RGB image; its size is the same for every point if the captions have the same number of lines.
    """
    return _Sheet(picture, timeline, distributions, settings, title, [caption]).draw(point, caption)


def draw_animation(
    picture: Image.Image,
    timeline: Timeline,
    distributions: Distributions,
    settings: SheetSettings,
    *,
    title: str,
    caption: str | Callable[[int], str],
) -> bytes:
    """Draw all epochs as a GIF that loops, the last one held longer.

    Args:
        picture: the view that the maps cover.
        timeline: from `Run.timeline`, with at least one epoch.
        distributions: from `loss_distributions`.
        settings: what is shown and how.
        title: above the panels; the epoch stands beside it.
        caption: below the panels, or a function that gives it for each point.
    """
    points = range(len(timeline["epochs"]))
    captions = [caption if isinstance(caption, str) else caption(point) for point in points]
    sheet = _Sheet(picture, timeline, distributions, settings, title, captions)
    chosen = sorted({round(place) for place in np.linspace(0, len(points) - 1, PALETTE_FRAMES)})
    palette = _palette([sheet.draw(point, captions[point]) for point in chosen])
    frames = (_reduced(sheet.draw(point, captions[point]), palette) for point in points)
    file = io.BytesIO()
    next(frames).save(
        file,
        "GIF",
        save_all=True,
        append_images=frames,
        duration=[FRAME_MS] * (len(points) - 1) + [LAST_FRAME_MS],
        loop=0,
        disposal=1,
        optimize=False,
    )
    return file.getvalue()


def maps_as_npz(timeline: Timeline) -> bytes:
    """The raw maps of all epochs as a NumPy archive: each kind (E, H, W), `epochs`, `predicted`, `confidence`."""
    file = io.BytesIO()
    np.savez_compressed(file, **{name: values for name, values in timeline.items() if values is not None})
    return file.getvalue()


def _palette(frames: Sequence[Image.Image]) -> Image.Image:
    """256 colours for all frames of an animation: with a palette for each, what does not move would flicker.

    An octree gives the few pixels of the colour bars their share, which a median cut does not. It makes the paper a
    shade off, which is put right.
    """
    column = Image.new("RGB", (frames[0].width, sum(frame.height for frame in frames)))
    for number, frame in enumerate(frames):
        column.paste(frame, (0, number * frame.height))
    palette = column.quantize(256, method=Image.Quantize.FASTOCTREE)
    colours = np.array(palette.getpalette(), dtype=int).reshape(-1, 3)
    colours[np.abs(colours - PAPER).sum(axis=1).argmin()] = PAPER
    palette.putpalette(colours.ravel().tolist())
    return palette


def _reduced(frame: Image.Image, palette: Image.Image) -> Image.Image:
    """A frame in the palette's colours. Error diffusion would let noise crawl over what does not move."""
    return frame.quantize(palette=palette, dither=Image.Dither.NONE)


# --- Panels -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Panel:
    """One picture of a sheet, its title and, where it shows numbers, the bar that explains its colours."""

    title: str
    picture: Image.Image
    bar: Image.Image | None = None


class _Panels:
    """Makes the panels of any epoch of one image."""

    def __init__(
        self, picture: Image.Image, timeline: Timeline, distributions: Distributions, settings: SheetSettings
    ) -> None:
        self.picture = picture.convert("RGB")
        self.timeline = timeline
        self.settings = settings
        #: What is drawn: (E, H, W) or None by recorded kind.
        self.values = distributions if settings.scale == "distribution" else timeline

    def at(self, point: int) -> list[_Panel]:
        """The panels of one epoch."""
        maps = [self._map(kind, point) for kind in self.settings.kinds]
        difference = [self._difference(point)] if self.settings.difference else []
        return [_Panel("Photograph", self.picture), *maps, *difference]

    def titles(self) -> list[list[str]]:
        """For each panel, every title that it has at some epoch."""
        points = range(len(self.timeline["epochs"]))
        maps = [sorted({self._title(kind, point) for point in points}) for kind in self.settings.kinds]
        return [["Photograph"], *maps, *([[self._difference_title()]] if self.settings.difference else [])]

    def _map(self, kind: str, point: int) -> _Panel:
        values = self.values.get(kind)
        if values is None:
            return _Panel(self._title(kind, point), self.picture.convert("L"))
        high = self._high(kind, point)
        drawn = self._laid_over(values[point], self.settings.colour_map, (0.0, high))
        cut = " or more" if self.settings.scale == "distribution" else ""
        bar = self._bar(self.settings.colour_map, "0", self._text(high) + cut) if high else None
        return _Panel(self._title(kind, point), drawn, bar)

    def _high(self, kind: str, point: int) -> float:
        """The value at which a map's colour is the strongest."""
        if self.settings.scale == "distribution":
            return SUM_FULL_STRENGTH / self.values[kind][point].size
        if self.settings.scale == "frame":
            return _largest(self.values[kind][point])
        shown = [kind] if self.settings.scale == "epochs" else self.settings.kinds
        return max(_largest(self.values[each]) for each in shown if self.values.get(each) is not None)

    def _difference(self, point: int) -> _Panel:
        title = self._difference_title()
        first, second = (self.values.get(self.settings.recorded(kind)) for kind in self.settings.difference)
        if first is None or second is None:
            return _Panel(title, self.picture.convert("L"))
        change = first.astype(np.float32) - second  # (E, H, W)
        if self.settings.scale == "distribution":
            high = SUM_FULL_STRENGTH / change[point].size / 2
        else:
            high = _largest(np.abs(change[point] if self.settings.scale == "frame" else change))
        # Where nothing differs any ends do; equal ones would put zero at the end of the colours.
        drawn = self._laid_over(change[point], "difference", (-high, high) if high else (-1.0, 1.0))
        return _Panel(title, drawn, self._bar("difference", f"-{self._text(high)}", f"+{self._text(high)}", "0"))

    def _laid_over(self, values: np.ndarray, colour_map: str, scale: tuple[float, float]) -> Image.Image:
        settings = self.settings
        return overlay(
            self.picture, values, colour_map=colour_map, opacity=settings.opacity, smooth=settings.smooth, scale=scale
        )

    def _bar(self, colour_map: str, low: str, high: str, middle: str | None = None) -> Image.Image:
        return colour_bar(colour_map, width=self.picture.width, low=low, high=high, title=middle)

    def _text(self, value: float) -> str:
        return f"{100 * value:.3g} %" if self.settings.scale == "distribution" else f"{value:.3g}"

    def _title(self, kind: str, point: int) -> str:
        raw = self.timeline.get(kind)
        if raw is None:
            return f"{_label(kind)}: {_absence(kind)}"
        return _label(kind) if (raw[point] > 0).any() else f"{_label(kind)}: empty"

    def _difference_title(self) -> str:
        kinds = [self.settings.recorded(kind) for kind in self.settings.difference]
        missing = [kind for kind in kinds if self.timeline.get(kind) is None]
        first, second = (_plain_label(kind) for kind in kinds)
        if kinds[1] in TITLES:  # words, not a method's name
            second = second[0].lower() + second[1:]
        title = f"{first} minus {second}" + (PREDICTED if any(map(_is_predicted, kinds)) else "")
        return f"{title}: {_absence(missing[0])}" if missing else title


def _is_predicted(kind: str) -> bool:
    return kind.endswith("_predicted")


def _plain_label(kind: str) -> str:
    """A map's name for people, whichever class it is for."""
    plain = kind.removesuffix("_predicted")
    return TITLES.get(plain) or PSEUDO_ATTENTION[plain].label


def _label(kind: str) -> str:
    return _plain_label(kind) + (PREDICTED if _is_predicted(kind) else "")


def _absence(kind: str) -> str:
    return "this network has none" if kind in MAP_KINDS else "not recorded"


def _largest(values: np.ndarray) -> float:
    """The largest finite value, at least 0."""
    return float(np.nan_to_num(values, posinf=0.0).max(initial=0.0))


# --- Layout -------------------------------------------------------------------------------------------------------


class _Sheet:
    """The layout of all sheets of one image: nothing moves from one epoch to the next but what the maps do."""

    def __init__(
        self,
        picture: Image.Image,
        timeline: Timeline,
        distributions: Distributions,
        settings: SheetSettings,
        title: str,
        captions: Sequence[str],
    ) -> None:
        if len(timeline["epochs"]) == 0:
            raise ValueError("timeline: no epoch has been recorded yet")
        self.panels = _Panels(picture, timeline, distributions, settings)
        self.epochs = [int(epoch) for epoch in timeline["epochs"]]
        self.width, self.height = picture.size
        titles = self.panels.titles()
        rows = -(-len(titles) // MOST_COLUMNS)
        self.columns = -(-len(titles) // rows)
        self._choose_type(" ".join([title, *captions]))
        self._measure(title, titles, rows, captions, SCALES[settings.scale])

    def _choose_type(self, text: str) -> None:
        """Type and space follow the panels' size, so that a sheet looks the same at 224 and at 896 pixels."""
        self.unit = max(self.width, self.height) / 224
        face = _face(text)
        self.heading, self.title, self.small = (
            face(max(smallest, round(size * self.unit))) for size, smallest in ((17, 13), (13, 11), (11, 10))
        )
        self.margin, self.gap, self.row_gap = (round(space * self.unit) for space in (28, 16, 22))
        self.paper_width = 2 * self.margin + self.columns * (self.width + self.gap) - self.gap

    def _measure(
        self, title: str, titles: Sequence[Sequence[str]], rows: int, captions: Sequence[str], scale: str
    ) -> None:
        """Break every text into lines, and find out where things stand."""
        across = self.paper_width - 2 * self.margin
        epochs_width = self.small.getlength("Epoch 00000") + self.gap
        self.heading_lines = break_lines(_writable(title, self.heading), self.heading, across - epochs_width)
        self.scale_lines = break_lines(scale, self.small, self.width)
        lines = max(len(break_lines(each, self.title, self.width)) for variants in titles for each in variants)
        caption_lines = max(len(self._caption_lines(caption)) for caption in captions)

        self.heading_height = text_height(max(1, len(self.heading_lines)), self.heading.size) + round(12 * self.unit)
        self.title_height = text_height(lines, self.title.size)
        self.title_space = self.title_height + round(6 * self.unit)
        self.legend_top = self.title_space + self.height + round(7 * self.unit)
        bar_height = colour_bar(width=self.width).height
        self.row_height = self.legend_top + max(bar_height, text_height(len(self.scale_lines), self.small.size))
        self.caption_top = self.margin + self.heading_height + rows * (self.row_height + self.row_gap) - self.row_gap
        caption_space = round(14 * self.unit) + text_height(caption_lines, self.small.size) if caption_lines else 0
        self.paper_height = self.caption_top + caption_space + self.margin

    def draw(self, point: int, caption: str) -> Image.Image:
        """The sheet of one epoch."""
        if not 0 <= point < len(self.epochs):
            raise ValueError(f"point: must be from 0 to {len(self.epochs) - 1}, not {point}")
        sheet = Image.new("RGB", (self.paper_width, self.paper_height), PAPER)
        draw = ImageDraw.Draw(sheet)
        draw_lines(draw, (self.margin, self.margin), self.heading_lines, self.heading, INK)
        # On the heading's own base line, at the right edge.
        base = self.margin + self.heading.getmetrics()[0]
        right = self.paper_width - self.margin
        draw.text((right, base), f"Epoch {self.epochs[point]}", font=self.title, fill=INK, anchor="rs")
        for panel, (left, top) in zip(self.panels.at(point), self._places(), strict=False):
            self._draw_panel(sheet, draw, panel, left, top)
        lines = self._caption_lines(caption)
        draw_lines(draw, (self.margin, self.caption_top + round(14 * self.unit)), lines, self.small, SOFT_INK)
        return sheet

    def _draw_panel(self, sheet: Image.Image, draw: ImageDraw.ImageDraw, panel: _Panel, left: int, top: int) -> None:
        lines = break_lines(panel.title, self.title, self.width)
        # A short title stands on its picture, level with the last line of a long one.
        first_line = top + self.title_height - text_height(len(lines), self.title.size)
        draw_lines(draw, (left, first_line), lines, self.title, INK)
        sheet.paste(panel.picture, (left, top + self.title_space))
        below = (left, top + self.legend_top)
        if panel.bar is not None:
            sheet.paste(panel.bar, below)
        elif panel.picture is self.panels.picture:
            draw_lines(draw, below, self.scale_lines, self.small, SOFT_INK)

    def _places(self) -> Iterator[tuple[int, int]]:
        """The upper left corner of each panel, in reading order."""
        top = self.margin + self.heading_height
        while True:
            for column in range(self.columns):
                yield self.margin + column * (self.width + self.gap), top
            top += self.row_height + self.row_gap

    def _caption_lines(self, caption: str) -> list[str]:
        return break_lines(_writable(caption, self.small), self.small, self.paper_width - 2 * self.margin)


def _face(text: str) -> Callable[[int], ImageFont.FreeTypeFont]:
    """A typeface that can write a text, by size: Pillow's own where that will do."""
    if text.isascii():
        return ImageFont.load_default
    return functools.partial(_first_font, WIDE_FONTS)


def _first_font(names: Sequence[str], size: int) -> ImageFont.FreeTypeFont:
    for name in names:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue  # not on this system
    return ImageFont.load_default(size)


def _writable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The text, or where the font can write English only, the text without its accents."""
    if text.isascii() or font.getname() != ImageFont.load_default(font.size).getname():
        return text
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
