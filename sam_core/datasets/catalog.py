"""The datasets that have a name, and the one way to open any dataset."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sam_core.datasets.base import Dataset, DatasetError
from sam_core.datasets.folder import load_folder

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DatasetInfo:
    """A named dataset: what it is, and how it is opened."""

    label: str
    description: str
    load: Callable[..., Dataset]


def _load_fieldguide(data_root: Path, *, habitat_bias: float, progress: Progress | None) -> Dataset:
    from sam_core.datasets.fieldguide import load_fieldguide

    return load_fieldguide(data_root, habitat_bias=habitat_bias, progress=progress)


DATASETS: dict[str, DatasetInfo] = {
    "fieldguide": DatasetInfo(
        "Field guide",
        "drawn birds of ten species that differ in small parts, with exact masks; no download",
        _load_fieldguide,
    ),
}


def open_dataset(
    dataset: str,
    *,
    data_root: Path,
    split_seed: int = 0,
    habitat_bias: float = 0.8,
    progress: Progress | None = None,
) -> Dataset:
    """Open a dataset by its name or by the path of a folder of photographs.

    Raises:
        DatasetError: if there is no such name or folder, with the nearest name.
    """
    if dataset in DATASETS:
        return DATASETS[dataset].load(Path(data_root), habitat_bias=habitat_bias, progress=progress)
    if not Path(dataset).expanduser().is_dir():
        close = difflib.get_close_matches(Path(dataset).name, DATASETS, n=1)
        hint = (
            f"did you mean {close[0]}?" if close else f"give a folder of photographs, or one of {', '.join(DATASETS)}"
        )
        raise DatasetError(f"dataset: {dataset!r} is neither a known dataset nor a folder", hint)
    return load_folder(Path(dataset), split_seed=split_seed)
