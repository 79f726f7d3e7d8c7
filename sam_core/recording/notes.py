"""What people say about a run: its name and their notes. The only files of a run that are changed after training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sam_core.recording import layout
from sam_core.recording.content import parse_json

LONGEST_NAME = 120
LONGEST_NOTES = 20_000


@dataclass(frozen=True)
class Notes:
    """A run's name and notes, as people wrote them."""

    name: str = ""
    notes: str = ""

    @classmethod
    def from_json(cls, value: Any) -> Notes:
        """Read what `write_notes` wrote; `ValueError` for anything that it would not write."""
        if not isinstance(value, Mapping) or not all(isinstance(value.get(key), str) for key in ("name", "notes")):
            raise ValueError(f"{layout.NOTES} must hold an object with name and notes")
        return cls(value["name"], value["notes"]).checked()

    def checked(self) -> Notes:
        """The same with the name on one line and without spaces around it.

        Raises:
            ValueError: naming the field that is too long, and the limit.
        """
        name = " ".join(self.name.split())
        for field, text, limit in (("name", name, LONGEST_NAME), ("notes", self.notes, LONGEST_NOTES)):
            if len(text) > limit:
                raise ValueError(f"{field}: at most {limit:,} characters, not {len(text):,}")
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError(f"{field}: must be text; one of its characters is half of one") from None
        return Notes(name, self.notes)


def read_notes(folder: Path, default_name: str = "") -> Notes:
    """The name and notes of a run; where there are none or the file is damaged, `default_name` and no notes."""
    try:
        return Notes.from_json(parse_json((folder / layout.NOTES).read_bytes()))
    except (OSError, ValueError):
        return Notes(default_name)


def write_notes(folder: Path, notes: Notes) -> None:
    """Replace the name and notes of a run.

    Raises:
        ValueError: naming the field that is too long, and the limit; nothing is written then.
    """
    layout.write_json(folder / layout.NOTES, asdict(notes.checked()))
