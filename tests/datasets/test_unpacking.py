"""Archives of friends are unpacked whole; archives of strangers do no harm."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sam_core.datasets import unpacking
from sam_core.datasets.base import DatasetError
from sam_core.datasets.unpacking import unpack_tar

Entry = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes = b"content", **changes: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def other(name: str, kind: bytes, target: str = "") -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


GOOD = (file("birds/images/a.jpg", b"a"), file("birds/images.txt", b"1 a.jpg\n"), file("attributes.txt"))


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    def write(*entries: Entry) -> Path:
        path = tmp_path / "birds.tgz"
        with tarfile.open(path, "w:gz") as tar:
            for info, content in entries:
                tar.addfile(info, io.BytesIO(content))
        return path

    return write


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "root" / "birds"


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_is_unpacked_and_nothing_beside_it(pack: Callable[..., Path], target: Path):
    seen: list[tuple[int, int]] = []
    archive = pack(*GOOD)
    unpack_tar(archive, target, progress=lambda *what: seen.append(what))
    assert everything_in(target.parent) == {"birds/images/a.jpg": b"a", "birds/images.txt": b"1 a.jpg\n"}
    assert [path.name for path in target.parent.iterdir()] == ["birds"]
    assert seen[-1] == (archive.stat().st_size, archive.stat().st_size)


def test_names_may_begin_with_a_dot_and_a_slash(pack: Callable[..., Path], target: Path):
    unpack_tar(pack(other("./", tarfile.DIRTYPE), file("./birds/a.txt")), target)
    assert everything_in(target) == {"a.txt": b"content"}


def test_owners_and_special_rights_are_not_taken_over(pack: Callable[..., Path], target: Path):
    unpack_tar(pack(file("birds/a.txt", mode=0o6777, uid=12345, gid=12345)), target)
    assert (target / "a.txt").stat().st_mode & 0o7022 == 0
    assert (target / "a.txt").stat().st_uid == target.stat().st_uid


HOSTILE = {
    "above": (file("birds/../../escaped.txt"), "'birds/../../escaped.txt' leads out of the folder"),
    "absolute": (file("/tmp/escaped.txt"), "'/tmp/escaped.txt' leads out of the folder"),
    "drive": (file("C:/escaped.txt"), "'C:/escaped.txt' leads out of the folder"),
    "backslash": (file("birds\\..\\..\\escaped.txt"), "leads out of the folder"),
    "control": (file("birds/a\x1b[2J.txt"), "is no plain name"),
    "symlink": (other("birds/link", tarfile.SYMTYPE, "/etc/passwd"), "'birds/link' is a link, a device"),
    "symlink inside": (other("birds/link", tarfile.SYMTYPE, "images"), "is a link"),
    "hard link": (other("birds/link", tarfile.LNKTYPE, "../../escaped.txt"), "is a link"),
    "device": (other("birds/null", tarfile.CHRTYPE), "is a link, a device"),
    "pipe": (other("birds/pipe", tarfile.FIFOTYPE), "is a link, a device"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["within", "beside"])
def test_a_hostile_member_is_refused(name: str, place: str, pack: Callable[..., Path], target: Path, tmp_path: Path):
    (info, content), words = HOSTILE[name]
    if place == "beside":
        info = tarfile.TarInfo.frombuf(info.tobuf(), "utf-8", "strict")
        info.name = info.name.replace("birds", "elsewhere")
        words = words.replace("birds", "elsewhere")
    archive = pack(*GOOD, (info, content))
    with pytest.raises(DatasetError) as caught:
        unpack_tar(archive, target)
    assert words in str(caught.value)
    assert "birds.tgz" in str(caught.value)
    assert everything_in(tmp_path) == {"birds.tgz": archive.read_bytes()}


def test_a_claim_of_many_bytes_is_refused_before_they_are_written(pack: Callable[..., Path], target: Path):
    archive = pack(file("birds/zeros", bytes(3_000_000)))
    assert archive.stat().st_size < 10_000
    with pytest.raises(DatasetError, match="more than 200,000 files or 1,000,000 bytes"):
        unpack_tar(archive, target, max_bytes=1_000_000)
    assert everything_in(target.parent) == {}


def test_a_file_of_holes_is_refused(tmp_path: Path, target: Path):
    # GNU's old sparse format: a head that claims a terabyte, of which no byte is stored.
    info = tarfile.TarInfo("birds/holes")
    info.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[483:495] = b"%011o\0" % 2**32
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    archive = tmp_path / "birds.tgz"
    archive.write_bytes(gzip.compress(bytes(head) + bytes(1024)))
    with pytest.raises(DatasetError, match="a file with holes"):
        unpack_tar(archive, target)


def test_too_many_members_are_refused(pack: Callable[..., Path], target: Path):
    with pytest.raises(DatasetError, match="more than 9 files"):
        unpack_tar(pack(*(file(f"birds/{number}") for number in range(10))), target, max_members=9)
    assert everything_in(target.parent) == {}


@pytest.mark.parametrize("kind", ["cut", "garbled", "no gzip", "empty", "file and folder"])
def test_a_damaged_archive_is_named(kind: str, pack: Callable[..., Path], target: Path):
    archive = pack(file("birds/a.txt", " ".join(map(str, range(20_000))).encode()), file("birds/b.txt"))
    content = archive.read_bytes()
    if kind == "file and folder":
        pack(file("birds/a"), file("birds/a/b"))
    else:
        broken = {"cut": content[: len(content) // 2], "no gzip": b"no archive", "empty": b""}
        archive.write_bytes(broken.get(kind, content[:600] + bytes(400) + content[1000:]))
    with pytest.raises(DatasetError) as caught:
        unpack_tar(archive, target)
    assert f"{archive} is damaged" in str(caught.value)
    assert "fetches it anew" in caught.value.hint
    assert list(target.parent.iterdir()) == []


def test_another_archive_is_not_taken_for_it(pack: Callable[..., Path], target: Path):
    with pytest.raises(DatasetError, match=r"birds\.tgz holds no folder birds"):
        unpack_tar(pack(file("cars/a.jpg"), file("birds")), target)
    assert list(target.parent.iterdir()) == []


def test_what_is_there_is_not_touched(pack: Callable[..., Path], target: Path):
    target.mkdir(parents=True)
    (target / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"there is .*birds already"):
        unpack_tar(pack(*GOOD), target)
    assert everything_in(target) == {"mine.txt": b"mine"}


def test_an_interruption_leaves_nothing_and_a_kill_nothing_for_long(
    pack: Callable[..., Path], target: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    archive = pack(*GOOD)
    with pytest.raises(KeyboardInterrupt):
        unpack_tar(archive, target, progress=interrupt)
    assert list(target.parent.iterdir()) == []
    with monkeypatch.context() as killed:  # a process that is killed cleans nothing up
        killed.setattr(unpacking.shutil, "rmtree", lambda *arguments, **keywords: None)
        with pytest.raises(KeyboardInterrupt):
            unpack_tar(archive, target, progress=interrupt)
    (left,) = target.parent.iterdir()
    assert left.name.startswith(".birds-unpacking-")
    unpack_tar(archive, target)
    assert [path.name for path in target.parent.iterdir()] == ["birds"]
