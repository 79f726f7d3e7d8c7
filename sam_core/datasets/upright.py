"""From positions in a photograph's pixels as they are stored to fractions of the photograph as it is seen.

Official boxes, parts and masks are given in the pixels of the file. A camera that was turned says so in the file (EXIF
orientation), and the photograph is shown accordingly; then what was marked has to turn with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sam_core.datasets.base import Box
from sam_core.datasets.images import ON_ITS_SIDE


@dataclass(frozen=True)
class Frame:
    """A photograph's frame.

    Attributes:
        width: in pixels, as stored.
        height: in pixels, as stored.
        orientation: how the stored pixels are to be shown: EXIF's tag 0x0112, from 1 (as they are) to 8.
    """

    width: int
    height: int
    orientation: int = 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the photograph as it is shown."""
        return (self.height, self.width) if self.orientation in ON_ITS_SIDE else (self.width, self.height)

    def point(self, x: float, y: float) -> tuple[float, float] | None:
        """A point in stored pixels (0 to width, 0 to height) as fractions of the upright photograph, None if outside.

        A point less than a pixel outside is taken to the edge: that is how coordinates are rounded.
        """
        if not (-1 < x < self.width + 1 and -1 < y < self.height + 1):
            return None
        x, y = self._turned(min(max(x, 0), self.width), min(max(y, 0), self.height))
        width, height = self.upright_size
        return x / width, y / height

    def box(self, left: float, top: float, right: float, bottom: float) -> Box | None:
        """A box, by its edges in stored pixels, as fractions of the upright photograph: left, top, width, height.

        What reaches out of the photograph is cut off; None if nothing is left.
        """
        left, right = max(left, 0), min(right, self.width)
        top, bottom = max(top, 0), min(bottom, self.height)
        if left >= right or top >= bottom:
            return None
        (x1, y1), (x2, y2) = self._turned(left, top), self._turned(right, bottom)
        width, height = self.upright_size
        return min(x1, x2) / width, min(y1, y2) / height, abs(x2 - x1) / width, abs(y2 - y1) / height

    def _turned(self, x: float, y: float) -> tuple[float, float]:
        """Where a stored point lies in the upright photograph, both in pixels."""
        from_right, from_bottom = self.width - x, self.height - y
        match self.orientation:
            case 2:
                return from_right, y
            case 3:
                return from_right, from_bottom
            case 4:
                return x, from_bottom
            case 5:
                return y, x
            case 6:
                return from_bottom, x
            case 7:
                return from_bottom, from_right
            case 8:
                return y, from_right
            case _:
                return x, y
