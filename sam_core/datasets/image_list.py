"""The arrangement released with SAM: `ROOT/train/CLASS/*`, `ROOT/test/CLASS/*`, and `ROOT/image_list/*.txt`.

The lists (Shu et al., ECCV 2022, published for CUB-200-2011, Stanford Cars and FGVC-Aircraft) say which images belong
to the training and the test split, which number a class has, and which training images are labelled at a ratio:

- `train_10.txt`: labelled at 10 %; `train_100.txt`: all training images; `test.txt`: all test images.
- `train_1020030.txt`: two digits, three, and the rest: labelled at 10 % of, from 200 classes, the first 30.

A line is a path below ROOT and, behind the last space, the number of the class from 0: `train/Cessna 172/0062.jpg 47`.
Class numbers come from the lists alone, since the folders of Stanford Cars are named 1 to 196 and do not sort so.
There are no boxes here.

The lists also hold beside an official layout, whose files keep their names in other folders: `with_released_lists`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sam_core.datasets.base import Dataset, DatasetError, Opening, Problem, Sample
from sam_core.datasets.folder import class_folders
from sam_core.datasets.listing import inside, line_error, read_lines, shown
from sam_core.datasets.subset import lists_of_first

FOLDER = "image_list"
SPLITS = ("train", "test")
_LIST_NAME = re.compile(r"train_(?:(?P<all>\d\d|100)|(?P<percent>\d\d)(?P<of>\d{3})(?P<first>\d{1,3}))")
#: More than any dataset has, of classes and of lists.
_MAX_CLASSES = 100_000
_MAX_LISTS = 1_000


@dataclass(frozen=True)
class Entry:
    """A line of a list: its number from 1, the image's path below the root, and the number of its class."""

    line: int
    path: str
    label: int

    @property
    def folder(self) -> str:
        """The name of the class's folder, which is the name of the class."""
        return self.path.split("/")[1]

    @property
    def file_name(self) -> str:
        """The name of the image's file."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class ImageList:
    """One released list: the images of `split`, or of them those labelled at `percent` for the `first` classes."""

    file: Path
    split: str
    percent: int
    """100 for all images of the split."""
    of: int | None
    """How many classes there are, as a category subset says in its name; None for a list of all classes."""
    first: int | None
    """The list is for the first so many classes; None for all."""
    entries: tuple[Entry, ...]

    @property
    def is_full(self) -> bool:
        """Whether it names all images of its split."""
        return self.percent == 100

    def place(self, entry: Entry) -> str:
        """Where an entry stands, for a problem: `image_list/train_10.txt, line 3`."""
        return f"{FOLDER}/{self.file.name}, line {entry.line}"


# --- The released arrangement -------------------------------------------------------------------------------------


def recognises(root: Path) -> bool:
    """Whether a folder has released lists and the folders that they name, and is not an official layout."""
    return (
        any((root / FOLDER).glob("train_*.txt"))
        and any((root / split).is_dir() for split in SPLITS)
        and not any((root / mark).exists() for mark in ("images.txt", "devkit", "cars_annos.mat"))
        and not any((root / "data").glob("images_variant_*.txt"))
    )


def load(root: Path, opening: Opening) -> Dataset:
    """Read the lists and see which of the images are there; nothing is decoded.

    All images of a split are those of `train_100.txt` or `test.txt`; without that list, those in the folders of the
    classes that the other lists name.

    Raises:
        DatasetError: if lists contradict themselves or each other, with file and line, or a split has no image.
    """
    root = Path(root).expanduser().resolve()
    lists, problems = read_lists(root / FOLDER)
    classes = class_names(lists)
    listed = _places(root, lists)
    _refuse_outside_full(lists)
    on_disk = {split: _images_of(root, split) for split in SPLITS}
    missing = _missing(root, listed, on_disk)
    labels = {name: label for label, name in enumerate(classes)}
    samples: list[Sample] = []
    for split in SPLITS:
        full = _full_list(lists, split)
        named = {entry.path: entry.folder for entry in full.entries} if full else on_disk[split]
        here = [path for path, folder in named.items() if folder in labels and path not in missing]
        if not here:
            raise _no_photographs(root / split, full)
        samples += [Sample(path, root / path, labels[named[path]], split) for path in here]
    ids = {sample.id: sample.id for sample in samples}
    problems += [Problem("missing image", path, f"{listed[path]} names it, but it is not there") for path in missing]
    problems += [each for split in SPLITS for each in _left_out(split, on_disk[split], labels, ids)]
    layout = f"released layout: train/ and test/ folders of classes, {len(lists)} lists in {FOLDER}/"
    label_lists = _label_lists(lists, len(classes), ids)
    training_list = _full_list(lists, "train") or next((each for each in lists if each.split == "train"), None)
    return Dataset(
        root.name, root, layout, classes, tuple(samples), tuple(problems), label_lists,
        training_list=f"{FOLDER}/{training_list.file.name}" if training_list else "",
    )  # fmt: skip


def _places(root: Path, lists: Sequence[ImageList]) -> dict[str, str]:
    """Every path that a list names, and where it does so first."""
    places: dict[str, str] = {}
    for each in lists:
        for entry in each.entries:
            if entry.path not in places:
                inside(root, entry.path, file=each.file, line=entry.line)
                places[entry.path] = each.place(entry)
    return places


def _images_of(root: Path, split: str) -> dict[str, str]:
    """The path of every image of a split that is there, below the root, and the class folder that it is in."""
    folders = class_folders(root / split) if (root / split).is_dir() else {}
    return {f"{split}/{name}/{image}": name for name, images in folders.items() for image in images}


def _missing(root: Path, listed: Collection[str], on_disk: Mapping[str, Collection[str]]) -> dict[str, None]:
    """The listed images that are not there, in order."""
    absent = (path for path in listed if not any(path in paths for paths in on_disk.values()))
    # What is listed under a name that no photograph has is there all the same, and will be found unreadable.
    return dict.fromkeys(path for path in absent if not (root / path).is_file())


def _no_photographs(folder: Path, full: ImageList | None) -> DatasetError:
    named = f"{len(full.entries):,} images that {full.file.name} names" if full else "classes that the lists name"
    return DatasetError(
        f"dataset: the photographs are not there: {folder} has none of the {named}",
        f"the lists come without them; put the photographs into {folder}/CLASS",
    )


def _left_out(
    split: str, on_disk: Mapping[str, str], classes: Collection[str], used: Collection[str]
) -> Iterator[Problem]:
    """What is there and will not be used, because no list names it."""
    for name, count in Counter(name for name in on_disk.values() if name not in classes).items():
        yield Problem("class in no list", f"{split}/{name}", f"{count} images are left out: no list names this class")
    unlisted = [path for path, name in on_disk.items() if name in classes and path not in used]
    if unlisted:
        detail = f"the list of all {split} images does not name it; {len(unlisted)} such images are left out"
        yield Problem("image in no list", unlisted[0], detail)


# --- The lists beside an official layout --------------------------------------------------------------------------


def with_released_lists(dataset: Dataset, folder: Path) -> Dataset:
    """A dataset in its official layout, with the released lists that lie beside it.

    The lists name paths of their own arrangement, so images are matched by the names of their files, which are unique
    in each of the three datasets. The training and test split stays the dataset's own. The lists of Stanford Cars name
    the files of `car_ims/` (`000001.jpg`), which `cars_train/` and `cars_test/` number anew (`00001.jpg`); the lists of
    FGVC-Aircraft are about variants, not about families or manufacturers.

    Args:
        dataset: as its layout gives it.
        folder: its `image_list` folder.

    Returns:
        The dataset as it is if there is no such folder; with a problem that says why if the lists name other files or
        are about other classes.

    Raises:
        DatasetError: if a list gives an image another class or split than the dataset does, with file and line.
    """
    if not folder.is_dir():
        return dataset
    lists, problems = read_lists(folder)
    count = len(class_names(lists))
    by_name = {sample.path.name: sample for sample in dataset.samples}
    shared = Counter(sample.path.name for sample in dataset.samples)
    reported = {problem.path.rpartition("/")[2] for problem in dataset.problems}
    ids: dict[str, str] = {}
    absent: dict[str, str] = {}
    for each in lists:
        for entry in each.entries:
            sample = by_name.get(entry.file_name)
            if sample is not None:
                if shared[entry.file_name] > 1:
                    return _not_used(dataset, problems, f"several images have the file name {entry.file_name}")
                if sample.label != entry.label and len(dataset.classes) != count:
                    return _not_used(dataset, problems, f"they are about {count} other classes")
                _refuse_contradiction(dataset, sample, each, entry)
                ids[entry.path] = sample.id
            elif entry.label < len(dataset.classes) and entry.file_name not in reported:
                # Images of further classes were left out on purpose.
                absent.setdefault(entry.path, each.place(entry))
    if not ids:
        theirs, ours = lists[0].entries[0].file_name, next(iter(by_name), "none")
        return _not_used(dataset, problems, f"they name other files ({theirs}) than this arrangement has ({ours})")
    if absent:
        path, place = next(iter(absent.items()))
        detail = f"{place} names it, but the dataset does not have it; {len(absent)} images are listed in vain"
        problems.append(Problem("missing image", path, detail))
    label_lists = _label_lists(lists, count, ids)
    label_lists = lists_of_first(label_lists, len(dataset.classes), set(ids.values()))
    layout = f"{dataset.layout}, {len(lists)} released lists in {FOLDER}/"
    return replace(dataset, layout=layout, problems=(*dataset.problems, *problems), label_lists=label_lists)


def _not_used(dataset: Dataset, problems: Sequence[Problem], reason: str) -> Dataset:
    unused = Problem("released lists not used", FOLDER, f"{reason}; labels are chosen by the seeded rule")
    return replace(dataset, problems=(*dataset.problems, *problems, unused))


def _refuse_contradiction(dataset: Dataset, sample: Sample, each: ImageList, entry: Entry) -> None:
    hint = f"take the lists that were published for this dataset, or move {each.file.parent} away"
    if sample.label != entry.label:
        found = f"{sample.id} is of class {dataset.classes[sample.label]!r}, number {sample.label}, not {entry.label}"
        raise line_error(each.file, entry.line, found, hint)
    if sample.split != each.split:
        raise line_error(
            each.file, entry.line, f"{sample.id} is a {sample.split} image, not a {each.split} image", hint
        )


# --- Reading ------------------------------------------------------------------------------------------------------


def read_lists(folder: Path) -> tuple[list[ImageList], list[Problem]]:
    """Every list of an `image_list` folder, in order of name, and the files there that are none.

    Raises:
        DatasetError: if there is no list, or one cannot be read or contradicts itself, with its line.
    """
    lists, problems = [], []
    files = sorted(folder.glob("*.txt"))
    if len(files) > _MAX_LISTS:
        raise DatasetError(f"dataset: {folder} holds {len(files):,} lists, the limit is {_MAX_LISTS:,}", "remove some")
    for file in files:
        name = _LIST_NAME.fullmatch(file.stem)
        if file.stem == "test":
            lists.append(ImageList(file, "test", 100, None, None, _read_entries(file, "test", _MAX_CLASSES)))
        elif name is None or not _is_possible(name):
            detail = "lists are named train_10.txt, train_1020030.txt (10 %; of 200 classes the first 30) and test.txt"
            problems.append(Problem("list not understood", f"{FOLDER}/{file.name}", detail))
        else:
            percent = int(name["all"] or name["percent"])
            of, first = (int(name["of"]), int(name["first"])) if name["of"] else (None, None)
            entries = _read_entries(file, "train", first or _MAX_CLASSES)
            lists.append(ImageList(file, "train", percent, of, first, entries))
    if not lists:
        raise DatasetError(
            f"dataset: {folder} holds no list", "put train_100.txt, train_10.txt, ... and test.txt there"
        )
    return lists, problems


def _is_possible(name: re.Match[str]) -> bool:
    if name["all"]:
        return int(name["all"]) > 0
    return int(name["percent"]) > 0 and 0 < int(name["first"]) <= int(name["of"])


def _read_entries(file: Path, split: str, classes: int) -> tuple[Entry, ...]:
    """The lines of one list, each image of it below `split` and of one of the first `classes` classes."""
    entries: dict[str, Entry] = {}
    for line, text in read_lines(file):
        path, _, number = text.rpartition(" ")
        if not (number.isascii() and number.isdigit() and path.strip()):
            what = f"{shown(text)} is not a path, a space and the number of a class"
            raise line_error(file, line, what, f"write it as {split}/CLASS/NAME.jpg NUMBER")
        parts = path.split("/")
        if len(parts) < 3 or parts[0] != split or not {"", ".", ".."}.isdisjoint(parts):
            what = f"{shown(path)} is no path of an image in {split}/"
            raise line_error(file, line, what, f"a {split} list names {split}/CLASS/NAME.jpg")
        if len(number) > len(str(_MAX_CLASSES)) or int(number) >= classes:
            what = f"class number {number[:12]} is out of range: numbers go from 0 to {classes - 1}"
            raise line_error(file, line, what)
        entry = Entry(line, path, int(number))
        before = entries.setdefault(path, entry)
        if before.label != entry.label:
            what = f"{shown(path)} has class number {entry.label} here and {before.label} in line {before.line}"
            raise line_error(file, line, what)
    if not entries:
        raise DatasetError(f"dataset: {file} is empty", "remove it, or put the released list in its place")
    return tuple(entries.values())


def class_names(lists: Sequence[ImageList]) -> tuple[str, ...]:
    """The names of the classes, which are those of their folders, in the order of their numbers.

    Raises:
        DatasetError: if a folder has two numbers, a number two folders, or the numbers have a gap, with file and line.
    """
    numbers: dict[str, tuple[int, str]] = {}
    folders: dict[int, tuple[str, str]] = {}
    for each in lists:
        for entry in each.entries:
            place = each.place(entry)
            number, before = numbers.setdefault(entry.folder, (entry.label, place))
            if number != entry.label:
                what = f"class {shown(entry.folder)} has number {entry.label} here and {number} in {before}"
                raise line_error(each.file, entry.line, what)
            folder, before = folders.setdefault(entry.label, (entry.folder, place))
            if folder != entry.folder:
                what = f"number {entry.label} is class {shown(entry.folder)} here and {shown(folder)} in {before}"
                raise line_error(each.file, entry.line, what)
    for each in lists:
        for entry in each.entries:
            if entry.label >= len(folders):
                what = f"class number {entry.label} is out of range: the lists name {len(folders)} classes, from 0"
                raise line_error(each.file, entry.line, what)
        if each.of is not None and each.of < len(folders):
            what = f"is, by its name, about {each.of} classes, but the lists name {len(folders)}"
            raise DatasetError(f"dataset: {each.file} {what}", "remove the lists of other datasets")
    return tuple(folders[number][0] for number in range(len(folders)))


def _full_list(lists: Sequence[ImageList], split: str) -> ImageList | None:
    return next((each for each in lists if each.split == split and each.is_full), None)


def _refuse_outside_full(lists: Sequence[ImageList]) -> None:
    """Whatever is labelled must be a training image."""
    full = _full_list(lists, "train")
    if full is None:
        return
    known = {entry.path for entry in full.entries}
    for each in lists:
        for entry in each.entries:
            if each.split == "train" and entry.path not in known:
                what = f"{shown(entry.path)} is not among the training images of {full.file.name}"
                raise line_error(each.file, entry.line, what)


def _label_lists(
    lists: Sequence[ImageList], classes: int, ids: Mapping[str, str]
) -> dict[tuple[int, int], frozenset[str]]:
    """By percent and how many classes, the ids of the listed images that are there; `ids` has them by listed path."""
    found: dict[tuple[int, int], frozenset[str]] = {}
    for each in lists:
        if each.split == "train":
            key = each.percent, each.first or classes
            listed = frozenset(ids[entry.path] for entry in each.entries if entry.path in ids)
            if found.setdefault(key, listed) != listed:
                what = f"{each.file} and another list are both of {key[0]} % for {key[1]} classes, and differ"
                raise DatasetError(f"dataset: {what}", "remove one of them")
    return found
