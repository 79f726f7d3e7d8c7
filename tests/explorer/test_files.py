from __future__ import annotations

import os

from explorer.files import modified, state_of


def test_a_file_that_is_not_there_was_never_written(tmp_path):
    assert modified(tmp_path / "nothing") == 0


def test_a_folders_state_stays_as_long_as_its_files_do(photographs):
    assert state_of(photographs) == state_of(photographs)


def test_every_change_of_a_file_changes_the_state(photographs):
    picture = photographs / "train" / "circle" / "00.png"
    seen = {state_of(photographs)}
    about = picture.stat()
    os.utime(picture, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    seen.add(state_of(photographs))
    with open(picture, "ab") as file:  # written in place, as an editor may, and dated back
        file.write(b"x")
    os.utime(picture, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    seen.add(state_of(photographs))
    picture.rename(picture.with_name("renamed.png"))
    seen.add(state_of(photographs))
    picture.with_name("renamed.png").unlink()
    seen.add(state_of(photographs))
    (photographs / "train" / "empty class").mkdir()
    seen.add(state_of(photographs))
    assert len(seen) == 6


def test_what_is_hidden_does_not_count(photographs):
    before = state_of(photographs)
    (photographs / ".cache").mkdir()
    (photographs / ".cache" / "facts").write_text("x")
    assert state_of(photographs) == before


def test_a_file_alone_and_a_place_that_is_gone_have_a_state_too(tmp_path):
    archive = tmp_path / "photographs.zip"
    gone = state_of(archive)
    archive.write_bytes(b"one")
    first = state_of(archive)
    archive.write_bytes(b"other")
    assert len({gone, first, state_of(archive)}) == 3


def test_links_in_a_circle_come_to_an_end(photographs):
    (photographs / "train" / "circle" / "again").symlink_to(photographs)
    assert state_of(photographs)
