"""Open runs, kept between requests: a run's list of samples is parsed once, not once per picture."""

from __future__ import annotations

from pathlib import Path

from explorer.files import modified
from explorer.kept import Kept
from explorer.places import Places
from sam_core.recording import layout
from sam_core.recording.reader import Run

KEPT_RUNS = 12


class OpenRuns:
    """The runs that pages look at. A run whose files were made anew is opened anew."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._runs: Kept[tuple[Path, int, int], Run] = Kept(KEPT_RUNS)

    def get(self, run_id: object) -> Run:
        """The run with this id.

        Raises:
            RunError: if there is none.
        """
        folder = self._places.run_folder(run_id)
        key = (folder, modified(folder / layout.SAMPLES), modified(folder / layout.ATTENTION / "meta.json"))
        return self._runs.get(key, lambda: Run(folder))
