"""What every stranger's zip is asked. Whole zips are refused in the tests of datasets and of runs."""

from __future__ import annotations

import io
import stat
import zipfile

import pytest

from sam_core.zips import copy_exactly, is_encrypted, is_link_or_device, is_unusually_packed


@pytest.mark.parametrize("size", [0, 999, 1001, 5_000_000])
def test_no_byte_more_than_declared_is_written(size: int):
    written = io.BytesIO()
    assert not copy_exactly(io.BytesIO(b"x" * size), written, 1000)
    assert len(written.getvalue()) <= 1000


@pytest.mark.parametrize("size", [0, 1000, 3_000_000])
def test_what_has_the_declared_size_is_copied(size: int):
    written = io.BytesIO()
    assert copy_exactly(io.BytesIO(b"x" * size), written, size)
    assert written.getvalue() == b"x" * size


@pytest.mark.parametrize("bit", [0x1, 0x40, 0x2000])
def test_each_way_of_encrypting_is_seen(bit: int):
    entry = zipfile.ZipInfo("a.jpg")
    assert not is_encrypted(entry)
    entry.flag_bits |= bit
    assert is_encrypted(entry)


@pytest.mark.parametrize(
    ("mode", "expected"), [(0, False), (stat.S_IFREG, False), (stat.S_IFDIR, False), (stat.S_IFLNK, True),
                           (stat.S_IFIFO, True), (stat.S_IFCHR, True)],
)  # fmt: skip
def test_only_files_and_folders_are_neither_links_nor_devices(mode: int, expected: bool):
    entry = zipfile.ZipInfo("a.jpg")
    entry.external_attr = (mode | 0o644) << 16
    assert is_link_or_device(entry) is expected


def test_what_old_programs_cannot_read_is_unusually_packed():
    entry = zipfile.ZipInfo("a.jpg")
    for kind, expected in ((zipfile.ZIP_STORED, False), (zipfile.ZIP_DEFLATED, False), (zipfile.ZIP_LZMA, True)):
        entry.compress_type = kind
        assert is_unusually_packed(entry) is expected
