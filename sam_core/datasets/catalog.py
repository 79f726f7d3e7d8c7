"""The datasets that have a name, the layouts that a folder is recognised by, and the one way to open any dataset."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sam_core.datasets.base import Dataset, DatasetError, Opening, Progress


@dataclass(frozen=True)
class DatasetInfo:
    """A named dataset.

    Attributes:
        label: its name for people.
        description: what it is, in a line.
        folders: the names that its folder has under a data root; none for a set that the program draws itself.
        layouts: which of `LAYOUTS` may be found there.
    """

    label: str
    description: str
    folders: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()


DATASETS: dict[str, DatasetInfo] = {
    "fieldguide": DatasetInfo(
        "Field guide", "drawn birds of ten species that differ in small parts, with exact masks; no download"
    ),
    "cub200": DatasetInfo(
        "CUB-200-2011", "200 species of birds, with boxes and 15 parts", ("CUB_200_2011", "cub200", "CUB200"),
        ("cub200", "image_list"),
    ),
    "cars": DatasetInfo(
        "Stanford Cars", "196 models of cars, with boxes", ("stanford_cars", "cars", "StanfordCars"),
        ("cars", "image_list"),
    ),
    "aircraft": DatasetInfo(
        "FGVC-Aircraft", "100 variants of aircraft (70 families, 30 manufacturers), with boxes",
        ("fgvc-aircraft-2013b", "aircraft", "Aircraft"), ("aircraft", "image_list"),
    ),
    "flowers102": DatasetInfo(
        "Oxford Flowers 102", "102 flowers, 20 training images each", ("flowers-102", "flowers102"), ("flowers102",)
    ),
    "pets": DatasetInfo(
        "Oxford-IIIT Pet", "37 breeds of cats and dogs, with masks", ("oxford-iiit-pet", "pets"), ("pets",)
    ),
}  # fmt: skip

#: The layouts that a folder is recognised by, in the order they are tried. Each is a module of this package with
#: `recognises(root) -> bool`, which looks at names only, and `load(root, opening) -> Dataset`. `folder`, the last,
#: takes any folder of photographs.
LAYOUTS = ("image_list", "cub200", "cars", "aircraft", "flowers102", "pets", "folder")


def open_dataset(
    dataset: str,
    *,
    data_root: Path,
    split_seed: int = 0,
    class_level: str = "variant",
    habitat_bias: float = 0.8,
    progress: Progress | None = None,
) -> Dataset:
    """Open a dataset by its name, or by the path of a folder or a zip of photographs; no image is decoded.

    Args:
        dataset: a name of `DATASETS`, or a path.
        data_root: where named datasets are kept, and zips are unpacked.
        split_seed: the seed of what is held out for testing, where the data do not say.
        class_level: aircraft only: what counts as a class.
        habitat_bias: fieldguide only.
        progress: told of drawing or unpacking.

    Raises:
        DatasetError: if there is no such name or folder, or its files contradict each other.
    """
    opening = Opening(split_seed, class_level, habitat_bias, progress)
    if dataset == "fieldguide":
        from sam_core.datasets.fieldguide import load_fieldguide

        return load_fieldguide(Path(data_root), habitat_bias=habitat_bias, progress=progress)
    if dataset in DATASETS:
        layout, root = _find_named(dataset, Path(data_root))
        return _load(layout, root, opening)
    path = Path(dataset).expanduser()
    if path.suffix.lower() == ".zip" and path.is_file():
        from sam_core.datasets.zipped import unpack_once

        path = unpack_once(path, Path(data_root), progress=progress)
    if not path.is_dir():
        close = difflib.get_close_matches(path.name, DATASETS, n=1, cutoff=0.75)
        hint = (
            f"did you mean {close[0]}?" if close else f"give a folder of photographs, or one of {', '.join(DATASETS)}"
        )
        raise DatasetError(f"dataset: {dataset!r} is neither a known dataset nor a folder or zip of photographs", hint)
    layout, root = recognise(path)
    return _load(layout, root, opening)


def recognise(path: Path) -> tuple[str, Path]:
    """The layout of a folder and where it begins: the folder itself, or the known one directly below it.

    Raises:
        DatasetError: if several known ones are below it.
    """
    path = Path(path).expanduser().resolve()
    below = [path / name for info in DATASETS.values() for name in info.folders]
    for roots in ([path], [folder for folder in below if folder.is_dir()]):
        found = [(layout, root) for root in roots if (layout := _layout_of(root))]
        if len(found) > 1:
            names = ", ".join(root.name for _, root in found)
            raise DatasetError(f"dataset: {path} holds several datasets ({names})", "give the folder of one of them")
        if found:
            return found[0]
    return LAYOUTS[-1], path


def _layout_of(root: Path) -> str | None:
    return next((layout for layout in LAYOUTS[:-1] if _module(layout).recognises(root)), None)


def named_folder(name: str, data_root: Path) -> Path | None:
    """Where a named dataset lies under a data root, or None."""
    found = next(_places_of(name, data_root), None)
    return found[1] if found else None


def _find_named(name: str, data_root: Path) -> tuple[str, Path]:
    found = next(_places_of(name, data_root), None)
    if found is None:
        folders = ", ".join(DATASETS[name].folders)
        raise DatasetError(
            f"dataset: {DATASETS[name].label} is not in {data_root} (looked for {folders})",
            f"python -m sam_core data get {name} --root {data_root} fetches it, or says what to place where",
        )
    return found


def _places_of(name: str, data_root: Path) -> Iterator[tuple[str, Path]]:
    data_root = Path(data_root).expanduser().resolve()
    for folder in DATASETS[name].folders:
        for layout in DATASETS[name].layouts:
            if (data_root / folder).is_dir() and _module(layout).recognises(data_root / folder):
                yield layout, data_root / folder


def _load(layout: str, root: Path, opening: Opening) -> Dataset:
    return _module(layout).load(root, opening)


def _module(layout: str) -> Any:
    # Only what is needed is imported: some layouts need torchvision, which takes a second.
    return import_module(f"sam_core.datasets.{layout}")
