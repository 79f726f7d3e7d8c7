"""A dataset as one zip: opened like a folder, unpacked once, and refused whole if anything about it is wrong."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sam_core.config import PROJECT_ROOT
from sam_core.datasets import zipped
from sam_core.datasets.base import Dataset, DatasetError
from sam_core.datasets.catalog import open_dataset
from sam_core.datasets.zipped import left_in_zip, unpack_once, unpack_photographs
from tests.datasets.miniature_lists import write_flowers102, write_pets, write_released
from tests.datasets.miniatures import write_aircraft, write_cars_devkit, write_cub200


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), "green").save(file, "JPEG")
    return file.getvalue()


PICTURE = picture()
#: Two classes of two photographs, the least of what opens.
LEAST = {f"{kind}/{number}.jpg": PICTURE for kind in ("cats", "dogs") for number in range(2)}


def write_zip(path: Path, files: dict[str, bytes], **options: int) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def pack(path: Path, folder: Path, *, top: str | None = None) -> Path:
    """What a person gets who packs a folder, or the files in it where `top` is empty."""
    top = folder.name if top is None else top
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{top}/{file.relative_to(folder).as_posix()}".lstrip("/"))
    return path


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def as_told(dataset: Dataset) -> tuple:
    """What a dataset is, wherever it lies."""
    return (
        dataset.layout,
        dataset.classes,
        dataset.problems,
        [(sample.id, sample.label, sample.split, sample.box, sample.parts) for sample in dataset.samples],
    )


# --- Opened as the folder it is -----------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [None, "", "photos/of/mine"])
def test_a_zip_of_photographs_opens_like_the_folder(tmp_path: Path, photographs: Path, top: str | None):
    archive = pack(tmp_path / "my photos.zip", photographs, top=top)
    dataset = open_dataset(str(archive), data_root=tmp_path / "data")
    assert as_told(dataset) == as_told(open_dataset(str(photographs), data_root=tmp_path))
    assert dataset.name == {None: "shapes", "": "my-photos"}.get(top, "mine")
    assert all(sample.path.read_bytes() == (photographs / sample.id).read_bytes() for sample in dataset.samples)


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "released": lambda place: write_released(place / "Aircraft", "Aircraft"),
    "cub200": lambda place: write_cub200(place / "CUB_200_2011"),
    "cars": lambda place: write_cars_devkit(place / "stanford_cars"),
    "aircraft": lambda place: write_aircraft(place / "fgvc-aircraft-2013b"),
    "flowers102": lambda place: write_flowers102(place / "flowers-102"),
    "pets": lambda place: write_pets(place / "oxford-iiit-pet"),
}


@pytest.mark.parametrize("top", [None, "", "downloaded/copy of it"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_zip_of_a_known_layout_opens_like_the_folder(tmp_path: Path, layout: str, top: str | None):
    folder = LAYOUTS[layout](tmp_path)
    archive = pack(tmp_path / "a.ZIP", folder, top=top)
    dataset = open_dataset(str(archive), data_root=tmp_path / "data")
    assert as_told(dataset) == as_told(open_dataset(str(folder), data_root=tmp_path))


def test_what_else_is_in_the_zip_is_left_there_and_counted(tmp_path: Path):
    others = {
        "a/IMG_1.HEIC": b"x", "a/IMG_2.heic": b"x", "a/run.exe": b"MZ", "a/README": b"hello",
        "__MACOSX/a/._1.jpg": b"x", "__MACOSX/a/2.jpg": b"x",
        "a/.DS_Store": b"x", "a/.git/config": b"x", "a/cats/.hidden.jpg": PICTURE,
        "a/cats/Thumbs.db": b"x", "a/inner.zip": b"PK",
    }  # fmt: skip
    kept = {f"a/{name}": content for name, content in LEAST.items()} | {"a/notes.TXT": b"x", "a/x.mat": b"x"}
    archive = write_zip(tmp_path / "a.zip", others | kept)
    folder = unpack_photographs(archive, tmp_path / "new")
    assert folder == tmp_path / "new" / "a"
    assert files_below(folder) == {*LEAST, "notes.TXT", "x.mat", zipped.LEFT_OUT}
    left = {problem.path: int(problem.detail.split()[0]) for problem in left_in_zip(folder)}
    assert left == {"*.heic": 2, "*.exe": 1, "* files without an ending": 1, "*.db": 1, "*.zip": 1}
    dataset = open_dataset(str(folder), data_root=tmp_path)
    assert {problem.kind for problem in dataset.problems} == {"left in the zip"}
    assert left_in_zip(tmp_path) == ()


def test_a_list_too_long_to_be_read_stays_in_the_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zipped, "MAX_LIST_BYTES", 10)
    archive = write_zip(tmp_path / "a.zip", LEAST | {"short.txt": b"x" * 10, "long.txt": b"x" * 11})
    assert files_below(unpack_photographs(archive, tmp_path / "new")) == {*LEAST, "short.txt", zipped.LEFT_OUT}


def test_paths_written_on_windows_are_understood(tmp_path: Path):
    archive = write_zip(tmp_path / "a.zip", {})
    with zipfile.ZipFile(archive, "w") as opened:
        for name in LEAST:
            info = zipfile.ZipInfo("x")
            info.filename = name.replace("/", "\\")
            opened.writestr(info, PICTURE)
    assert files_below(unpack_photographs(archive, tmp_path / "new")) == set(LEAST)


def test_names_keep_their_spaces_and_letters(tmp_path: Path):
    names = {"Cessna 172/b 1.jpg", "Étoile/ü.jpg", "./猫/a.jpg"}
    archive = write_zip(tmp_path / "a.zip", dict.fromkeys(names, PICTURE))
    assert files_below(unpack_photographs(archive, tmp_path / "new")) == {name.removeprefix("./") for name in names}


@pytest.mark.parametrize(
    ("files", "beginning"),
    [
        ({"train/a/1.jpg", "train/b/1.jpg"}, ""),  # the name of the split means something
        ({"cats/1.jpg", "cats/2.jpg"}, ""),  # as does that of the only class
        ({"x/cats/1.jpg", "x/dogs/2.jpg"}, "x"),
        ({"x/y/z/cats/1.jpg", "x/y/z/dogs/2.jpg"}, "x/y/z"),
        ({"x/cats/1.jpg", "x/dogs/2.jpg", "readme.txt"}, ""),
        ({"data/cats/1.jpg", "data/dogs/2.jpg"}, "data"),
    ],
)
def test_a_dataset_begins_where_its_single_folders_end(tmp_path: Path, files: set[str], beginning: str):
    archive = write_zip(tmp_path / "a.zip", dict.fromkeys(sorted(files), PICTURE))
    assert unpack_photographs(archive, tmp_path / "new") == tmp_path / "new" / beginning


def test_progress_counts_the_files(tmp_path: Path):
    calls: list[tuple[int, int]] = []
    archive = write_zip(tmp_path / "a.zip", LEAST)
    unpack_photographs(archive, tmp_path / "new", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


# --- Once, and whole or not at all --------------------------------------------------------------------------------


def test_the_same_content_is_unpacked_once_under_whatever_name_it_comes(tmp_path: Path):
    archive = write_zip(tmp_path / "my zip.zip", LEAST)
    first = unpack_once(archive, tmp_path / "data")
    (place,) = (tmp_path / "data" / ".unpacked").iterdir()
    assert place.name.startswith("my-zip-")
    assert len(place.name) == len("my-zip-") + 16
    assert first == place / "my-zip"
    (first / "cats" / "0.jpg").write_bytes(b"mark")
    archive = archive.rename(tmp_path / "my zip (1).zip")
    os.utime(archive, (1, 1))
    assert unpack_once(archive, tmp_path / "data", progress=lambda *_: pytest.fail("it unpacks again")) == first
    assert (first / "cats" / "0.jpg").read_bytes() == b"mark"
    other = unpack_once(write_zip(archive, LEAST | {"cats/7.jpg": PICTURE}), tmp_path / "data")
    assert other != first
    assert files_below(other) == {*LEAST, "cats/7.jpg"}


@pytest.mark.parametrize("name", ["....zip", "a b/..c.zip", "x" * 200 + ".zip", "名.zip"])
def test_any_name_of_a_zip_becomes_the_name_of_a_folder(tmp_path: Path, name: str):
    archive = tmp_path / name.replace("/", "-")
    folder = unpack_once(write_zip(archive, LEAST), tmp_path / "data")
    assert folder.parent.parent == tmp_path / "data" / ".unpacked"
    assert files_below(folder) == set(LEAST)


def test_a_folder_that_exists_is_left_alone(tmp_path: Path):
    archive = write_zip(tmp_path / "a.zip", LEAST)
    (tmp_path / "new").mkdir()
    with pytest.raises(DatasetError, match="exists already"):
        unpack_photographs(archive, tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_an_interruption_leaves_nothing(tmp_path: Path):
    archive = write_zip(tmp_path / "a.zip", LEAST)

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    for unpack in (lambda: unpack_photographs(archive, tmp_path / "new", progress=interrupt),
                   lambda: unpack_once(archive, tmp_path, progress=interrupt)):  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            unpack()
    assert files_below(tmp_path) == {"a.zip"}
    assert list((tmp_path / ".unpacked").iterdir()) == []
    assert unpack_once(archive, tmp_path).is_dir()


def test_what_a_killed_process_left_long_ago_is_removed(tmp_path: Path):
    archive = write_zip(tmp_path / "a.zip", LEAST)
    old, new, mine = (tmp_path / name for name in (".new-old.unpacking", ".new-now.unpacking", ".new-of mine"))
    for folder in (old, new, mine):
        folder.mkdir()
    for folder in (old, mine):
        os.utime(folder, (time.time() - 90_000,) * 2)
    unpack_photographs(archive, tmp_path / "new")
    assert [folder.exists() for folder in (old, new, mine)] == [False, True, True]


_UNPACKER = """
import sys, time
from pathlib import Path
from sam_core.datasets.zipped import unpack_once

place = Path(sys.argv[1])
while not (place / "gate").exists():
    time.sleep(0.005)
print(unpack_once(place / "a.zip", place / "data", progress=lambda done, total: time.sleep(0.002)))
"""


def test_two_processes_may_unpack_the_same_zip_at_once(tmp_path: Path):
    files = {f"{kind}/{number}.jpg": PICTURE for kind in ("cats", "dogs") for number in range(100)}
    write_zip(tmp_path / "a.zip", files)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    unpackers = [
        subprocess.Popen(
            [sys.executable, "-c", _UNPACKER, str(tmp_path)], stdout=subprocess.PIPE, env=environment, text=True
        )
        for _ in range(2)
    ]
    (tmp_path / "gate").touch()
    said = [unpacker.communicate(timeout=60)[0].strip() for unpacker in unpackers]
    assert [unpacker.returncode for unpacker in unpackers] == [0, 0]
    assert said[0] == said[1]
    assert files_below(tmp_path / "data" / ".unpacked") == {
        f"{Path(said[0]).relative_to(tmp_path / 'data' / '.unpacked').as_posix()}/{name}" for name in files
    }


def test_a_process_that_finds_the_folder_made_meanwhile_uses_it(tmp_path: Path):
    archive = write_zip(tmp_path / "a.zip", LEAST)
    theirs: list[Path] = []

    def another(done: int, total: int) -> None:
        if done == total:
            theirs.append(unpack_once(archive, tmp_path))

    assert unpack_once(archive, tmp_path, progress=another) == theirs[0]
    assert files_below(theirs[0]) == set(LEAST)
    with pytest.raises(DatasetError, match="exists already"):
        unpack_photographs(
            archive, tmp_path / "new", progress=lambda done, total: (tmp_path / "new" / "x").mkdir(parents=True)
            if done == total else None,
        )  # fmt: skip


# --- Refused ------------------------------------------------------------------------------------------------------


def refused(archive: Path, words: str) -> DatasetError:
    """Unpack what must not be: nothing may appear, neither there nor beside it."""
    place = archive.parent / "place"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    with pytest.raises(DatasetError, match=words) as caught:
        unpack_photographs(archive, place / "new")
    assert list(place.iterdir()) == []
    with pytest.raises(DatasetError, match=words):
        unpack_once(archive, place)
    assert files_below(place) == set()
    assert str(archive) in str(caught.value)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    "name",
    [
        "../x.jpg", "a/../../x.jpg", "a/..", "/etc/x.jpg", "//server/x.jpg", "C:/x.jpg", "c:x.jpg", r"..\x.jpg",
        r"a\..\..\x.jpg", r"\x.jpg", "C:\\x.jpg", "a/\nx.jpg", "a/\x7fx.jpg", "a/" * 40 + "x.jpg", "../x.exe",
    ],
)  # fmt: skip
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str):
    archive = write_zip(tmp_path / "a.zip", LEAST)
    with zipfile.ZipFile(archive, "a") as opened:
        info = zipfile.ZipInfo("x")
        info.filename = name
        opened.writestr(info, PICTURE)
    refused(archive, "is no plain name inside a folder")
    assert files_below(tmp_path) == {"a.zip"}


def test_a_name_cut_by_a_zero_byte_is_refused(tmp_path: Path):
    archive = write_zip(tmp_path / "a.zip", LEAST | {"zz/x.jpg.exe": PICTURE})
    archive.write_bytes(archive.read_bytes().replace(b"zz/x.jpg.exe", b"zz/x.jpg\0exe"))
    refused(archive, "is no plain name inside a folder")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
@pytest.mark.parametrize("name", ["link.jpg", "train", ".link"])
def test_a_link_or_device_is_refused(tmp_path: Path, kind: int, name: str):
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    archive = write_zip(tmp_path / "a.zip", LEAST)
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(info, "/etc/passwd")
    refused(archive, "is a link or a device")


def test_an_encrypted_zip_is_refused_as_that(tmp_path: Path):
    archive = write_zip(tmp_path / "a.zip", LEAST)
    content = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    archive.write_bytes(content)
    assert "without a password" in refused(archive, "is encrypted").hint


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(tmp_path: Path, method: int):
    refused(write_zip(tmp_path / "a.zip", LEAST, compression=method), "compressed in an unusual way")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("a/x.jpg", "a/x.jpg", "twice"),
        ("a/x.jpg", "A/X.JPG", "twice"),
        ("a/x.jpg", "a//./x.jpg", "twice"),
        ("a/\u00fc.jpg", "a/u\u0308.jpg", "twice"),
        ("a/x.jpg", "a/X.jpg/y.jpg", "as a file and as a folder"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(tmp_path: Path, first: str, second: str, words: str):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for name in (first, second):
            opened.writestr(name, PICTURE)
    refused(archive, words)


def test_too_many_files_are_refused_before_they_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = write_zip(tmp_path / "a.zip", {f"{number}.jpg": b"" for number in range(50)})
    monkeypatch.setattr(zipped, "MAX_ENTRIES", 49)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    refused(archive, "holds more than 49 files")


@pytest.mark.parametrize("block", [1, 7, 64])
def test_entries_are_counted_wherever_a_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int):
    archive = write_zip(tmp_path / "a.zip", {f"{number}.jpg": b"" for number in range(50)})
    monkeypatch.setattr(zipped, "READ_BYTES", block)
    monkeypatch.setattr(zipped, "MAX_ENTRIES", 50)
    zipped._refuse_too_many(archive)
    monkeypatch.setattr(zipped, "MAX_ENTRIES", 49)
    with pytest.raises(DatasetError):
        zipped._refuse_too_many(archive)


def test_more_bytes_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = write_zip(tmp_path / "a.zip", LEAST)
    monkeypatch.setattr(zipped, "MAX_BYTES", 4 * len(PICTURE) - 1)
    refused(archive, "when unpacked, the limit is")


def test_an_archive_made_to_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bomb = write_zip(tmp_path / "a.zip", {"a/x.bmp": bytes(3_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10_000
    assert unpack_photographs(bomb, tmp_path / "small enough").is_dir()
    monkeypatch.setattr(zipped, "RATIO_FREE_BYTES", 2_000_000)
    refused(bomb, "which photographs never do")


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A thousand names for one file: each is modest, all together are not."""
    archive = write_zip(tmp_path / "a.zip", {f"{number:04}.bmp": b"" for number in range(1000)})
    content = bytearray(write_zip(tmp_path / "b.zip", {"0000.bmp": bytes(100_000)}).read_bytes())
    head, directory = content[: content.index(b"PK\x01\x02")], content[content.index(b"PK\x01\x02") :]
    entry, end = directory[: directory.index(b"PK\x05\x06")], directory[directory.index(b"PK\x05\x06") :]
    struct.pack_into("<HHI", end, 8, 1000, 1000, 1000 * len(entry))
    entries = b"".join(entry.replace(b"0000.bmp", f"{number:04}.bmp".encode()) for number in range(1000))
    archive.write_bytes(head + entries + end)
    monkeypatch.setattr(zipped, "RATIO_FREE_BYTES", 2_000_000)
    monkeypatch.setattr(zipped, "MAX_RATIO", 100)
    refused(archive, "which photographs never do")


def test_a_size_that_is_not_the_declared_one_is_refused(tmp_path: Path):
    for claim in (len(PICTURE) - 1, len(PICTURE) + 1):
        archive = write_zip(tmp_path / "a.zip", LEAST)
        content = bytearray(archive.read_bytes())
        struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + 24, claim)
        archive.write_bytes(content)
        refused(archive, "no zip archive, or a damaged one")


def test_a_disk_without_room_is_seen_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = write_zip(tmp_path / "a.zip", LEAST)
    needed = 4 * len(PICTURE) + 4 * zipped.BLOCK + zipped.KEPT_FREE
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**12, 0, needed - 1))
    assert "--data-root" in refused(archive, "needs 0 MB, and .* has 0 MB to spare").hint
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**12, 0, needed))
    assert unpack_photographs(archive, tmp_path / "new").is_dir()


def test_damage_is_refused(tmp_path: Path):
    whole = write_zip(tmp_path / "whole.zip", LEAST).read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(PICTURE) + 100] ^= 0xFF
    for content in (b"", b"no zip", whole[: len(whole) // 2], whole[:-10], bytes(flipped)):
        (tmp_path / "a.zip").write_bytes(content)
        refused(tmp_path / "a.zip", "no zip archive, or a damaged one")


def test_a_zip_without_photographs_is_refused(tmp_path: Path):
    refused(write_zip(tmp_path / "a.zip", {}), r"no photograph \(0 other files\)")
    refused(write_zip(tmp_path / "a.zip", {"a.heic": b"x", "b.txt": b"x"}), r"no photograph \(1 other files\)")


def test_a_zip_that_is_not_there_or_cannot_be_unpacked_here_is_refused(tmp_path: Path):
    with pytest.raises(DatasetError, match="cannot be unpacked: No such file"):
        unpack_once(tmp_path / "none.zip", tmp_path)
    archive = write_zip(tmp_path / "a.zip", LEAST)
    (tmp_path / "file").touch()
    for unpack in (lambda: unpack_once(archive, tmp_path / "file"),
                   lambda: unpack_photographs(archive, tmp_path / "file" / "x")):  # fmt: skip
        with pytest.raises(DatasetError, match="cannot be unpacked"):
            unpack()
