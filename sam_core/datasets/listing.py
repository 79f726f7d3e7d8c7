"""Reading the list files of datasets: text of strangers, a record a line, and names that must stay below a folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sam_core.datasets.base import DatasetError

#: Far above the longest published list (5 MB: the parts of CUB-200-2011), far below what would fill the memory.
MAX_LIST_BYTES = 64_000_000
#: How much of a line an error message shows.
SHOWN = 80


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list file that are not blank, each with its number.

    Lines may end in LF or CRLF, the last one may lack its end, and the file may begin with a byte order mark.

    Args:
        path: the list, UTF-8.

    Returns:
        For each line its number, counted from 1, and its text without the line's end. Spaces within and at the
        beginning are kept; those at the end are not.

    Raises:
        DatasetError: if the file is missing, no ordinary file, larger than `MAX_LIST_BYTES`, or no UTF-8 text.
    """
    data = read_bytes(path, limit=MAX_LIST_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts its bytes behind the byte order mark; for a line number that makes no difference.
        raise _no_text(path, data[: error.start].count(b"\n") + 1) from None
    if "\0" in text:
        raise _no_text(path, text[: text.index("\0")].count("\n") + 1)
    # Not str.splitlines: it also parts lines at characters that a name may contain.
    lines = enumerate((line.rstrip(" \t\r") for line in text.split("\n")), start=1)
    return [(number, line) for number, line in lines if line]


def read_bytes(path: Path, *, limit: int) -> bytes:
    """The content of one of a dataset's own files.

    Raises:
        DatasetError: if the file is missing, no ordinary file, not readable, or larger than `limit` bytes.
    """
    if not path.exists():
        raise DatasetError(f"dataset: {path} is missing", "unpack the dataset's archive again")
    if not path.is_file():  # reading a pipe or a device might never end
        raise DatasetError(f"dataset: {path} is no file", "unpack the dataset's archive again")
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise DatasetError(f"dataset: {path} cannot be read: {error.strerror}", "check its permissions") from None
    if len(data) > limit:
        raise DatasetError(f"dataset: {path} is larger than {limit // 10**6} MB", "is this the right file?")
    return data


def line_error(file: Path, line: int, what: str, hint: str = "", *, unit: str = "line") -> DatasetError:
    """The error for a line of a list, or another `unit` of a file; `what` says what is wrong there."""
    return DatasetError(
        f"dataset: {file}, {unit} {line}: {what}", hint or f"correct the {unit}, or unpack the dataset's archive again"
    )


def shown(text: str) -> str:
    """A stranger's text as an error message shows it: quoted, escaped, and cut."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def inside(root: Path, relative: str, *, file: Path, line: int, unit: str = "line") -> Path:
    """The path that a list names, if it lies below a folder; whether there is such a file is not asked.

    Args:
        root: the folder that the name is meant to be below.
        relative: the name, with forward slashes.
        file: the list it stands in, for the error.
        line: the line there, from 1.
        unit: what `line` counts.

    Raises:
        DatasetError: if the name is empty, absolute, has a drive letter, a backslash, a `..` or a control character,
            or leads out of the folder by a symbolic link.
    """
    parts = relative.split("/")
    wrong, hint = "", "write it as FOLDER/NAME.jpg"
    if relative in ("", "."):
        wrong = "names no file"
    elif (
        "" in parts  # the first one of an absolute path
        or ".." in parts
        or "\\" in relative
        or any(re.match("[A-Za-z]:", part) for part in parts)
        or any(ord(letter) < 32 or ord(letter) == 127 for letter in relative)
    ):
        wrong = f"is not a plain path below {root}"
    elif _leaves_by_link(root, root / relative):
        wrong, hint = f"leads out of {root} by a link", "copy the images into the folder in place of the link"
    if wrong:
        raise line_error(file, line, f"{shown(relative)} {wrong}", hint, unit=unit)
    return root / relative


def _leaves_by_link(root: Path, path: Path) -> bool:
    places = [path, *path.parents[: len(path.parts) - len(root.parts) - 1]]
    # Links are rare: to look for one is much cheaper than to resolve the path. Windows has other kinds of them.
    if os.name != "nt" and not any(os.path.islink(place) for place in places):
        return False
    return not path.resolve().is_relative_to(root.resolve())


def _no_text(path: Path, line: int) -> DatasetError:
    return DatasetError(f"dataset: {path}, line {line}: this is no UTF-8 text", "save the list as UTF-8")
