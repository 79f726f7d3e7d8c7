"""Reading the MATLAB files of datasets, which come from strangers.

`scipy.io.loadmat` trusts a file: one wrong byte in a type, or cells within cells, end the whole process by a fault that
nothing can catch. So the little that datasets need is read here: numbers, text, and one level of cells and structures,
with every length checked against the bytes that are there.
Format: MathWorks, "MAT-File Format", level 5, which MATLAB 5 to 7.2 write, and later ones with `-v7`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sam_core.datasets.base import DatasetError
from sam_core.datasets.listing import read_bytes

#: The longest published one, that of all Stanford Cars, has a few hundred kilobytes, and several megabytes unpacked.
MAX_FILE_BYTES = 16_000_000
MAX_UNPACKED_BYTES = 32_000_000

_HEADER_BYTES = 128
#: Types of elements.
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
#: Classes of arrays.
_CELL, _STRUCTURE, _TEXT, _NUMERIC = 1, 2, 4, range(6, 16)
_NOTHING = np.empty(0)


def read_mat(path: Path, *names: str) -> dict[str, Any]:
    """Some variables of a MATLAB file.

    Args:
        path: the file, packed or not.
        names: the variables that it has to have; others are not looked at.

    Returns:
        By name: numbers as an array of one dimension, text as a string, a cell array as a list of such values, a
        structure array as a list of dictionaries of such values by field.

    Raises:
        DatasetError: if the file is missing, too large, damaged, of another version, lacks a variable, or a variable
            is of another kind.
    """
    data = read_bytes(path, limit=MAX_FILE_BYTES)
    order = {b"IM": "<", b"MI": ">"}.get(data[_HEADER_BYTES - 2 : _HEADER_BYTES])
    if order is None or not data.startswith(b"MATLAB 5.0"):
        raise _damaged(path, "it does not begin as such a file does (of MATLAB 7.3 or later: save it with -v7)")
    found: dict[str, Any] = {}
    present = []
    try:
        for content in _variables(memoryview(data)[_HEADER_BYTES:], order):
            array = _Array(content, order)
            present.append(array.name)
            if array.name in names:
                found[array.name] = array.value()
    except (ValueError, zlib.error) as error:
        raise _damaged(path, str(error)) from None
    for name in names:
        if name not in found:
            has = ", ".join(present) or "none"
            raise DatasetError(f"dataset: {path} has no variable {name!r} (it has {has})", "is this the right file?")
    return found


def _damaged(path: Path, why: str) -> DatasetError:
    hint = "unpack or download the file again"
    return DatasetError(f"dataset: {path} is damaged, or no MATLAB file of version 5 to 7.2: {why}", hint)


def _variables(data: memoryview, order: str) -> Iterator[memoryview]:
    """The content of each variable, unpacked."""
    left = MAX_UNPACKED_BYTES
    for kind, content in _elements(data, order):
        if kind == _COMPRESSED:
            unpacked = zlib.decompressobj().decompress(content, left + 1)
            left -= len(unpacked)
            if left < 0:
                raise ValueError(f"it unpacks to more than {MAX_UNPACKED_BYTES // 10**6} MB")
            kind, content = next(_elements(memoryview(unpacked), order), (None, content))
        if kind == _MATRIX:  # there may be others, such as what MATLAB notes for itself
            yield content


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """The type and the content of each element: what the file is made of, at every level."""
    start = 0
    while start < len(data):
        if start + 8 > len(data):
            raise ValueError("it is cut off")
        kind, length = struct.unpack_from(order + "II", data, start)
        begin = start + 8
        if kind >> 16:  # up to four bytes stand in the head itself, their number where the type's upper half would be
            kind, length = kind & 0xFFFF, kind >> 16
            begin = start + 4
            if length > 4:
                raise ValueError("an element is longer than its place")
        end = begin + length
        if end > len(data):
            raise ValueError("it is cut off")
        yield kind, data[begin:end]
        # Elements begin at multiples of 8 bytes, packed ones excepted.
        start = end if kind == _COMPRESSED else end + -(end - start) % 8


class _Array:
    """An array: the head is read at once, the value on demand."""

    def __init__(self, content: memoryview, order: str) -> None:
        self._order = order
        self._rest = _elements(content, order)
        flags = self._numbers()
        if not len(flags):
            raise ValueError("an array has no class")
        self._class = int(flags[0]) & 0xFF
        self._shape = [int(size) for size in self._numbers()]
        self.name = bytes(self._take()[1]).decode("latin-1")

    def value(self, *, in_container: bool = False) -> Any:
        """What the array holds."""
        if self._class in _NUMERIC:
            return self._numbers()
        if self._class == _TEXT:
            return self._text()
        if in_container or self._class not in (_CELL, _STRUCTURE):
            raise ValueError(f"{self.name or 'an element'} is of a kind that no dataset's file has")
        return self._cells() if self._class == _CELL else self._structures()

    def _take(self) -> tuple[int, memoryview]:
        element = next(self._rest, None)
        if element is None:
            raise ValueError("an array is cut off")
        return element

    def _numbers(self) -> np.ndarray:
        kind, content = self._take()
        if kind not in _NUMBERS:
            raise ValueError("an array of numbers holds something else")
        return np.frombuffer(content, self._order + _NUMBERS[kind])

    def _text(self) -> str:
        kind, content = self._take()
        if kind not in _TEXTS or self._shape[:1] not in ([0], [1]):
            raise ValueError("a text is not one line of characters")
        encoding = _TEXTS[kind]
        if encoding in ("utf-16", "utf-32"):
            encoding += "-le" if self._order == "<" else "-be"
        return bytes(content).decode(encoding)

    def _cells(self) -> list[Any]:
        cells = []
        for kind, content in self._rest:
            if kind != _MATRIX:
                raise ValueError("a cell is no array")
            # An empty cell may have no head at all.
            cells.append(_Array(content, self._order).value(in_container=True) if len(content) else _NOTHING)
        return cells

    def _structures(self) -> list[dict[str, Any]]:
        (width,) = self._numbers().tolist() or (0,)
        joined = bytes(self._take()[1])
        if not 0 < width <= len(joined):
            raise ValueError("a structure has no fields")
        starts = range(0, len(joined), width)
        names = [joined[start : start + width].split(b"\0")[0].decode("latin-1") for start in starts]
        values = self._cells()
        if len(values) % len(names):
            raise ValueError("a structure is cut off")
        starts = range(0, len(values), len(names))
        return [dict(zip(names, values[start : start + len(names)], strict=True)) for start in starts]
