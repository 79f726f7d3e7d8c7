"""MATLAB files of strangers: as scipy reads them where they are sound, refused in one sentence where they are not."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from sam_core.datasets import matfile
from sam_core.datasets.base import DatasetError
from sam_core.datasets.matfile import read_mat
from tests.datasets.miniatures import structures, write_mat


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def array(content: bytes, *, kind: int, name: bytes = b"", shape: tuple[int, ...] = (1, 1)) -> bytes:
    sizes = struct.pack(f"<{len(shape)}i", *shape)
    return element(14, element(6, struct.pack("<II", kind, 0)) + element(5, sizes) + element(1, name) + content)


def write_raw(path: Path, variables: bytes) -> Path:
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + variables)
    return path


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_numbers_are_what_scipy_reads(tmp_path: Path, dtype: str, packed: bool):
    values = np.array([[3, 0, 100, 7, 14]], dtype=dtype)
    savemat(tmp_path / "a.mat", {"one": values[:, :1], "few": values, "none": values[:, :0]}, do_compression=packed)
    found = read_mat(tmp_path / "a.mat", "one", "few", "none")
    for name, expected in loadmat(tmp_path / "a.mat", variable_names=list(found)).items():
        if name in found:
            assert np.array_equal(found[name], expected.ravel())


@pytest.mark.parametrize("packed", [True, False])
def test_structures_and_cells_are_what_scipy_reads(tmp_path: Path, packed: bool):
    records = [
        {"class": np.uint8(row), "fname": f"{row:05}.jpg", "place": np.array([[row, 1000 * row]])}
        for row in range(1, 40)
    ]
    names = np.array([["AM General Hummer SUV 2000", "Ram C/V", "é", ""]], dtype=object)
    savemat(tmp_path / "a.mat", {"records": structures(records), "names": names}, do_compression=packed)
    found = read_mat(tmp_path / "a.mat", "records", "names")
    assert found["names"] == names[0].tolist()
    expected = loadmat(tmp_path / "a.mat", squeeze_me=True)["records"]
    assert len(found["records"]) == len(expected) == 39
    for ours, theirs in zip(found["records"], expected, strict=True):
        assert list(ours) == ["class", "fname", "place"]
        assert (ours["class"].tolist(), ours["fname"]) == ([theirs["class"]], theirs["fname"])
        assert ours["place"].tolist() == theirs["place"].tolist()


def test_a_file_of_the_other_byte_order_is_read(tmp_path: Path):
    head = struct.pack(">IIII", 6, 8, 6, 0) + struct.pack(">IIii", 5, 8, 1, 2)  # a row of two doubles
    content = head + struct.pack(">HH4s", 1, 1, b"x") + struct.pack(">HHhh", 4, 3, 258, -2)  # stored as short integers
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    (tmp_path / "a.mat").write_bytes(header + struct.pack(">II", 14, len(content)) + content)
    assert read_mat(tmp_path / "a.mat", "x")["x"].tolist() == [258, -2]
    assert loadmat(tmp_path / "a.mat")["x"].tolist() == [[258, -2]]


def test_a_missing_variable_is_named_with_those_that_are_there(tmp_path: Path):
    write_mat(tmp_path / "a.mat", labels=np.array([[1]]), other=np.array([[2]]))
    with pytest.raises(DatasetError, match=r"a\.mat has no variable 'annotations' \(it has labels, other\)"):
        read_mat(tmp_path / "a.mat", "annotations")


@pytest.mark.parametrize(
    "content",
    [b"", b"no MATLAB file", b"MATLAB 7.3 MAT-file".ljust(126) + b"IM", b"MATLAB 5.0 MAT-file".ljust(126) + b"??"],
    ids=["empty", "text", "7.3", "no byte order"],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.mat is damaged, or no MATLAB file"):
        read_mat(tmp_path / "a.mat", "x")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (array(b"", kind=6, name=b"x"), "cut off"),
        (element(14, b""), "cut off"),
        (element(14, element(6, b"")), "no class"),
        (array(element(14, b""), kind=6, name=b"x"), "holds something else"),
        (array(element(9, b"1234"), kind=6, name=b"x"), "buffer size"),
        (array(element(0xFF02, b"12345678"), kind=6, name=b"x"), "holds something else"),
        (array(element(2, b"ab"), kind=4, name=b"x", shape=(2, 1)), "not one line"),
        (array(element(16, b"\xff\xfe"), kind=4, name=b"x"), "decode"),
        (array(element(9, b""), kind=1, name=b"x"), "a cell is no array"),
        (array(element(5, struct.pack("<i", 0)) + element(1, b""), kind=2, name=b"x", shape=(1, 2**30)), "no fields"),
        (array(b"", kind=3, name=b"x"), "no dataset's file"),
        (array(b"", kind=16, name=b"x"), "no dataset's file"),
        (array(b"", kind=17, name=b"x"), "no dataset's file"),
        (struct.pack("<HHII", 14, 5, 0, 0), "longer than its place"),
        (struct.pack("<II", 14, 2**32 - 1), "cut off"),
        (b"\x0e\0\0", "cut off"),
        (element(15, b"not packed"), "Error -3"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, variables: bytes, words: str):
    with pytest.raises(DatasetError, match=words):
        read_mat(write_raw(tmp_path / "a.mat", variables), "x")


def test_cells_within_cells_are_refused_however_deep(tmp_path: Path):
    nested = b""
    for _ in range(300):
        nested = array(nested, kind=1)
    with pytest.raises(DatasetError, match="no dataset's file"):
        read_mat(write_raw(tmp_path / "a.mat", array(nested, kind=1, name=b"x")), "x")


def test_what_unpacks_to_too_much_is_refused_without_unpacking_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    packed = zlib.compress(array(element(2, bytes(10**6)), kind=9, name=b"x", shape=(1, 10**6)))
    path = write_raw(tmp_path / "a.mat", element(15, packed)[: 8 + len(packed)])
    assert len(read_mat(path, "x")["x"]) == 10**6
    monkeypatch.setattr(matfile, "MAX_UNPACKED_BYTES", 10**6)
    with pytest.raises(DatasetError, match="unpacks to more than"):
        read_mat(path, "x")
    monkeypatch.setattr(matfile, "MAX_FILE_BYTES", 1000)
    with pytest.raises(DatasetError, match="is larger than"):
        read_mat(path, "x")


@pytest.mark.parametrize("packed", [True, False])
def test_damaged_files_are_read_or_refused_but_never_end_the_process(tmp_path: Path, packed: bool):
    records = [{"class": np.uint8(row), "fname": f"{row:05}.jpg", "x": np.float64(row / 3)} for row in range(3)]
    savemat(tmp_path / "a.mat", {"annotations": structures(records)}, do_compression=packed)
    sound = (tmp_path / "a.mat").read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(600):
        damaged = bytearray(sound)
        for _ in range(generator.randint(1, 3)):
            damaged[generator.randrange(128, len(damaged))] = generator.choice([0, 1, 2, 14, 15, 128, 255])
        (tmp_path / "b.mat").write_bytes(damaged[: generator.choice([len(damaged), generator.randrange(len(damaged))])])
        try:
            read_mat(tmp_path / "b.mat", "annotations")
        except DatasetError:
            refused += 1
    assert 300 < refused < 600
