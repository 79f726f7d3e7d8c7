"""The datasets that are open: each read once, in a thread of its own, and kept while its files stay as they are."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from explorer.files import state_of
from explorer.places import Places
from sam_core.config import RunConfig
from sam_core.datasets.base import Dataset, DatasetError
from sam_core.datasets.catalog import DATASETS, open_dataset, recognise
from sam_core.datasets.fieldguide.build import guide_folder
from sam_core.datasets.fieldguide.guide import DEFAULT_HABITAT_BIAS

#: Datasets are kept as long as they have no more images than this together: some 50 MB, or twice that with parts.
KEPT_IMAGES = 60_000
#: Whether files have changed is looked up again when somebody asks after so long.
LOOK_EVERY_S = 3.0
#: A dataset that was refused is tried again when somebody asks after so long: it may have been mended.
REFUSAL_LIVES_S = 3.0
KEPT_REFUSALS = 200
#: Seconds that the end of the server waits for a reading to notice it.
PATIENCE_S = 5.0


@dataclass(frozen=True)
class Selection:
    """Which dataset, and how it is opened.

    Attributes:
        name: a named dataset, or the absolute path of a folder or a zip, as `Places.dataset` gives it.
        split_seed: the seed of what is held out for testing, where the data do not say.
        class_level: aircraft only: what counts as a class.
    """

    name: str
    split_seed: int = 0
    class_level: str = "variant"


@dataclass
class OpenSet:
    """A dataset that has been read. `version` names the state that its files were in."""

    selection: Selection
    dataset: Dataset
    version: str
    looked: float

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Where the sample of an id stands among the dataset's samples."""
        return {sample.id: row for row, sample in enumerate(self.dataset.samples)}


@dataclass
class Reading:
    """A dataset that is being read: how far that is, where this is known, of how much."""

    selection: Selection
    done: int = 0
    total: int = 0
    result: Future[OpenSet] = field(default_factory=Future)

    @property
    def words(self) -> str:
        """What is being done."""
        if self.selection.name == "fieldguide":
            return "Drawing the field guide" if self.total else "Opening the field guide"
        return "Unpacking the zip" if self.selection.name.lower().endswith(".zip") else "Reading the list of images"


class Shelf:
    """Open datasets by what was asked for. Safe to use from any thread; many who ask for one share one reading."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._kept: OrderedDict[Selection, OpenSet] = OrderedDict()
        self._reading: dict[Selection, Reading] = {}
        self._refused: dict[Selection, tuple[float, BaseException]] = {}
        self._closed = False

    def open(self, selection: Selection) -> OpenSet:
        """A dataset as its files are now, however long that takes.

        Raises:
            DatasetError: if it cannot be used.
        """
        found = self.look(selection)
        return found.result.result() if isinstance(found, Reading) else found

    def look(self, selection: Selection, *, wait_s: float = 0.0) -> OpenSet | Reading:
        """A dataset as its files are now, or the reading that has been begun, if that takes longer than `wait_s`.

        Raises:
            DatasetError: if it cannot be used.
        """
        known = self._known(selection)
        if known is not None:
            return known
        with self._lock:
            at, error = self._refused.get(selection, (float("-inf"), None))
            if error is not None and time.monotonic() - at < REFUSAL_LIVES_S:
                raise error
            reading = self._reading.get(selection)
            if reading is None:
                reading = self._reading[selection] = Reading(selection)
                threading.Thread(target=self._read, args=(reading,), name="reading a dataset", daemon=True).start()
        try:
            return reading.result.result(timeout=wait_s)
        except TimeoutError:
            return reading

    def any_of(self, name: str) -> OpenSet:
        """A dataset however it was opened, without looking at its files again: for the pictures of its samples."""
        with self._lock:
            for selection in reversed(self._kept):
                if selection.name == name:
                    return self._kept[selection]
        return self.open(Selection(name))

    def has(self, name: str) -> bool:
        """Whether a dataset is open."""
        with self._lock:
            return any(selection.name == name for selection in self._kept)

    def forget(self, name: str) -> None:
        """Let go of a dataset that has changed or is gone."""
        with self._lock:
            for known in (self._kept, self._refused):
                for selection in [selection for selection in known if selection.name == name]:
                    del known[selection]

    def select(self, config: RunConfig) -> Selection:
        """What to open for a run, without the choices that make no difference to its dataset.

        Only a folder of one's own leaves the split to the seed, and only aircraft have levels of classes; a dataset of
        any other kind would be read again for nothing.
        """
        layout = config.dataset
        if layout not in DATASETS:
            with contextlib.suppress(DatasetError):  # opening it says what is wrong
                layout = recognise(Path(layout))[0] if Path(layout).is_dir() else "folder"
        return Selection(
            config.dataset,
            split_seed=config.split_seed if layout == "folder" else 0,
            class_level=config.class_level if layout == "aircraft" else "variant",
        )

    def state(self, name: str) -> str:
        """A name for the state that a dataset's files are in now."""
        if name == "fieldguide":
            return state_of(guide_folder(self._places.data_roots[0], 0, DEFAULT_HABITAT_BIAS))
        folder = self._places.named_folder(name) if name in DATASETS else Path(name)
        return state_of(folder) if folder else "not here"

    def close(self) -> None:
        """End the readings that go on."""
        self._closed = True
        with self._lock:
            going_on = list(self._reading.values())
        for reading in going_on:
            with contextlib.suppress(BaseException):
                reading.result.result(timeout=PATIENCE_S)

    # --- reading --------------------------------------------------------------------------------------------------

    def _known(self, selection: Selection) -> OpenSet | None:
        with self._lock:
            kept = self._kept.get(selection)
            if kept is None:
                return None
            self._kept.move_to_end(selection)
        if time.monotonic() - kept.looked > LOOK_EVERY_S:
            if self.state(selection.name) != kept.version:
                self.forget(selection.name)
                return None
            kept.looked = time.monotonic()
        return kept

    def _read(self, reading: Reading) -> None:
        selection = reading.selection

        def note(done: int, total: int) -> None:
            if self._closed:
                raise DatasetError("the server was ended while it read the dataset")
            reading.done, reading.total = done, total

        try:
            version = self.state(selection.name)
            dataset = open_dataset(
                selection.name,
                data_root=self._places.data_root_of(selection.name),
                split_seed=selection.split_seed,
                class_level=selection.class_level,
                progress=note,
            )
            if selection.name == "fieldguide":
                version = self.state(selection.name)  # it may have been drawn just now
            opened = OpenSet(selection, dataset, version, time.monotonic())
        except BaseException as error:
            with self._lock:
                if len(self._refused) >= KEPT_REFUSALS:
                    self._refused.clear()
                self._refused[selection] = (time.monotonic(), error)
                self._reading.pop(selection, None)
            reading.result.set_exception(error)
            return
        with self._lock:
            self._keep(opened)
            self._reading.pop(selection, None)
        reading.result.set_result(opened)

    def _keep(self, opened: OpenSet) -> None:
        self._refused.pop(opened.selection, None)
        self._kept[opened.selection] = opened
        while len(self._kept) > 1 and sum(len(kept.dataset.samples) for kept in self._kept.values()) > KEPT_IMAGES:
            self._kept.popitem(last=False)
