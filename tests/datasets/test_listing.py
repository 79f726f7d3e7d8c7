"""List files of strangers: read in whatever way they are stored, and never leading out of their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sam_core.datasets import listing
from sam_core.datasets.base import DatasetError
from sam_core.datasets.listing import inside, read_bytes, read_lines


@pytest.mark.parametrize(
    "content",
    [b"1 a b\n2 c\n", b"1 a b\r\n2 c\r\n", b"1 a b\n2 c", b"\xef\xbb\xbf1 a b\r\n2 c", b"1 a b  \n2 c\t\r\n\r\n  \n"],
    ids=["LF", "CRLF", "no end", "BOM", "blank lines"],
)
def test_lines_are_the_same_however_they_end(tmp_path: Path, content: bytes):
    file = tmp_path / "list.txt"
    file.write_bytes(content)
    assert read_lines(file) == [(1, "1 a b"), (2, "2 c")]


def test_lines_keep_their_number_behind_blank_ones_and_odd_characters(tmp_path: Path):
    file = tmp_path / "list.txt"
    file.write_bytes("a\u2028b\x0cc\n\nd é".encode())
    assert read_lines(file) == [(1, "a\u2028b\x0cc"), (3, "d é")]


@pytest.mark.parametrize("line", [b"caf\xe9", b"zero \0 byte"])
def test_what_is_no_text_is_refused_with_its_line(tmp_path: Path, line: bytes):
    file = tmp_path / "list.txt"
    file.write_bytes(b"\xef\xbb\xbfgood\r\ngood\r\n" + line + b"\r\n")
    with pytest.raises(DatasetError, match=r"list\.txt, line 3: .*UTF-8"):
        read_lines(file)


def test_a_list_that_is_missing_or_no_file_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DatasetError, match=r"list\.txt is missing"):
        read_lines(tmp_path / "list.txt")
    with pytest.raises(DatasetError, match="is no file"):
        read_lines(tmp_path)
    (tmp_path / "list.txt").write_bytes(b"1234567890")
    monkeypatch.setattr(listing, "MAX_LIST_BYTES", 9)
    with pytest.raises(DatasetError, match="is larger than"):
        read_lines(tmp_path / "list.txt")
    assert read_bytes(tmp_path / "list.txt", limit=10) == b"1234567890"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_a_list_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(DatasetError, match="is no file"):
        read_lines(tmp_path / "list.txt")


@pytest.mark.parametrize("name", ["a.jpg", "a b/c d.jpg", "a/./b.jpg", "a/..b.jpg", "é.jpg", "ab:c.jpg", "..."])
def test_names_below_the_folder_are_taken(tmp_path: Path, name: str):
    assert inside(tmp_path, name, file=tmp_path / "list.txt", line=1) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    ["", ".", "//", "a//b.jpg", "a/", "..", "../a.jpg", "a/../../b.jpg", "a/..", "/etc/passwd", "C:/a.jpg", "c:a.jpg",
     "a/C:/b.jpg", "a\\b.jpg", "\\\\host\\share", "a\0.jpg", "a\n.jpg", "a\x7f.jpg"],
)  # fmt: skip
def test_names_that_leave_the_folder_are_refused_with_file_and_line(tmp_path: Path, name: str):
    with pytest.raises(DatasetError, match=r"list\.txt, line 7: ") as caught:
        inside(tmp_path, name, file=tmp_path / "list.txt", line=7)
    assert "\0" not in str(caught.value)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_out_of_the_folder_is_refused_and_one_within_is_not(tmp_path: Path, kind: str):
    root, outside = tmp_path / "data", tmp_path / "private"
    for folder in (root / "images", outside):
        folder.mkdir(parents=True)
        (folder / "a.jpg").write_bytes(b"")
    links = {"file": ("out.jpg", "in.jpg"), "folder": ("out/a.jpg", "in/a.jpg")}[kind]
    for link, folder in zip(links, (outside, root / "images"), strict=True):
        target = folder / "a.jpg" if kind == "file" else folder
        (root / link.split("/")[0]).symlink_to(target)
    with pytest.raises(DatasetError, match="by a link"):
        inside(root, links[0], file=root / "list.txt", line=1)
    assert inside(root, links[1], file=root / "list.txt", line=1) == root / links[1]


def test_a_folder_that_is_reached_by_a_link_may_be_read(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    assert inside(tmp_path / "linked", "a.jpg", file=tmp_path / "list.txt", line=1) == tmp_path / "linked" / "a.jpg"


def test_a_long_line_is_cut_in_the_message(tmp_path: Path):
    with pytest.raises(DatasetError) as caught:
        inside(tmp_path, "/" + "a" * 10_000, file=Path("list.txt"), line=1)
    assert len(str(caught.value)) < 400
