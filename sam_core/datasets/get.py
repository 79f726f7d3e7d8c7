"""From a dataset's name to the dataset on disk: what is missing of it is fetched, checked, unpacked and opened once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from sam_core.datasets.base import Dataset, DatasetError
from sam_core.datasets.catalog import DATASETS, named_folder, open_dataset
from sam_core.datasets.download import (
    PATIENCE,
    Patience,
    Report,
    Say,
    Unavailable,
    bytes_arrived,
    difference_from_published,
    fetch,
    forget_origin,
    silent,
    was_fetched,
)
from sam_core.datasets.sources import SOURCES, RemoteFile, Source, amount
from sam_core.datasets.unpacking import unpack_tar
from sam_core.locks import try_lock

#: Bytes that must be left free when all is done.
MARGIN = 256_000_000


@dataclass(frozen=True)
class Got:
    """A dataset that is there, and how it came.

    Attributes:
        dataset: as it opens.
        files: the names of the published files that were added; none if all was there.
        without: what it is without, because an optional file could not be had.
    """

    dataset: Dataset
    files: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


def get_dataset(
    name: str,
    data_root: Path,
    *,
    url: str | None = None,
    keep_archives: bool = False,
    report: Report = silent,
    count: Report = silent,
    say: Say = silent,
    patience: Patience = PATIENCE,
    free_space: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> Got:
    """Make sure that a named dataset is below a data root. What is there already is left as it is.

    Args:
        name: one of `DATASETS`.
        data_root: where named datasets are kept; made if need be.
        url: another address, http or https: of one of the files, or, ending in a slash, of a folder that has all of
            them. The checksums stay the published ones.
        keep_archives: keep what was fetched after it is unpacked. What a person put there is kept anyway.
        report: told how many bytes are fetched, checked and unpacked.
        count: told how many images are drawn or listed.
        say: told in sentences what happens.
        patience: how long to wait for servers.
        free_space: the bytes that are free where a folder is.

    Raises:
        DatasetError: if it cannot be had; the hint says what to place where.
    """
    data_root = Path(data_root).expanduser().resolve()

    def open_it() -> Dataset:
        return open_dataset(name, data_root=data_root, progress=partial(count, f"opening {name}"))

    if name not in SOURCES:  # drawn by the program
        return Got(open_it())
    errand = _Errand(name, SOURCES[name], data_root, url, keep_archives, report, say, patience)
    # A data root that is shared may be complete, and not ours to write to.
    dataset = errand.what_is_there(open_it)
    errand.clean_up()
    if not (missing := errand.missing(dataset)):
        return Got(dataset or open_it())
    errand.refuse_unobtainable(missing)
    with _alone(name, data_root):
        _refuse_full_disk(errand.most_space(missing), data_root, free_space)
        files, without = errand.obtain_all(missing)
        return Got(open_it() if files or dataset is None else dataset, files, without)


def addresses(file: RemoteFile, source: Source, url: str | None) -> tuple[str, ...]:
    """Where a file is asked for, if a person gave `url` for it or for one of its neighbours, or for their folder."""
    if url is None:
        return file.urls
    if url.endswith("/"):
        return (urljoin(url, file.name),)
    named = urlsplit(url).path.rsplit("/", 1)[-1]
    meant = next((other for other in source.files if other.name == named), source.files[0])
    return (url,) if file is meant else file.urls


@dataclass(frozen=True)
class _Errand:
    """What is to be fetched, from where to where."""

    name: str
    source: Source
    data_root: Path
    url: str | None
    keep_archives: bool
    report: Report
    say: Say
    patience: Patience

    @property
    def folder(self) -> Path:
        """Where the dataset belongs."""
        return self.data_root / self.source.folder

    def what_is_there(self, open_it: Callable[[], Dataset]) -> Dataset | None:
        """The dataset, however a person arranged it, or None if it is not there, or cannot be without more files."""
        found = named_folder(self.name, self.data_root)
        if found is None:
            return None
        try:
            return open_it()
        except DatasetError:
            if found == self.folder and not all(self._target(file).exists() or file.adds for file in self.source.files):
                return None
            raise

    def missing(self, dataset: Dataset | None) -> tuple[RemoteFile, ...]:
        """The files without which the dataset is not complete; `dataset` is what there is of it."""
        files = tuple(file for file in self.source.files if not self._target(file).exists())
        if dataset is None:
            if files:
                return files
            raise DatasetError(
                f"{self.folder} is there, but is not {DATASETS[self.name].label}: it must hold {self.source.holds}",
                "move it away and run the same command again",
            )
        if dataset.root != self.folder or any(sample.mask_path for sample in dataset.samples):
            return ()
        return tuple(file for file in files if file.adds)

    def refuse_unobtainable(self, missing: Sequence[RemoteFile]) -> None:
        """Before anything is fetched: all the rest would be for nothing without a file that nobody serves."""
        lacking = tuple(
            file for file in missing if not (file.adds or self._addresses(file) or self._place(file).exists())
        )
        if lacking:
            names = ", ".join(file.name for file in lacking)
            raise DatasetError(f"{names} cannot be fetched: {self.source.gone}", self._by_hand(lacking))

    def most_space(self, missing: Sequence[RemoteFile]) -> int:
        """The most bytes taken beyond today's at any moment: an archive is removed before the next is fetched."""
        taken = most = 0
        for file in missing:
            path = self._place(file)
            is_there = path.exists()
            taken += file.unpacked_size + (0 if is_there else file.size - min(bytes_arrived(path), file.size))
            most = max(most, taken)
            if file.is_archive and not self.keep_archives and (not is_there or was_fetched(path)):
                taken -= file.size
        return most

    def obtain_all(self, missing: Sequence[RemoteFile]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Returns the names of the files that were added, and what the dataset has to do without."""
        files, without = [], []
        for file in missing:
            if self._target(file).exists():  # it came with another
                continue
            try:
                self._obtain(file)
                files.append(file.name)
            except DatasetError as error:
                if not file.adds:
                    raise
                self.say(f"{error}. {self.name} is without {file.adds}; the same command tries again")
                without.append(file.adds)
        return tuple(files), tuple(without)

    def clean_up(self) -> None:
        """Finish what a call left undone that was killed after an archive was unpacked."""
        for file in self.source.files:
            if was_fetched(self._place(file)) and self._target(file).exists():
                self._put_away(file)

    def _obtain(self, file: RemoteFile) -> None:
        path = self._place(file)
        if path.exists():
            self.say(f"{path} is there already")
            checking = partial(self.report, f"checking {file.name}")
            if difference := difference_from_published(file, path, checking):
                raise DatasetError(
                    f"{path} is not the published file: {difference}", "move it away and run the same command again"
                )
        else:
            self._fetch(file, path)
        if file.is_archive:
            try:
                unpack_tar(path, self._target(file), progress=partial(self.report, f"unpacking {file.name}"))
            except KeyboardInterrupt:
                self.say(f"{path} is kept; the same command unpacks it")
                raise
        self._put_away(file)

    def _fetch(self, file: RemoteFile, path: Path) -> None:
        urls = self._addresses(file)
        self.say(f"{file.name}: {amount(file.size)} from {urls[0]}")
        try:
            fetch(file, path, urls, report=self.report, say=self.say, patience=self.patience)
        except Unavailable as error:
            raise DatasetError(str(error), self._by_hand((file,))) from None

    def _put_away(self, file: RemoteFile) -> None:
        """Remove an archive that is of no more use, unless a person put it there or wants to keep it."""
        path = self._place(file)
        if file.is_archive and was_fetched(path) and not self.keep_archives:
            path.unlink(missing_ok=True)
        forget_origin(path)

    def _by_hand(self, files: tuple[RemoteFile, ...]) -> str:
        return f"{self.source.by_hand(files, self.data_root)}; or name a mirror of the files with --url"

    def _addresses(self, file: RemoteFile) -> tuple[str, ...]:
        return addresses(file, self.source, self.url)

    def _place(self, file: RemoteFile) -> Path:
        return self.data_root / file.place

    def _target(self, file: RemoteFile) -> Path:
        return self.data_root / file.target


def _refuse_full_disk(needed: int, data_root: Path, free_space: Callable[[Path], int]) -> None:
    needed, free = needed + MARGIN, free_space(data_root)
    if needed > free:
        raise DatasetError(
            f"there is too little space in {data_root}: fetching and unpacking takes {needed:,} bytes "
            f"({amount(needed)}), {free:,} ({amount(free)}) are free",
            "free some space, or name a folder of another disk with --root",
        )


@contextmanager
def _alone(name: str, data_root: Path) -> Iterator[None]:
    """Two that get the same dataset for the same place would write into each other's files."""
    path = data_root / f".get-{name}.lock"
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise DatasetError(
            f"{data_root} cannot be written to: {error.strerror}", "name another folder with --root"
        ) from None
    with file:
        try:
            ours = try_lock(file)
        except OSError:  # a file system without locks: nothing can be known of others
            ours = True
        if not ours:
            raise DatasetError(
                f"another process is getting {DATASETS[name].label} into {data_root}",
                "wait until it is done, then run the same command again",
            )
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no file that is open
                path.unlink()
