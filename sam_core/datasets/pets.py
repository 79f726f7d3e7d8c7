"""Oxford-IIIT Pet: `ROOT/images/*.jpg`, `ROOT/annotations/trainval.txt` and `test.txt`, and trimaps as masks.

Parkhi, Vedaldi, Zisserman and Jawahar, "Cats and Dogs", CVPR 2012. A line of a list is an image's name, the number of
its breed from 1, that of its species, and that of its breed within the species: `Egyptian_Mau_12 10 1 5`. A trimap has
1 on the pet, 2 beside it, and 3 along its outline, where nobody decided: only 1 counts as the object. The dataset's
boxes are those of heads, not of the pets, so they are not read.

`torchvision.datasets.OxfordIIITPet` reads the same lists, but it takes the folder under one name only, fails without
naming the line, and does not see whether the images are there. Classes are named as it does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sam_core.datasets.base import Dataset, Opening, Problem
from sam_core.datasets.folder import names_in
from sam_core.datasets.listing import inside, line_error, read_lines, shown
from sam_core.datasets.official import Listed, build_dataset, layout_words

LISTS = {"train": "trainval.txt", "test": "test.txt"}
#: The values of a trimap that are on the pet.
ON_PET = (1, 1)
#: A limit for the numbers of breeds: the dataset has 37.
_MAX_CLASSES = 10_000


@dataclass(frozen=True)
class _Entry:
    """A line of a list: the image's name, the raw name of its breed, and the breed's number from 0."""

    file: Path
    line: int
    split: str
    name: str
    breed: str
    label: int


def recognises(root: Path) -> bool:
    """Whether a folder has the two lists of this dataset."""
    return all((root / "annotations" / name).is_file() for name in LISTS.values())


def load(root: Path, opening: Opening) -> Dataset:
    """Read the lists, and the heads of the images for whether a trimap lies on them as they are shown.

    Raises:
        DatasetError: if a list contradicts itself or the other, with file and line, or no image of a split is there.
    """
    root = Path(root).expanduser().resolve()
    entries = [entry for split, name in LISTS.items() for entry in _read(root / "annotations" / name, split)]
    classes = _class_names(entries)
    trimaps = names_in(root / "annotations" / "trimaps")
    listed = [_listed(root, entry, trimaps) for entry in entries]
    bare = [image.path.name for image in listed if image.mask_path is None]
    problems = []
    if bare:
        detail = f"annotations/trimaps has none for {len(bare)} images"
        problems.append(Problem("no mask", f"images/{bare[0]}", detail))
    layout = layout_words("Oxford-IIIT Pet", ["trimaps as masks"] if len(bare) < len(listed) else [])
    return build_dataset(
        "pets", root, layout, classes, listed, opening,
        training_list=LISTS["train"], mask_on=ON_PET, problems=problems,
    )  # fmt: skip


def _listed(root: Path, entry: _Entry, trimaps: Collection[str]) -> Listed:
    image, mask = f"images/{entry.name}.jpg", f"annotations/trimaps/{entry.name}.png"
    return Listed(
        path=inside(root, image, file=entry.file, line=entry.line),
        label=entry.label,
        split=entry.split,
        file=entry.file,
        line=entry.line,
        mask_path=inside(root, mask, file=entry.file, line=entry.line) if f"{entry.name}.png" in trimaps else None,
    )


def _read(file: Path, split: str) -> list[_Entry]:
    entries = []
    for line, text in read_lines(file):
        fields = text.rsplit(maxsplit=3)
        numbers = fields[1:]
        if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
            what = f"{shown(text)} is not an image's name and three numbers"
            raise line_error(file, line, what, "write it as Egyptian_Mau_12 10 1 5")
        name, breed = fields[0], fields[0].rpartition("_")[0]
        if not breed or "/" in name:
            raise line_error(file, line, f"{shown(name)} is not a breed, an underscore and a number")
        if len(numbers[0]) > len(str(_MAX_CLASSES)) or not 1 <= int(numbers[0]) <= _MAX_CLASSES:
            raise line_error(file, line, f"class number {numbers[0][:12]} is out of range: breeds count from 1")
        entries.append(_Entry(file, line, split, name, breed, int(numbers[0]) - 1))
    return entries


def _class_names(entries: list[_Entry]) -> tuple[str, ...]:
    """The names of the breeds in the order of their numbers, such as `Egyptian Mau`."""
    numbers: dict[str, _Entry] = {}
    breeds: dict[int, _Entry] = {}
    for entry in entries:
        for before in (numbers.setdefault(entry.breed, entry), breeds.setdefault(entry.label, entry)):
            if (before.breed, before.label) != (entry.breed, entry.label):
                theirs = f"{shown(before.breed)} with {before.label + 1} in {before.file.name}, line {before.line}"
                what = f"{shown(entry.breed)} with class number {entry.label + 1} contradicts {theirs}"
                raise line_error(entry.file, entry.line, what)
    for entry in entries:
        if entry.label >= len(breeds):
            what = f"class number {entry.label + 1} is out of range: the lists name {len(breeds)} breeds"
            raise line_error(entry.file, entry.line, what)
    return tuple(" ".join(word.title() for word in breeds[label].breed.split("_")) for label in range(len(breeds)))
