"""Drawing a bird: its outline from a few landmarks, its plumage in feathers, its marks, and an exact map of its parts.

A bird is first listed as shapes in units of its own (the body is about one unit long, facing right, x forward and y
down), so that it can be measured and placed; then it is drawn, enlarged, into a colour image and a part map at once.
Light is added last: the blurred outline serves as a height, and its slope towards the light brightens or darkens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from sam_core.datasets.fieldguide.drawing import (
    SCALE,
    SIZE,
    Dice,
    Points,
    darker,
    ellipse,
    lighter,
    mix,
    ribbon,
    smooth,
    stamped,
    varied,
    whole_pixels,
)
from sam_core.datasets.fieldguide.species import PART_VALUES, PLUMAGES, Colour, Plumage, Species

BODY, BILL, CROWN, BAR, BREAST, TAIL, LEGS, EYE = (
    PART_VALUES[name] for name in ("body", "bill", "crown", "wing bar", "breast", "tail", "legs", "eye")
)
#: Free space kept around a bird, in pixels: the network sees a crop of the image.
MARGIN = 14
#: Length of the body in pixels, where the whole bird has room.
UNITS = (104, 140)


@dataclass(frozen=True)
class Bird:
    """A drawn bird: its colours, how much of the scene shows beside them, and which part each pixel is."""

    colours: Image.Image
    """Mode RGB, the pixels of `place`: already multiplied by how much of each pixel the bird covers."""
    uncovered: Image.Image
    """Mode RGB, of the same size: 0 where the bird is, 255 where it is not, between at its edge."""
    place: tuple[int, int, int, int]
    """Left, top, right, bottom of the bird's pixels in the image."""
    parts: Image.Image
    """Mode L, of the image's size: values as in `MASK_PARTS`."""
    foot: tuple[float, float]
    """Where it stands, in pixels."""
    unit: float
    """Length of its body in pixels."""
    facing: int
    """1 to the right, -1 to the left."""


class _Frame:
    """Coordinates of the body or the head: turned, scaled and shifted into those of the whole bird."""

    def __init__(self, degrees: float, size: float = 1.0, origin: Sequence[float] = (0.0, 0.0)) -> None:
        sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        self.turn = math.radians(degrees)
        self._matrix = np.array(((cosine, -sine), (sine, cosine))) * size
        self._origin = np.asarray(origin, dtype=np.float64)

    def __call__(self, *points: tuple[float, float]) -> Points:
        return self.all(np.array(points))

    def all(self, points: Points) -> Points:
        """(..., 2) -> (..., 2)."""
        return points @ self._matrix + self._origin


class _Sketch:
    """Shapes in the order in which they cover each other."""

    def __init__(self) -> None:
        self.shapes: list[Points] = []
        self.colours: list[Colour] = []
        self.parts: list[int | None] = []

    def add(self, points: Points, colour: Colour, part: int | None = None) -> None:
        """`part` None: a detail that lies within what is drawn already and does not change the part map."""
        self.shapes.append(points)
        self.colours.append(colour)
        self.parts.append(part)


def draw_bird(species: Species, dice: Dice) -> Bird:
    """One bird of the species: pose, plumage, size, place and light by the dice."""
    chosen = dice.pick(PLUMAGES)
    plumage = Plumage(varied(dice, chosen.upper, 16), varied(dice, chosen.flight, 10), varied(dice, chosen.under, 10))
    sketch = _Sketch()
    foot = _sketch_bird(sketch, species, plumage, dice)
    return _rasterise(sketch, foot, dice)


def _sketch_bird(sketch: _Sketch, species: Species, plumage: Plumage, dice: Dice) -> tuple[float, float]:
    pitch = dice.between(2, 38)
    body = _Frame(pitch)
    radius = dice.between(0.222, 0.245)
    plump = dice.between(0.94, 1.08)
    centre = body((0.37, -0.335))[0] + (
        0.20 * math.sin(body.turn) + dice.between(-0.02, 0.04),
        dice.between(-0.05, 0.03),
    )
    head = _Frame(dice.between(-14, 16), radius, centre)

    chin, breast = head((0.70, 0.66))[0], body((0.51, 0.00))[0]
    throat = chin * 0.55 + breast * 0.45 + (0.005, 0.0)
    nape, mantle = head((-0.80, 0.46))[0], body((0.03, -0.285))[0]
    landmarks = np.concatenate(
        [
            head((0.98, 0.08), (0.70, 0.66)),
            throat[None],
            body((0.51, 0.0), (0.42, 0.21 * plump), (0.12, 0.34 * plump), (-0.24, 0.25 * plump), (-0.52, 0.09)),
            body((-0.60, -0.04), (-0.43, -0.155), (-0.19, -0.235)),
            (mantle * 0.8 + nape * 0.2)[None],
            nape[None],
            head((-0.95, -0.16), (-0.70, -0.70), (-0.10, -0.97), (0.68, -0.64)),
        ]
    )
    steps = 8
    outline = smooth(landmarks, steps=steps)

    def along(start: float, stop: float) -> Points:
        """The outline from one landmark to another, counted in landmarks."""
        rows = np.arange(round(start * steps), round(stop * steps) + 1) % len(outline)
        return outline[rows]

    foot = (float(body((0.02, 0.30))[0][0]) + 0.02, float(outline[:, 1].max()) + dice.between(0.13, 0.19))

    _tail(sketch, species, plumage, dice, body)
    _legs(sketch, plumage, dice, body, foot)
    if species.crown == "crest":
        _crest(sketch, species.crown_colour, dice, head)
    sketch.add(outline, plumage.upper, BODY)
    _underside(sketch, species, plumage, dice, along, body, head)
    _back(sketch, plumage, dice, body)
    _wing(sketch, species, plumage, dice, body)
    _face(sketch, species, plumage, along, head)
    return foot


@cache
def _vane(start: float, bluntness: float) -> Points:
    """A feather of length and width 1 along x; `start` cuts its first part away, which leaves the tip."""
    t = start + (1 - start) * np.arange(9) / 8
    # Narrow at the quill, widest at three quarters, then round or pointed
    rounded = np.sqrt(np.maximum(0.0, 1 - (np.maximum(0.0, t - 0.75) / 0.25) ** 2))
    profile = np.where(t < 0.75, 0.55 + 0.6 * t, np.maximum(rounded, (1 - t) / 0.25 * bluntness)) / 2
    return np.concatenate([np.stack([t, profile], axis=1), np.stack([t, -profile], axis=1)[::-1]])


def _feather(
    base: Sequence[float], angle: float, length: float, width: float, *, start: float = 0.0, bluntness: float = 0.75
) -> Points:
    """A feather from its base along an angle in degrees, 0 forward and 90 up."""
    vane = _vane(start, bluntness)
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return vane @ np.array(((length * cosine, -length * sine), (width * sine, width * cosine))) + base


def _tail(sketch: _Sketch, species: Species, plumage: Plumage, dice: Dice, body: _Frame) -> None:
    base = body((-0.46, -0.02))[0]
    aim = 180 + math.degrees(body.turn) * 0.8 + dice.between(-16, 14)
    lengths, spread, width = {
        "square": ((0.50, 0.52, 0.53, 0.52, 0.50), 3.6, 0.120),
        "forked": ((0.74, 0.58, 0.40, 0.58, 0.76), 9.5, 0.110),
        "long": ((0.58, 0.70, 0.80, 0.72, 0.60), 3.0, 0.105),
        "fan": ((0.50, 0.55, 0.57, 0.55, 0.50), 12.5, 0.150),
    }[species.tail]
    spread *= dice.between(0.85, 1.2)
    for order, index in enumerate((0, 4, 1, 3, 2)):
        angle, length = aim + (index - 2) * spread, lengths[index] + 0.04
        shade = varied(dice, mix(plumage.flight, plumage.upper, 0.10 * order), 6)
        sketch.add(_feather(base, angle, length, width), darker(shade, 0.35), TAIL)
        sketch.add(_feather(base, angle + 0.8, length * 0.985, width * 0.80), shade, TAIL)
        if species.tip_colour is not None:
            tip = species.tip_colour
            sketch.add(_feather(base, angle, length, width * 1.02, start=0.52), darker(tip, 0.25), TAIL)
            sketch.add(_feather(base, angle + 0.6, length * 0.985, width * 0.86, start=0.535), tip, TAIL)
        sketch.add(_feather(base, angle, length * 0.96, 0.012), darker(shade, 0.5))


def _legs(sketch: _Sketch, plumage: Plumage, dice: Dice, body: _Frame, foot: tuple[float, float]) -> None:
    colour = dice.pick(((96, 74, 60), (70, 62, 62), (140, 104, 76)))
    for side, hip, shade in ((-1, -0.06, 0.30), (1, 0.10, 0.0)):
        x = foot[0] + side * 0.055
        top = body((hip, 0.26))[0]
        knee = (x - 0.04, foot[1] - 0.13)
        tint = darker(colour, shade)
        thigh = ribbon([top, knee], (0.15, 0.125, 0.10, 0.075, 0.05), steps=4)
        sketch.add(thigh, darker(plumage.under, 0.22 + shade), BODY)
        sketch.add(ribbon([knee, (x, foot[1])], (0.036, 0.032)), tint, LEGS)
        for reach, drop in ((0.10, 0.025), (0.075, 0.05), (-0.07, 0.03)):
            toe = [(x, foot[1] - 0.012), (x + reach * 0.6, foot[1] - 0.012), (x + reach, foot[1] + drop)]
            sketch.add(ribbon(toe, (0.034, 0.026, 0.016), steps=4), tint, LEGS)


def _crest(sketch: _Sketch, colour: Colour, dice: Dice, head: _Frame) -> None:
    lift = dice.between(-10, 12) + math.degrees(head.turn)
    # Plumes rooted one behind the other along the crown, the hindmost drawn first
    for place, angle, length, shade in (
        ((-0.62, -0.36), 166, 0.30, 0.34),
        ((-0.52, -0.50), 156, 0.38, 0.22),
        ((-0.36, -0.58), 146, 0.44, 0.10),
        ((-0.16, -0.62), 137, 0.46, 0.18),
        ((0.08, -0.62), 129, 0.43, 0.0),
    ):
        base = head(place)[0]
        sketch.add(_feather(base, angle + lift, length, 0.135, bluntness=0.3), darker(colour, shade), CROWN)
        sketch.add(_feather(base, angle + lift, length * 0.9, 0.012), darker(colour, shade + 0.22))


def _underside(
    sketch: _Sketch,
    species: Species,
    plumage: Plumage,
    dice: Dice,
    along: Callable[[float, float], Points],
    body: _Frame,
    head: _Frame,
) -> None:
    inner = np.concatenate(
        [body((-0.44, 0.06), (-0.16, 0.14), (0.16, 0.10), (0.24, -0.06)), head((0.02, 0.72), (0.55, 0.30))]
    )
    sketch.add(np.concatenate([along(0.4, 7.0), smooth(inner, closed=False)]), plumage.under)
    shadow = smooth(body((-0.44, 0.08), (-0.12, 0.26), (0.26, 0.24)), closed=False)
    sketch.add(np.concatenate([along(4.4, 7.0), shadow]), mix(plumage.under, darker(plumage.upper, 0.1), 0.28))

    # The breast is a part of every species, whether or not it carries a mark
    marked = species.breast == "patch"
    edge = np.concatenate(
        [body((0.21, 0.27), (0.11, 0.19), (0.12, 0.04), (0.20, -0.12)), head((0.10, 0.86), (0.42, 0.52))]
    )
    region = np.concatenate([along(0.9, 4.6), smooth(edge, closed=False)])
    sketch.add(region, species.breast_colour if marked else lighter(plumage.under, 0.35), BREAST)
    if species.breast == "streaked":
        ink = darker(plumage.flight, 0.5)
        for row in range(5):
            for column in range(6):
                x = 0.17 + column * 0.066 + (row % 2) * 0.032
                y = -0.15 + row * 0.088 - column * 0.004
                if x > 0.46 - 1.6 * max(0.0, y - 0.05) ** 1.2 or x + 0.4 * y < 0.15:
                    continue
                drop = body((x + 0.006, y), (x - 0.020, y + 0.092))
                sketch.add(ribbon(drop, (0.006, 0.026, 0.050, 0.050, 0.020), steps=4), ink)
    elif species.breast == "banded":
        lower = np.concatenate([body((0.40, 0.13), (0.30, 0.11), (0.21, 0.0)), head((-0.52, 0.84))])
        upper = np.concatenate([head((-0.45, 0.66), (0.02, 1.04), (0.36, 1.14)), along(2.0, 2.0)])
        collar = [along(2.0, 3.6), smooth(lower, closed=False), smooth(upper, closed=False)]
        sketch.add(np.concatenate(collar), species.breast_colour)

    # Fine strokes along the flow of the feathers
    places = [(dice.between(0.02, 0.42), dice.between(-0.04, 0.26)) for _ in range(30)]
    tints = [dice.between(0.08, 0.20) for _ in places]
    kept = [k for k, (x, y) in enumerate(places) if (x / 0.47) ** 2 + (y / 0.31) ** 2 < 0.9 and (marked or x < 0.14)]
    if kept:
        strokes = stamped(_STROKE, body.all(np.array([places[k] for k in kept])), body.turn)
        for k, stroke in zip(kept, strokes, strict=True):
            base = species.breast_colour if marked and places[k][0] > 0.15 else plumage.under
            sketch.add(stroke, darker(base, tints[k]))


_STROKE = np.array(((0.0, -0.005), (-0.055, 0.030), (0.0, 0.007)))
_FLECK = ribbon([(0.0, 0.0), (-0.065, 0.022)], (0.006, 0.022, 0.026, 0.018, 0.004), steps=4)
_SCALE = smooth([(0.0, -0.036), (-0.046, -0.028), (-0.070, 0.0), (-0.046, 0.030), (0.0, 0.036)], closed=False, steps=4)
_SMALL_SCALE = _SCALE * (0.82, 0.84)


def _back(sketch: _Sketch, plumage: Plumage, dice: Dice, body: _Frame) -> None:
    places = [
        (0.06 - column * 0.085, -0.235 + row * 0.05 + column * 0.012 + dice.between(-0.01, 0.01))
        for row in range(3)
        for column in range(7)
    ]
    for fleck in stamped(_FLECK, body.all(np.array(places)), body.turn):
        sketch.add(fleck, darker(plumage.upper, dice.between(0.12, 0.26)))


def _wing(sketch: _Sketch, species: Species, plumage: Plumage, dice: Dice, body: _Frame) -> None:
    droop = dice.between(-0.02, 0.05)

    def at(points: Sequence[tuple[float, float]]) -> Points:
        """From the wing's own place on the body: the further back, the more it droops."""
        rows = np.array(points)
        rows[:, 1] += droop * np.maximum(0.0, 0.3 - rows[:, 0])
        return body.all(rows)

    def vane(base: tuple[float, float], tip: tuple[float, float], width: float) -> Points:
        start, stop = at((base, tip)).tolist()
        across, up = stop[0] - start[0], start[1] - stop[1]
        return _feather(start, math.degrees(math.atan2(up, across)), math.hypot(across, up), width, bluntness=0.45)

    flight, edge = plumage.flight, mix(plumage.flight, plumage.under, 0.55)
    # Primaries reach beyond the wing's body; each lies under the next
    for k in range(5):
        x, y = -0.80 + 0.075 * k, 0.035 + 0.022 * k
        sketch.add(vane((-0.02, 0.06), (x, y), 0.085), mix(edge, flight, 0.45), BODY)
        sketch.add(vane((-0.02, 0.054), (x + 0.012, y - 0.008), 0.068), darker(flight, 0.30), BODY)
    shoulder = ((0.28, -0.05), (0.17, -0.19), (-0.02, -0.235))
    belly_side = ((0.12, 0.155), (0.26, 0.06))
    rear = ((-0.26, -0.185), (-0.50, -0.06), (-0.40, 0.09), (-0.14, 0.175))
    sketch.add(smooth(at((*shoulder, *rear, *belly_side))), flight, BODY)
    # Secondaries and tertials, from below upwards
    for k in range(6):
        y = 0.135 - 0.054 * k
        x, tip = -0.50 - 0.035 * math.sin(k * 0.9), 0.115 - 0.045 * k
        sketch.add(vane((0.0, y), (x, tip), 0.092), edge)
        sketch.add(vane((0.0, y - 0.006), (x + 0.012, tip - 0.006), 0.074), darker(flight, 0.05 + 0.05 * (k % 2)))
    # Coverts: rounded scales over the shoulder
    coverts = smooth(at((*shoulder, (-0.10, -0.12), (-0.07, 0.06), (0.0, 0.165), *belly_side)))
    sketch.add(coverts, mix(plumage.upper, flight, 0.30))
    places = [
        (-0.02 + column * 0.075, 0.125 - row * 0.075 - (column % 2) * 0.03) for column in range(4) for row in range(5)
    ]
    places = [(x, y) for x, y in places if (x - 0.09) ** 2 / 0.05 + (y + 0.02) ** 2 / 0.040 < 0.8]
    spots = at(places)
    rims, scales = stamped(_SCALE, spots, body.turn), stamped(_SMALL_SCALE, spots, body.turn)
    for k in range(len(places)):
        sketch.add(rims[k], mix(plumage.upper, edge, 0.5))
        sketch.add(scales[k], mix(plumage.upper, flight, 0.22 + 0.06 * (k % 2)))
    if species.bar_colour is not None:
        spine = at(((0.0, -0.238), (-0.055, -0.13), (-0.05, 0.02), (0.025, 0.170)))
        bar = species.bar_colour
        sketch.add(ribbon(spine, (0.10, 0.165, 0.185, 0.185, 0.165, 0.09), steps=8), bar, BAR)
        # The bar is made of feather tips: small notches on its trailing side
        middle = smooth(spine, closed=False)[3:22:4] + body((-0.02, 0.005))[0]
        for notch in stamped(np.array(((0.0, 0.0), (-0.09, 0.020), (-0.09, 0.038))), middle, body.turn):
            sketch.add(notch, darker(bar, 0.30))


def _face(
    sketch: _Sketch, species: Species, plumage: Plumage, along: Callable[[float, float], Points], head: _Frame
) -> None:
    # Ear coverts and the line through the eye, alike in all species
    cheek = smooth(head((0.55, 0.10), (0.10, 0.02), (-0.45, 0.10), (-0.55, 0.42), (-0.10, 0.62), (0.35, 0.45)))
    sketch.add(cheek, mix(plumage.upper, plumage.under, 0.32))
    inner = smooth(head((0.96, -0.02), (0.52, -0.22), (0.05, -0.26), (-0.42, -0.02), (-0.74, 0.52)), closed=False)
    cap = np.concatenate([along(11.9, 17.0), inner])
    worn = mix(plumage.upper, plumage.flight, 0.45)
    colour = species.crown_colour if species.crown_colour is not None else worn
    sketch.add(cap, colour, CROWN)
    sketch.add(smooth(head((0.40, -0.60), (-0.10, -0.80), (-0.54, -0.54), (-0.10, -0.54))), lighter(colour, 0.14))
    for place in (
        (0.30, -0.34),
        (-0.02, -0.40),
        (-0.34, -0.28),
        (-0.60, 0.02),
        (0.12, -0.66),
        (-0.28, -0.66),
        (-0.60, -0.34),
    ):
        turned = head.all(np.array(((0.0, 0.0), (-0.26, 0.10), (-0.02, 0.07))) + place)
        sketch.add(turned, darker(colour, 0.16) if sum(colour) > 240 else lighter(colour, 0.14))
    line = head((0.92, 0.03), (0.50, 0.0), (0.1, 0.0), (-0.40, 0.10))
    sketch.add(ribbon(line, (0.030, 0.012), steps=8), darker(plumage.flight, 0.4))
    _bill(sketch, species, head)
    x, y = head((0.36, 0.0))[0].tolist()
    sketch.add(ellipse((x, y), 0.051, 0.050), lighter(plumage.under, 0.4), EYE)
    sketch.add(ellipse((x, y), 0.039, 0.039), (34, 22, 18), EYE)
    sketch.add(ellipse((x, y), 0.028, 0.028), (8, 8, 12), EYE)
    sketch.add(ellipse((x + 0.010, y - 0.014), 0.0125, 0.0125), (255, 255, 255), EYE)


def _bill(sketch: _Sketch, species: Species, head: _Frame) -> None:
    colour = species.bill_colour
    # Both edges from the face to the tip
    upper, lower = {
        "slender": (((0.78, -0.22), (1.30, -0.14), (1.95, 0.16)), ((0.76, 0.40), (1.30, 0.33), (1.90, 0.18))),
        "conical": (((0.62, -0.46), (1.22, -0.32), (1.78, 0.22)), ((0.62, 0.62), (1.25, 0.52), (1.74, 0.26))),
        "curlew": (
            ((0.78, -0.24), (1.75, -0.12), (2.40, 0.36), (2.72, 1.00)),
            ((0.78, 0.42), (1.70, 0.26), (2.24, 0.58), (2.64, 1.02)),
        ),
    }[species.bill]
    top, bottom = smooth(head(*upper), closed=False), smooth(head(*lower), closed=False)
    middle = (top + bottom) / 2
    ridge = top * 0.68 + middle * 0.32
    sketch.add(np.concatenate([top, bottom[::-1]]), colour, BILL)
    sketch.add(np.concatenate([middle, bottom[::-1]]), darker(colour, 0.28))
    sketch.add(ribbon(middle[::4], (0.016, 0.006)), darker(colour, 0.6))
    sketch.add(ribbon(ridge[2:-4:4], (0.018, 0.005)), lighter(colour, 0.38))
    nostril = head((1.06, -0.02 if species.bill != "conical" else -0.08))[0]
    sketch.add(ellipse(nostril, 0.014, 0.009), darker(colour, 0.6))


def _rasterise(sketch: _Sketch, foot: tuple[float, float], dice: Dice) -> Bird:
    outlines = np.concatenate(
        [shape for shape, part in zip(sketch.shapes, sketch.parts, strict=True) if part is not None]
    )
    (left, top), (right, bottom) = outlines.min(axis=0).tolist(), outlines.max(axis=0).tolist()
    facing = dice.pick((1, -1))
    room = SIZE - 2 * MARGIN
    unit = min(dice.between(*UNITS), room / (right - left), room / (bottom - top))
    if facing < 0:
        left, right = -right, -left
    x = MARGIN + dice() * (room - (right - left) * unit) - left * unit
    # Low rather than high: there is always some ground below the feet
    y = MARGIN + dice.between(0.15, 0.90) * (room - (bottom - top) * unit) - top * unit

    # Only the bird's own pixels are drawn, from even ones on: the light is worked out at half the size
    x0, y0 = (int(x + left * unit) - 2) // 2 * 2, (int(y + top * unit) - 2) // 2 * 2
    columns, rows = (int(x + right * unit) + 5 - x0) // 2 * 2, (int(y + bottom * unit) + 5 - y0) // 2 * 2
    colours = Image.new("RGB", (columns * SCALE, rows * SCALE))
    parts = Image.new("L", colours.size)
    draw, draw_parts = ImageDraw.Draw(colours), ImageDraw.Draw(parts)
    corner = ((x0 - x) / (unit * facing), (y0 - y) / unit)
    placed = whole_pixels(sketch.shapes, (unit * facing * SCALE, unit * SCALE), corner)
    for outline, colour, part in zip(placed, sketch.colours, sketch.parts, strict=True):
        draw.polygon(outline, fill=colour)
        if part is not None:
            draw_parts.polygon(outline, fill=part)

    covered = parts.point(_COVERED)
    coverage = _grey(covered.reduce(SCALE))
    light = _light(covered.reduce(2 * SCALE), unit, dice)
    lit = np.asarray(colours.reduce(SCALE)).astype(np.uint16) * np.asarray(light) >> 7
    # The centre pixel of each block stands for the block: no value between two parts can arise
    exact = Image.new("L", (SIZE, SIZE))
    exact.paste(parts.resize((columns, rows), Image.Resampling.NEAREST), (x0, y0))
    return Bird(
        colours=Image.fromarray(np.minimum(lit, np.asarray(coverage)).astype(np.uint8)),
        uncovered=ImageChops.invert(coverage),
        place=(x0, y0, x0 + columns, y0 + rows),
        parts=exact,
        foot=(x + foot[0] * unit * facing, y + foot[1] * unit),
        unit=unit,
        facing=facing,
    )


def _grey(image: Image.Image) -> Image.Image:
    """The same in three channels: whole arrays are combined faster than one is spread over another."""
    return Image.merge("RGB", (image, image, image))


def _light(covered: Image.Image, unit: float, dice: Dice) -> Image.Image:
    """How much each pixel is brightened or darkened, 128 for not at all, from the coverage at half the size."""
    # A tight blur rounds the edges, a wide one the whole body; both are heights in 0..255
    near = np.asarray(covered.filter(ImageFilter.BoxBlur(unit / 30))).astype(np.int32)
    far = np.asarray(covered.filter(ImageFilter.GaussianBlur(unit / 13))).astype(np.int32)
    sun = dice.between(-1.0, 1.0)
    slope = _rise(near, round(sun), 1) + _rise(far, round(3 * sun), 3)
    shade = Image.fromarray(np.clip(128 + slope // 3, 40, 210).astype(np.uint8))
    return _grey(shade.resize((shade.width * 2, shade.height * 2), Image.Resampling.BILINEAR))


_COVERED = [0] + [255] * 255


def _rise(height: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """How much higher the ground is one step away from the light than one step towards it."""
    padded = np.pad(height, 4)
    rows, columns = height.shape
    towards = padded[4 - dy : 4 - dy + rows, 4 + dx : 4 + dx + columns]
    away = padded[4 + dy : 4 + dy + rows, 4 - dx : 4 - dx + columns]
    return away - towards
