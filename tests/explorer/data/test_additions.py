from __future__ import annotations

import io
import os
import time
import zipfile

import pytest

from explorer.data import additions as additions_module
from explorer.data.additions import MARKER, Additions
from explorer.places import Places
from sam_core.config import ConfigError
from sam_core.datasets.base import DatasetError
from sam_core.datasets.catalog import open_dataset
from tests.conftest import write_photographs


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def additions(root, tmp_path):
    return Additions(Places(tmp_path / "runs", data_roots=(root,)))


@pytest.fixture
def packed(photographs, tmp_path):
    """A zip of photographs as a system packs a folder, received under a name that means nothing."""
    path = tmp_path / ".upload-x7"
    with zipfile.ZipFile(path, "w") as archive:
        for picture in sorted(photographs.rglob("*.png")):
            archive.write(picture, f"My photographs/{picture.relative_to(photographs)}")
        archive.writestr("__MACOSX/My photographs/._x", b"x")
    return path


def test_a_zip_becomes_a_folder_that_is_named_after_it(additions, root, packed, photographs):
    folder = additions.add(packed, "My leaves.zip")
    assert folder == root / "My-leaves"
    dataset = open_dataset(str(folder), data_root=root)
    assert len(dataset.samples) == 27
    assert additions.is_own(folder)
    assert [path.name for path in root.iterdir()] == ["My-leaves"], "nothing else is left"


def test_the_same_zip_again_gets_a_folder_of_its_own(additions, root, packed):
    names = [additions.add(packed, "leaves.zip").name for _ in range(3)]
    assert names == ["leaves", "leaves-2", "leaves-3"]


def zip_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no zip archive"),
        (b"this is text", "no zip archive"),
        (zip_of(notes=b"x"), "no photograph"),
        (zip_of(**{"a.jpg": b"x", "b.jpg": b"x"}), "no class"),
        (zip_of(**{"ash__1.jpg": b"x", "ash__2.jpg": b"x"}), "one class"),
        (zip_of(**{"..__..__evil.jpg": b"x"}), "no plain name"),
        (zip_of(**{"a__1.jpg": b"\0" * 300_000_000}), "photographs never do"),
    ],
    ids=["empty", "text", "no photograph", "no class folders", "one class", "climbs out", "a bomb"],
)
def test_what_is_no_dataset_is_refused_by_its_own_name_and_leaves_nothing(additions, root, tmp_path, content, words):
    archive = tmp_path / ".upload-x7"
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match=words) as refused:
        additions.add(archive, "leaves.zip")
    assert "leaves.zip" in str(refused.value)
    for hidden in (".upload", ".adding", str(tmp_path)):
        assert hidden not in f"{refused.value} {refused.value.hint}", "where it lay means nothing to anybody"
    assert list(root.iterdir()) == []


def test_an_interrupted_unpacking_leaves_nothing(additions, root, packed):
    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        additions.add(packed, "leaves.zip", progress=interrupt)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("leaves.zip", "leaves"),
        ("Blätter im Herbst.ZIP", "Blätter-im-Herbst"),
        ("../../etc/passwd.zip", "passwd"),
        ("C:\\photos\\leaves.zip", "leaves"),
        (".hidden.zip", "hidden"),
        ("___.zip", "photographs"),
        ("", "photographs"),
        ("a:d*e\0f.zip", "a-d-e-f"),
        ("nul.zip", "photographs-nul"),
        ("fieldguide-1.zip", "photographs-fieldguide-1"),
        ("x" * 300 + ".zip", "x" * 60),
    ],
)
def test_a_folders_name_is_plain_whatever_the_file_is_called(additions, packed, filename, name):
    assert additions.add(packed, filename).name == name


def test_only_what_was_added_from_the_page_is_deleted_there(additions, root, packed, tmp_path):
    own = additions.add(packed, "leaves.zip")
    others = write_photographs(root / "others")
    for folder in (others, root, tmp_path):
        with pytest.raises(ConfigError, match="not added from this page"):
            additions.delete(folder)
    linked = root / "linked"
    linked.symlink_to(own)
    with pytest.raises(ConfigError):
        additions.delete(linked)
    additions.delete(own)
    assert not own.exists()
    assert others.is_dir()
    assert sorted(path.name for path in root.iterdir()) == ["linked", "others"]


def test_a_marker_elsewhere_makes_nothing_ones_own(additions, root):
    deep = write_photographs(root / "others" / "deep")
    (deep / MARKER).write_text("{}")
    assert not additions.is_own(deep)


def test_what_a_killed_server_left_half_made_is_removed_once_it_is_old(additions, root, packed, monkeypatch):
    old, new = root / ".adding-old", root / ".removing-new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "x.jpg").write_bytes(b"x")
    past = time.time() - additions_module.STALE_S - 60
    os.utime(old, (past, past))
    additions.add(packed, "leaves.zip")
    assert not old.exists()
    assert new.exists(), "another server may be at work on it"
