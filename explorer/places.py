"""What the server may touch: the run folders and data roots that it was started with, and nothing else.

Every name and path that comes from a browser, an API client or a run folder of unknown origin goes through here.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from sam_core.config import DATASETS, DEFAULT_DATA_ROOT, DEFAULT_RUNS, PRETRAINED_DIR, PROJECT_ROOT, ConfigError
from sam_core.datasets.catalog import named_folder
from sam_core.recording import layout
from sam_core.recording.writer import RunError

DEMO_RUNS = PROJECT_ROOT / "checkpoints" / "demo"
#: A run id is one plain folder name: no separators, no leading dot, nothing that a shell or a URL reads otherwise.
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class Places:
    """The folders of one server. All paths are absolute and resolved.

    Attributes:
        runs: where runs are made, listed and deleted.
        demo: recorded runs that come with the program; they are shown and never changed.
        data_roots: folders whose images may be shown and trained on; named datasets are kept in the first.
    """

    runs: Path = DEFAULT_RUNS
    demo: Path = DEMO_RUNS
    data_roots: tuple[Path, ...] = (DEFAULT_DATA_ROOT,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", Path(self.runs).expanduser().resolve())
        object.__setattr__(self, "demo", Path(self.demo).expanduser().resolve())
        roots = tuple(Path(root).expanduser().resolve() for root in self.data_roots)
        object.__setattr__(self, "data_roots", roots)

    def run_folder(self, run_id: object) -> Path:
        """The folder of a run by its id.

        Raises:
            RunError: if the id is no plain name, or there is no such run.
        """
        if isinstance(run_id, str) and _RUN_ID.fullmatch(run_id):
            for parent in (self.runs, self.demo):
                folder = parent / run_id
                if (folder / layout.CONFIG).is_file() and not folder.is_symlink():
                    return folder
        shown = str(run_id)[:80]
        raise RunError(f"run: there is no run {shown!r} here", "it may have been deleted; choose another from the list")

    def is_demo(self, folder: Path) -> bool:
        """Whether a run folder is one of those that come with the program."""
        return folder.parent == self.demo

    def own_run_folder(self, run_id: object) -> Path:
        """As `run_folder`, for changing it: demonstration runs are refused."""
        folder = self.run_folder(run_id)
        if self.is_demo(folder):
            raise RunError(
                f"run: {folder.name} is the recorded demonstration and cannot be changed",
                "start a run of your own, then change that",
            )
        return folder

    def may_read(self, path: Path) -> bool:
        """Whether a file, links followed, lies within the data roots or the run folders."""
        try:
            real = Path(path).resolve()
        except (OSError, ValueError, RuntimeError):
            return False  # names that cannot be: a zero byte, a loop of links
        return any(real.is_relative_to(root) for root in (*self.data_roots, self.runs, self.demo))

    def dataset(self, name: str) -> str:
        """A dataset as a run's configuration takes it: a known name, or a folder or zip within the data roots.

        A relative path is looked for under each data root.

        Raises:
            ConfigError: naming `dataset`, for anything else.
        """
        text = name.strip()
        if text in DATASETS:
            return text
        candidates = [_expanded(text)] if Path(text).is_absolute() or text.startswith("~") else []
        candidates = candidates or [root / text for root in self.data_roots]
        for candidate in candidates:
            if text and "\0" not in text and self._is_data(candidate):
                return str(candidate.resolve())
        roots = ", ".join(str(root) for root in self.data_roots)
        raise ConfigError(
            "dataset",
            f"{text[:200]!r} is no dataset and no folder or zip below {roots}; move it there, or start the explorer "
            f"with --data-root FOLDER",
        )

    def _is_data(self, path: Path) -> bool:
        try:
            real = path.resolve()
            is_there = real.is_dir() or (real.suffix.lower() == ".zip" and real.is_file())
            return is_there and any(real.is_relative_to(root) for root in self.data_roots)
        except (OSError, ValueError, RuntimeError):
            return False

    def named_folder(self, name: str) -> Path | None:
        """Where a named dataset lies under the data roots: under the first that has it; None for any other name."""
        if name not in DATASETS:
            return None
        found = (named_folder(name, root) for root in self.data_roots)
        return next((folder for folder in found if folder is not None), None)

    def data_root_of(self, dataset: str) -> Path:
        """The data root with which a dataset is opened: the one that a named dataset lies under, or else the first."""
        folder = self.named_folder(dataset)
        return next((root for root in self.data_roots if folder and folder.is_relative_to(root)), self.data_roots[0])

    def short_name(self, dataset: str) -> str:
        """The shortest text that `dataset` turns into this dataset: what a link names it by."""
        below = [Path(dataset).relative_to(root) for root in self.data_roots if Path(dataset).is_relative_to(root)]
        for text in sorted((path.as_posix() for path in below), key=len):
            first = next((root / text for root in self.data_roots if self._is_data(root / text)), None)
            if first is not None and str(first.resolve()) == dataset and text not in (*DATASETS, "."):
                return text
        return dataset

    def weights(self, name: str) -> str:
        """A choice of weights: `imagenet`, `none`, or a file in checkpoints/pretrained by its name.

        Raises:
            ConfigError: naming `weights`, for anything else.
        """
        text = name.strip()
        if text in ("imagenet", "none"):
            return text
        path = PRETRAINED_DIR / Path(text).name
        with contextlib.suppress(OSError):  # a name too long
            if path.is_file() and text in (path.name, str(path)):
                return str(path)
        raise ConfigError("weights", f"must be imagenet, none, or the name of a file in {PRETRAINED_DIR}")


def _expanded(text: str) -> Path:
    """A path with `~` in the place of a home folder; unchanged where there is no such home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
