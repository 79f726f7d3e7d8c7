"""What people say about a run, kept beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_core.recording import layout
from sam_core.recording.notes import LONGEST_NAME, LONGEST_NOTES, Notes, read_notes, write_notes


def test_what_is_written_is_read_with_the_name_on_one_line(tmp_path: Path):
    write_notes(tmp_path, Notes("  Grünfink,\n first  try ", "a line\n\nand another one\n"))
    assert read_notes(tmp_path, "run") == Notes("Grünfink, first try", "a line\n\nand another one\n")
    assert [path.name for path in tmp_path.iterdir()] == [layout.NOTES]


def test_a_name_that_was_taken_away_stays_away(tmp_path: Path):
    write_notes(tmp_path, Notes())
    assert read_notes(tmp_path, "run") == Notes()


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"[]", b"\xff\xfe", b'{"name": 3, "notes": ""}', b'{"name": "a"}', b"[" * 100_000,
     b'{"name": "\\ud800", "notes": ""}', b'{"name": "' + b"a" * 121 + b'", "notes": ""}'],
)  # fmt: skip
def test_without_readable_notes_a_run_has_its_default_name(content: bytes | None, tmp_path: Path):
    if content is not None:
        (tmp_path / layout.NOTES).write_bytes(content)
    assert read_notes(tmp_path, "run") == Notes("run", "")


@pytest.mark.parametrize(
    ("notes", "sentence"),
    [
        (Notes("a" * (LONGEST_NAME + 1)), "name: at most 120 characters, not 121"),
        (Notes("a", "b" * (LONGEST_NOTES + 1)), "notes: at most 20,000 characters, not 20,001"),
        (Notes("\ud800"), "name: must be text"),
    ],
)
def test_what_is_too_long_is_refused_by_field_and_limit_and_the_old_notes_stay(
    notes: Notes, sentence: str, tmp_path: Path
):
    write_notes(tmp_path, Notes("old"))
    with pytest.raises(ValueError, match=sentence):
        write_notes(tmp_path, notes)
    assert read_notes(tmp_path) == Notes("old")


def test_the_longest_name_and_notes_fit(tmp_path: Path):
    longest = Notes("a" * LONGEST_NAME, "b" * LONGEST_NOTES)
    write_notes(tmp_path, Notes(f" {longest.name} ", longest.notes))
    assert read_notes(tmp_path) == longest
