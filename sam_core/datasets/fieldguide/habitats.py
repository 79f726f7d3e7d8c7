"""Painting a habitat in three layers: a soft backdrop, the stage on which the bird stands, a little in front of it.

The backdrop is painted small, blurred and enlarged, as a lens would show what lies far behind; stage and front are
drawn sharp. A habitat knows where the bird's feet are and puts a perch there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sam_core.datasets.fieldguide.drawing import (
    SIZE,
    Dice,
    Points,
    darker,
    ellipse,
    lighter,
    mix,
    ribbon,
    smooth,
    varied,
    whole_pixels,
)
from sam_core.datasets.fieldguide.species import Colour

#: The backdrop is painted at half the image's size, the layers before it at twice.
COARSE = 2
FINE = 2


class Layer:
    """Outlines in pixels of the finished image, kept until they are drawn all at once."""

    def __init__(self) -> None:
        self._shapes: list[Points] = []
        self._colours: list[Colour] = []

    def shape(self, points: Points | list[tuple[float, float]], colour: Colour) -> None:
        """Fill a closed outline."""
        self._shapes.append(np.asarray(points, dtype=np.float64))
        self._colours.append(colour)

    def stroke(self, points: list[tuple[float, float]], widths: tuple[float, ...], colour: Colour) -> None:
        """A tapering curve through the points."""
        self._shapes.append(ribbon(points, widths, steps=4))
        self._colours.append(colour)

    def spot(self, x: float, y: float, across: float, down: float, colour: Colour) -> None:
        """A filled ellipse with these half axes."""
        self._shapes.append(ellipse((x, y), across, down))
        self._colours.append(colour)

    def ground(self, heights: list[float], colour: Colour) -> None:
        """Everything below a curve that runs from the left edge to the right."""
        step = (SIZE + 40) / (len(heights) - 1)
        line = smooth([(k * step - 20, height) for k, height in enumerate(heights)], closed=False)
        self.shape(np.concatenate([line, [(SIZE + 20, SIZE + 20), (-20, SIZE + 20)]]), colour)

    def draw_on(self, image: Image.Image, scale: float, corner: tuple[int, int] = (0, 0)) -> None:
        """Draw everything on an image that is `scale` times the finished one, from `corner` on."""
        if self._shapes:
            draw = ImageDraw.Draw(image)
            for outline, colour in zip(whole_pixels(self._shapes, scale, corner), self._colours, strict=True):
                draw.polygon(outline, fill=colour)

    def paint_over(self, image: Image.Image) -> None:
        """Draw everything over a finished image with smooth edges: where it falls, enlarged and reduced again."""
        if not self._shapes:
            return
        points = np.concatenate(self._shapes)
        low = np.clip(np.floor(points.min(axis=0)) - 1, 0, SIZE).astype(int).tolist()
        high = np.clip(np.ceil(points.max(axis=0)) + 2, 0, SIZE).astype(int).tolist()
        window = (*low, *high)
        if low[0] >= high[0] or low[1] >= high[1]:
            return
        part = image.crop(window)
        part = part.resize((part.width * FINE, part.height * FINE), Image.Resampling.NEAREST)
        self.draw_on(part, FINE, (low[0], low[1]))
        image.paste(part.reduce(FINE), window)

    def wipe(self, parts: Image.Image) -> None:
        """Clear the part map, which has the finished image's size, where this layer covers it."""
        if self._shapes:
            draw = ImageDraw.Draw(parts)
            # A pixel stands for its centre
            for outline in whole_pixels(self._shapes, 1, (0.5, 0.5)):
                draw.polygon(outline, fill=0)


@dataclass(frozen=True)
class Stand:
    """Where the bird stands: its feet, in pixels, the length of its body and the way it faces."""

    x: float
    y: float
    unit: float
    facing: int


def _gradient(*stops: tuple[float, Colour]) -> Image.Image:
    """Colours blended from the top (0) to the bottom (1), at the backdrop's size."""
    side = SIZE // COARSE
    rows = np.linspace(0, 1, side)
    places = [place for place, _ in stops]
    bands = np.stack([np.interp(rows, places, [colour[c] for _, colour in stops]) for c in range(3)], axis=1)
    return Image.fromarray(np.repeat(np.rint(bands).astype(np.uint8)[:, None], side, axis=1))


def _soft(image: Image.Image, layer: Layer, radius: float) -> Image.Image:
    layer.draw_on(image, 1 / COARSE)
    # One pass: enlarging smooths the rest
    return image.filter(ImageFilter.BoxBlur(radius * 1.4))


def _wavy(dice: Dice, level: float, swing: float, count: int = 6) -> list[float]:
    return [level + dice.between(-swing, swing) for _ in range(count)]


def _twig(layer: Layer, dice: Dice, stand: Stand, colour: Colour, thickness: float) -> list[tuple[float, float]]:
    """A branch from one edge of the image to beyond the feet; its top passes under them."""
    side = dice.pick((1, -1))
    tilt = dice.between(-0.16, 0.16)
    y = stand.y + thickness * 0.42
    far, near = (SIZE + 12 if side > 0 else -12), stand.x - side * dice.between(50, 110)
    spine = [
        (far, y + (far - stand.x) * tilt + dice.between(-8, 10)),
        (stand.x + side * 58, y + side * 58 * tilt + dice.between(-3, 3)),
        (stand.x, y),
        (stand.x - side * 24, y - side * 24 * tilt + dice.between(-1, 2)),
        (near, y + (near - stand.x) * tilt + dice.between(-10, 6)),
    ]
    layer.stroke(
        spine, (thickness * 1.5, thickness * 1.15, thickness, thickness * 0.85, thickness * 0.35), darker(colour, 0.45)
    )
    layer.stroke(
        [(x, y - thickness * 0.16) for x, y in spine],
        (thickness * 1.1, thickness * 0.8, thickness * 0.66, thickness * 0.5, thickness * 0.15),
        colour,
    )
    layer.stroke(
        [(x, y - thickness * 0.30) for x, y in spine],
        (thickness * 0.4, thickness * 0.3, thickness * 0.22, thickness * 0.15, 0.3),
        lighter(colour, 0.22),
    )
    for _ in range(2):
        # Side twigs leave the branch forward, where it is clear of the bird
        k, t = dice.pick((0, 3)), dice.between(0.2, 0.8)
        x, yy = (spine[k][c] + (spine[k + 1][c] - spine[k][c]) * t for c in (0, 1))
        reach, rise = dice.between(22, 42), dice.pick((-1, 1)) * dice.between(10, 26)
        bent = [(x, yy), (x - side * reach * 0.5, yy + rise * 0.7), (x - side * reach, yy + rise)]
        layer.stroke(bent, (thickness * 0.5, thickness * 0.32, 0.8), darker(colour, 0.35))
    return spine


# Reeds: water, mist, and stems of ochre and green


def _reeds_backdrop(dice: Dice) -> Image.Image:
    sky = varied(dice, dice.pick(((236, 214, 178), (206, 220, 216), (240, 222, 196))), 10)
    water = varied(dice, dice.pick(((128, 148, 138), (150, 152, 126))), 10)
    horizon = dice.between(0.50, 0.72)
    image = _gradient(
        (0, mix(sky, (150, 176, 190), 0.45)),
        (horizon - 0.1, sky),
        (horizon, mix(sky, water, 0.5)),
        (1, darker(water, 0.25)),
    )
    layer = Layer()
    level = horizon * SIZE
    layer.ground(_wavy(dice, level - 16, 6, 8), mix((126, 128, 88), sky, 0.55))
    layer.shape(
        np.array([(-9, level + 2), (SIZE + 9, level + 2), (SIZE + 9, SIZE + 9), (-9, SIZE + 9)]), mix(water, sky, 0.25)
    )
    for _ in range(36):
        x, tall = dice.between(-10, SIZE + 10), dice.between(50, 150)
        tint = mix(dice.pick(((150, 128, 66), (112, 118, 62), (186, 158, 94))), sky, dice.between(0.15, 0.5))
        layer.stroke(
            [(x, level + 26), (x + dice.between(-6, 6), level - tall * 0.5), (x + dice.between(-18, 18), level - tall)],
            (5.0, 4.0, 1.6),
            tint,
        )
    return _soft(image, layer, 1.6)


def _reeds_stage(layer: Layer, dice: Dice, stand: Stand) -> None:
    for _ in range(9):
        x, tall = dice.between(0, SIZE), dice.between(90, 210)
        tint = varied(dice, dice.pick(((168, 142, 78), (128, 130, 70), (196, 168, 106))), 12)
        top = (x + dice.between(-24, 24), SIZE - tall)
        layer.stroke([(x, SIZE + 8), (x + dice.between(-5, 5), SIZE - tall * 0.5), top], (3.6, 3.0, 1.6), tint)
        if dice() < 0.45:
            layer.stroke(
                [top, (top[0] + 1, top[1] - 12), (top[0] + 2, top[1] - 25)], (2.0, 8.5, 7.5, 2.0), (104, 70, 44)
            )
        bend = dice.pick((1, -1)) * dice.between(18, 44)
        y = SIZE - tall * dice.between(0.25, 0.6)
        layer.stroke(
            [(x, y), (x + bend * 0.5, y - 34), (x + bend, y - dice.between(16, 44))],
            (1.5, 4.6, 0.6),
            darker(tint, 0.12),
        )
    lean = dice.pick((1, -1)) * dice.between(0.16, 0.34)
    # A stem bent almost level under the bird's weight, rooted outside the picture
    side = 1 if lean > 0 else -1
    stem = varied(dice, (178, 150, 84), 10)
    y = stand.y + 3
    spine = [
        (stand.x - side * 150, y + 92),
        (stand.x - side * 70, y + 18),
        (stand.x, y),
        (stand.x + side * 60, y - 4),
        (stand.x + side * 104, y + 12),
    ]
    layer.stroke(spine, (9, 8, 7.4, 5, 3), darker(stem, 0.42))
    layer.stroke([(x, yy - 1.0) for x, yy in spine], (6.6, 5.6, 5.0, 3.2, 1.6), stem)
    layer.stroke([(x, yy - 2.0) for x, yy in spine], (2.2, 1.8, 1.5, 1.0, 0.5), lighter(stem, 0.4))
    # Its plume hangs from the end
    x, y = spine[-1]
    for k in range(8):
        tuft = [
            (x - side * 2.2 * k, y - 1.2 * k),
            (x + side * (7 - 2 * k), y + 9 - k),
            (x + side * (9 - 3 * k), y + 24 - 1.5 * k),
        ]
        layer.stroke(tuft, (1.0, 3.6, 0.6), mix((132, 92, 62), stem, (k % 3) / 3))


def _reeds_front(layer: Layer, dice: Dice, stand: Stand) -> None:
    for _ in range(dice.whole(2, 4)):
        x = dice.between(0, SIZE)
        tall = dice.between(60, 150) if abs(x - stand.x) > 46 else dice.between(40, 90)
        tint = varied(dice, dice.pick(((120, 128, 58), (160, 142, 72))), 12)
        lean = dice.between(-34, 34)
        spine = [(x, SIZE + 8), (x + lean * 0.25, SIZE - tall * 0.55), (x + lean, SIZE - tall)]
        layer.stroke(spine, (6.0, 5.2, 0.8), darker(tint, 0.3))
        layer.stroke([(a - 0.8, b) for a, b in spine], (3.0, 2.6, 0.4), lighter(tint, 0.12))


# Snow: cold light, drifts, distant firs


def _fir(layer: Layer, x: float, y: float, tall: float, colour: Colour, snow: Colour | None) -> None:
    for tier in range(4):
        top, bottom = y - tall + tier * tall * 0.2, y - tall * 0.52 + tier * tall * 0.18
        half = tall * (0.12 + 0.065 * tier)
        layer.shape(
            np.array(
                [
                    (x, top),
                    (x + half, bottom),
                    (x + half * 0.3, bottom - 3),
                    (x - half * 0.3, bottom - 3),
                    (x - half, bottom),
                ]
            ),
            colour,
        )
        if snow is not None:
            layer.shape(
                np.array(
                    [
                        (x, top),
                        (x + half * 0.7, bottom - tall * 0.06),
                        (x, bottom - tall * 0.12),
                        (x - half * 0.8, bottom - tall * 0.03),
                    ]
                ),
                snow,
            )


def _snow_backdrop(dice: Dice) -> Image.Image:
    sky = varied(dice, dice.pick(((168, 194, 220), (196, 208, 224), (224, 206, 214))), 10)
    snow = varied(dice, (232, 238, 246), 6)
    horizon = dice.between(0.48, 0.68)
    image = _gradient((0, mix(sky, (116, 150, 190), 0.35)), (horizon, lighter(sky, 0.45)), (1, snow))
    layer = Layer()
    level = horizon * SIZE
    layer.ground(_wavy(dice, level - 34, 16), mix((150, 172, 200), sky, 0.45))
    for _ in range(13):
        x, tall = dice.between(-10, SIZE + 10), dice.between(34, 88)
        _fir(layer, x, level + 6, tall, mix((70, 92, 112), sky, dice.between(0.15, 0.5)), lighter(sky, 0.5))
    layer.ground(_wavy(dice, level, 5), mix(snow, (186, 206, 232), 0.3))
    layer.ground(_wavy(dice, level + 26, 9), snow)
    return _soft(image, layer, 1.5)


def _snow_stage(layer: Layer, dice: Dice, stand: Stand) -> None:
    layer.ground(_wavy(dice, SIZE - dice.between(8, 30), 8), (244, 248, 252))
    if stand.y > 196 or dice() < 0.25:
        y = stand.y + 2
        left, right = [y + dice.between(4, 20) for _ in range(2)]
        layer.shape(
            np.concatenate(
                [
                    smooth(
                        [
                            (-40, left + 16),
                            (stand.x - 90, left),
                            (stand.x - 36, y + 1),
                            (stand.x, y - 2),
                            (stand.x + 40, y + 1),
                            (stand.x + 96, right),
                            (SIZE + 40, right + 16),
                        ],
                        closed=False,
                    ),
                    [(SIZE + 40, SIZE + 30), (-40, SIZE + 30)],
                ]
            ),
            (240, 245, 252),
        )
        layer.shape(ellipse((stand.x - 6, y + 3), stand.unit * 0.42, 4.5), (188, 204, 228))
    else:
        spine = _twig(layer, dice, stand, (104, 84, 76), dice.between(8, 11))
        layer.stroke([(x, y - 4.5) for x, y in spine], (8, 6.5, 3.2, 5.5, 2), (250, 252, 255))
    for _ in range(2):
        x, y = dice.between(0, SIZE), SIZE + 4
        for k in range(6):
            lean, tall = (k - 2.5) * 7 + dice.between(-4, 4), dice.between(34, 66)
            tip = (x + lean * 1.3, y - tall)
            layer.stroke([(x + lean * 0.1, y), (x + lean * 0.5, y - tall * 0.55), tip], (2.0, 1.4, 0.6), (150, 128, 98))
            layer.spot(*tip, 2.2, 1.8, (248, 250, 255))


def _snow_front(layer: Layer, dice: Dice, stand: Stand) -> None:
    for _ in range(26):
        size = dice.between(0.8, 2.1)
        layer.shape(ellipse((dice.between(0, SIZE), dice.between(0, SIZE)), size, size), (255, 255, 255))
    if dice() < 0.5:
        layer.ground(_wavy(dice, SIZE - 2, 6), (250, 252, 255))


# Forest: green dusk, trunks, points of light


def _forest_backdrop(dice: Dice) -> Image.Image:
    deep = varied(dice, dice.pick(((46, 76, 54), (58, 82, 46), (40, 70, 66))), 8)
    glow = varied(dice, dice.pick(((150, 176, 96), (128, 168, 118), (176, 178, 100))), 10)
    image = _gradient(
        (0, mix(deep, glow, 0.35)), (dice.between(0.3, 0.55), mix(deep, glow, 0.75)), (1, darker(deep, 0.3))
    )
    layer = Layer()
    for _ in range(10):
        x, wide = dice.between(-10, SIZE + 10), dice.between(7, 24)
        tint = mix(darker(deep, 0.25), glow, dice.between(0.0, 0.45))
        layer.shape(
            np.array(
                [
                    (x, -9),
                    (x + wide, -9),
                    (x + wide * 1.15 + dice.between(-8, 8), SIZE + 9),
                    (x - wide * 0.15, SIZE + 9),
                ]
            ),
            tint,
        )
    for _ in range(22):
        size = dice.between(4, 13)
        layer.shape(
            ellipse((dice.between(0, SIZE), dice.between(0, SIZE * 0.75)), size, size),
            mix(deep, lighter(glow, 0.35), dice.between(0.35, 0.9)),
        )
    layer.ground(_wavy(dice, SIZE - dice.between(18, 50), 12), darker(deep, 0.2))
    return _soft(image, layer, 2.2)


def _leaf(layer: Layer, x: float, y: float, dx: float, dy: float, width: float, colour: Colour) -> None:
    spine = [(x, y), (x + dx * 0.5, y + dy * 0.5 - 1), (x + dx, y + dy)]
    layer.stroke(spine, (0.8, width, width * 0.75, 0.4), colour)
    layer.stroke(spine, (0.5, 0.9, 0.4), lighter(colour, 0.3))


def _forest_stage(layer: Layer, dice: Dice, stand: Stand) -> None:
    if dice() < 0.5:
        x, wide = (
            (dice.between(-16, 16) if stand.x > SIZE / 2 else dice.between(SIZE - 40, SIZE - 6)),
            dice.between(24, 40),
        )
        bark = varied(dice, (84, 70, 54), 8)
        layer.shape(np.array([(x, -9), (x + wide, -9), (x + wide + 6, SIZE + 9), (x - 6, SIZE + 9)]), bark)
        for _ in range(16):
            a, b = dice.between(x, x + wide), dice.between(0, SIZE)
            layer.stroke(
                [(a, b), (a + dice.between(-3, 3), b + dice.between(14, 40))],
                (1.0, 2.4, 0.5),
                darker(bark, dice.between(0.15, 0.4)),
            )
    bark = varied(dice, dice.pick(((100, 82, 62), (92, 88, 70), (112, 86, 60))), 8)
    spine = _twig(layer, dice, stand, bark, dice.between(10, 14))
    moss = varied(dice, (110, 138, 58), 12)
    for _ in range(18):
        share = dice()
        k = min(int(share * 4), 3)
        (x0, y0), (x1, y1) = spine[k], spine[k + 1]
        t = share * 4 - k
        x, y = x0 + (x1 - x0) * t, y0 + (y1 - y0) * t - 4
        layer.shape(ellipse((x, y + 1), dice.between(3, 7), dice.between(1.6, 2.6)), darker(moss, dice.between(0, 0.3)))
    for _ in range(9):
        k = dice.pick((0, 1, 3))
        (x0, y0), (x1, y1) = spine[k], spine[k + 1]
        t = dice()
        green = varied(dice, dice.pick(((98, 136, 62), (72, 112, 56), (136, 156, 70))), 12)
        _leaf(
            layer,
            x0 + (x1 - x0) * t,
            y0 + (y1 - y0) * t,
            dice.between(-16, 16),
            dice.between(8, 24),
            dice.between(6, 9),
            green,
        )


def _forest_front(layer: Layer, dice: Dice, stand: Stand) -> None:
    x, y = dice.pick((dice.between(-6, 50), dice.between(SIZE - 50, SIZE + 6))), SIZE + 4
    green = varied(dice, (62, 104, 50), 12)
    for lean in (-52, -14, 30):
        tip = (x + lean + dice.between(-8, 8), y - dice.between(44, 76))
        layer.stroke([(x, y), ((x + tip[0]) / 2, (y + tip[1]) / 2 - 8), tip], (2.4, 1.8, 0.8), darker(green, 0.25))
        for k in range(1, 8):
            t = k / 8
            px, py, reach = x + (tip[0] - x) * t, y + (tip[1] - y) * t - 22 * t * (1 - t), 17 * (1.05 - t)
            for side in (-1, 1):
                layer.stroke(
                    [(px, py), (px + side * reach, py - 5 - 3 * t)],
                    (1.5, 3.6, 0.8),
                    lighter(green, 0.1 * t + (0.08 if side > 0 else 0)),
                )


# Shore: sea, foam and wet sand


def _shore_backdrop(dice: Dice) -> Image.Image:
    sky = varied(dice, dice.pick(((176, 210, 226), (214, 218, 216), (238, 214, 190))), 10)
    sea = varied(dice, dice.pick(((70, 134, 150), (92, 132, 152), (64, 118, 142))), 10)
    sand = varied(dice, (216, 192, 150), 10)
    horizon = dice.between(0.28, 0.48)
    beach = dice.between(horizon + 0.2, 0.78)
    image = _gradient(
        (0, mix(sky, (110, 160, 200), 0.4)),
        (horizon - 0.005, lighter(sky, 0.35)),
        (horizon + 0.005, darker(sea, 0.12)),
        (beach, lighter(sea, 0.35)),
        (beach + 0.01, darker(sand, 0.22)),
        (1, sand),
    )
    layer = Layer()
    level = horizon * SIZE
    if dice() < 0.6:
        x = dice.between(-20, SIZE)
        layer.shape(
            np.array(
                [(x, level + 1), (x + 30, level - 13), (x + 62, level - 18), (x + 104, level - 7), (x + 140, level + 1)]
            ),
            mix((110, 130, 140), sky, 0.35),
        )
    for _ in range(3):
        x, y = dice.between(0, SIZE), dice.between(8, level - 30)
        for k in range(3):
            layer.shape(
                ellipse((x + k * 20 - 20, y + (k % 2) * 4), dice.between(18, 34), dice.between(3, 6)),
                lighter(sky, 0.55),
            )
    for k in range(16):
        y = level + 3 + (beach * SIZE - level) * (k / 16) ** 1.3
        x, reach = dice.between(-40, SIZE), dice.between(30, 100)
        layer.stroke(
            [(x, y), (x + reach / 2, y - 1.5), (x + reach, y)],
            (0.5, 1.5 + k * 0.14, 0.5),
            mix(lighter(sea, 0.5), sea, dice.between(0, 0.6)),
        )
    foam = beach * SIZE
    line = _wavy(dice, foam, 6, 7)
    layer.ground([y - 4 for y in line], (246, 248, 244))
    layer.ground([y + 3 for y in line], darker(sand, 0.24))
    layer.ground([y + 22 + dice.between(-4, 4) for y in line], sand)
    return _soft(image, layer, 0.9)


def _shore_stage(layer: Layer, dice: Dice, stand: Stand) -> None:
    for _ in range(16):
        x, y = dice.between(0, SIZE), dice.between(min(stand.y + 10, 236), SIZE)
        size = dice.between(2, 6)
        stone = varied(dice, dice.pick(((150, 142, 136), (120, 112, 110), (186, 170, 150))), 10)
        layer.shape(ellipse((x, y + 1.5), size * 1.3, size * 0.7), (150, 128, 98))
        layer.shape(ellipse((x, y), size * 1.2, size * 0.75), stone)
    # A rock that reaches from the feet down out of the picture
    rock = varied(dice, dice.pick(((128, 122, 118), (108, 106, 110), (146, 128, 112))), 10)
    wide = stand.unit * dice.between(0.55, 0.9)
    deep = SIZE + 16 - stand.y if dice() < 0.6 else min(SIZE + 16 - stand.y, dice.between(46, 80))
    y = stand.y
    shape = smooth(
        [
            (stand.x - wide * 0.75, y + 7),
            (stand.x - wide * 0.3, y + 1),
            (stand.x + wide * 0.3, y + 1),
            (stand.x + wide * 0.8, y + 8),
            (stand.x + wide * 1.25, y + deep * 0.55),
            (stand.x + wide * 1.4, y + deep),
            (stand.x - wide * 1.4, y + deep),
            (stand.x - wide * 1.15, y + deep * 0.5),
        ]
    )
    layer.shape(shape + np.array((2, 3)), darker(rock, 0.5))
    layer.shape(shape, darker(rock, 0.22))
    layer.shape(
        smooth(
            [
                (stand.x - wide * 0.7, y + 7),
                (stand.x - wide * 0.3, y + 1),
                (stand.x + wide * 0.3, y + 1),
                (stand.x + wide * 0.75, y + 8),
                (stand.x + wide * 0.5, y + 17),
                (stand.x - wide * 0.2, y + 14),
                (stand.x - wide * 0.6, y + 18),
            ]
        ),
        lighter(rock, 0.18),
    )
    for _ in range(7):
        x, yy = stand.x + dice.between(-wide, wide) * 0.9, y + dice.between(0.2, 0.9) * deep
        layer.stroke(
            [(x, yy), (x + dice.between(-10, 10), yy + dice.between(6, 20))],
            (0.6, 2.0, 0.5),
            darker(rock, dice.between(0.3, 0.5)),
        )
    layer.shape(ellipse((stand.x - 4, y + 4), stand.unit * 0.3, 3.2), darker(rock, 0.12))


def _shore_front(layer: Layer, dice: Dice, stand: Stand) -> None:
    side = dice.pick((-1, 1))
    x = dice.between(-4, 44) if side < 0 else dice.between(SIZE - 44, SIZE + 4)
    for _ in range(dice.whole(8, 13)):
        tint = varied(dice, dice.pick(((150, 152, 92), (122, 136, 84), (184, 168, 112))), 10)
        bend = dice.between(-46, 46)
        tall = dice.between(40, 96)
        base = x + dice.between(-14, 14)
        layer.stroke(
            [(base, SIZE + 6), (base + bend * 0.3, SIZE - tall * 0.6), (base + bend, SIZE - tall)],
            (3.0, 2.4, 0.6),
            tint,
        )


# Meadow: summer sky, hills, flowers

_PETALS = ((232, 112, 138), (250, 250, 240), (168, 130, 206), (246, 206, 84))


def _meadow_backdrop(dice: Dice) -> Image.Image:
    sky = varied(dice, dice.pick(((142, 192, 226), (182, 210, 222), (238, 220, 182))), 10)
    grass = varied(dice, dice.pick(((128, 168, 78), (150, 172, 84), (108, 156, 84))), 10)
    horizon = dice.between(0.36, 0.56)
    image = _gradient((0, mix(sky, (88, 150, 210), 0.3)), (horizon, lighter(sky, 0.45)), (1, grass))
    layer = Layer()
    level = horizon * SIZE
    for _ in range(3):
        x, y = dice.between(-10, SIZE), dice.between(6, level - 24)
        for k in range(4):
            layer.shape(
                ellipse((x + k * 16, y - (k % 3) * 4), dice.between(13, 24), dice.between(6, 11)), (250, 250, 248)
            )
    layer.ground(_wavy(dice, level - 14, 12), mix((110, 142, 142), sky, 0.4))
    layer.ground(_wavy(dice, level + 2, 8), mix(darker(grass, 0.25), sky, 0.25))
    for _ in range(9):
        x, size = dice.between(0, SIZE), dice.between(7, 16)
        layer.shape(ellipse((x, level), size, size * 0.8), mix((70, 108, 66), sky, 0.3))
    layer.ground(_wavy(dice, level + 14, 6), mix(grass, (220, 214, 120), 0.25))
    layer.ground(_wavy(dice, level + 50, 8), grass)
    for _ in range(70):
        x, y = dice.between(0, SIZE), dice.between(level + 24, SIZE)
        size = 1.2 + 3.4 * (y - level) / (SIZE - level)
        layer.shape(ellipse((x, y), size, size * 0.8), mix(dice.pick(_PETALS), grass, dice.between(0.05, 0.5)))
    return _soft(image, layer, 1.5)


def _flower(layer: Layer, dice: Dice, x: float, y: float, size: float, petal: Colour) -> None:
    for k in range(6):
        angle = math.tau * k / 6 + 0.4
        layer.shape(
            ellipse((x + size * 0.62 * math.cos(angle), y + size * 0.45 * math.sin(angle)), size * 0.48, size * 0.38),
            darker(petal, 0.1 * (k % 2)),
        )
    layer.shape(ellipse((x, y), size * 0.36, size * 0.30), (236, 178, 48) if petal != _PETALS[3] else (150, 96, 40))


def _blades(layer: Layer, dice: Dice, count: int, low: float, high: float) -> None:
    for _ in range(count):
        x, tall = dice.between(-8, SIZE + 8), dice.between(low, high)
        tint = varied(dice, dice.pick(((98, 142, 56), (126, 162, 70), (80, 124, 56))), 12)
        bend = dice.between(-20, 20)
        layer.stroke(
            [(x, SIZE + 6), (x + bend * 0.3, SIZE - tall * 0.6), (x + bend, SIZE - tall)], (3.6, 2.8, 0.5), tint
        )


def _meadow_stage(layer: Layer, dice: Dice, stand: Stand) -> None:
    _blades(layer, dice, 22, 24, 84)
    wood = varied(dice, dice.pick(((150, 128, 102), (132, 118, 104), (164, 140, 110))), 10)
    wide = dice.between(26, 36)
    x, y = stand.x - wide / 2 + dice.between(-4, 4), stand.y - 1
    if dice() < 0.6:
        rail = y + dice.between(30, 46)
        for drop in (0, 46):
            layer.shape(
                np.array(
                    [
                        (-9, rail + drop + 4),
                        (SIZE + 9, rail + drop - 4),
                        (SIZE + 9, rail + drop + 9),
                        (-9, rail + drop + 17),
                    ]
                ),
                darker(wood, 0.30),
            )
            layer.shape(
                np.array(
                    [
                        (-9, rail + drop + 4),
                        (SIZE + 9, rail + drop - 4),
                        (SIZE + 9, rail + drop + 2),
                        (-9, rail + drop + 10),
                    ]
                ),
                darker(wood, 0.05),
            )
    layer.shape(np.array([(x, y + 4), (x + wide, y + 4), (x + wide + 1, SIZE + 9), (x - 1, SIZE + 9)]), wood)
    layer.shape(
        np.array([(x + wide * 0.66, y + 4), (x + wide, y + 4), (x + wide + 1, SIZE + 9), (x + wide * 0.62, SIZE + 9)]),
        darker(wood, 0.28),
    )
    layer.shape(ellipse((x + wide / 2, y + 4), wide / 2 + 0.5, 4.4), lighter(wood, 0.24))
    layer.shape(ellipse((x + wide / 2, y + 4), wide / 3.4, 2.4), darker(wood, 0.08))
    for _ in range(8):
        a, b = dice.between(x + 3, x + wide - 3), dice.between(y + 12, SIZE)
        layer.stroke(
            [(a, b), (a + dice.between(-1, 1), b + dice.between(14, 40))],
            (0.5, 1.5, 0.4),
            darker(wood, dice.between(0.2, 0.45)),
        )
    for _ in range(dice.whole(4, 8)):
        a, tall = dice.between(0, SIZE), dice.between(30, 96)
        if abs(a - stand.x) < 30:
            continue
        layer.stroke([(a, SIZE + 6), (a + 3, SIZE - tall / 2), (a, SIZE - tall)], (2.2, 1.8, 1.2), (92, 132, 60))
        _flower(layer, dice, a, SIZE - tall, dice.between(6, 10), dice.pick(_PETALS))


def _meadow_front(layer: Layer, dice: Dice, stand: Stand) -> None:
    _blades(layer, dice, 16, 12, 44)
    for _ in range(2):
        x, tall = dice.between(4, SIZE - 4), dice.between(18, 50)
        layer.stroke([(x, SIZE + 6), (x + 2, SIZE - tall)], (2.4, 1.4), (92, 132, 60))
        _flower(layer, dice, x + 2, SIZE - tall, dice.between(8, 12), dice.pick(_PETALS))


@dataclass(frozen=True)
class Habitat:
    """The three layers of one kind of place."""

    backdrop: Callable[[Dice], Image.Image]
    stage: Callable[[Layer, Dice, Stand], None]
    front: Callable[[Layer, Dice, Stand], None]


PAINTERS: dict[str, Habitat] = {
    "reeds": Habitat(_reeds_backdrop, _reeds_stage, _reeds_front),
    "snow": Habitat(_snow_backdrop, _snow_stage, _snow_front),
    "forest": Habitat(_forest_backdrop, _forest_stage, _forest_front),
    "shore": Habitat(_shore_backdrop, _shore_stage, _shore_front),
    "meadow": Habitat(_meadow_backdrop, _meadow_stage, _meadow_front),
}
