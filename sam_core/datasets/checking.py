"""Whether a dataset's images can be read, and whether one picture is there twice: by content, not by name."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sam_core.datasets.base import Dataset, Problem, Progress, Sample
from sam_core.datasets.facts import Content, Facts
from sam_core.datasets.look_alikes import find_look_alikes
from sam_core.datasets.reading import Looked, glance_reading, in_threads, look_at

DUPLICATE = "duplicate image"
TWO_CLASSES = "same picture in two classes"
MISFILED = "misfiled: in train and in test"

#: What was learned is written after so many files.
_SAVE_EVERY = 1000

#: Where nothing is to be decoded.
_NO_ROW = np.empty(0, np.uint8)

#: One image file, by its digest, and what reading it came to.
Checked = tuple[bytes | None, Content]


def check_images(dataset: Dataset, *, cache_root: Path | None, progress: Progress | None = None) -> list[Problem]:
    """Decode every image once, and compare all of them.

    What is found is remembered: a file that has not changed since is not opened again.

    Args:
        dataset: whose samples to check.
        cache_root: the cache's folder; None remembers nothing.
        progress: told how many images are done.

    Returns:
        Images that cannot be read, and pictures that are there more than once: the same bytes, or the same picture
        saved again (`look_alikes`). Of a picture in the training and in a test split the test image is named.
    """
    checked = _check_files([sample.path for sample in dataset.samples], cache_root, progress)
    problems = [
        Problem(content.kind, sample.id, content.problem)
        for sample, (_, content) in zip(dataset.samples, checked, strict=True)
        if content.problem
    ]
    for group in _same_pictures(checked):
        members = [(dataset.samples[place], checked[place][0]) for place in group]
        problems += _repeats(members, dataset.classes)
    return problems


def _check_files(paths: Sequence[Path], cache_root: Path | None, progress: Progress | None) -> list[Checked]:
    """What reading each file came to, now or before."""
    reading = glance_reading()
    with Facts(cache_root) as facts:
        digests = facts.digests(paths)
        known = facts.contents({digest for digest in digests if digest}, reading.name)
        checked = [(digest, known.get(digest, Content())) for digest in digests]
        missing = [place for place, digest in enumerate(digests) if digest not in known]
        settled = len(paths) - len(missing)
        if progress:
            progress(settled, len(paths))

        def look(place: int) -> Looked:
            # A file that is new here may have a content that is not: of a dataset that was moved, for one.
            return look_at(
                paths[place], reading, lambda digest: _NO_ROW if facts.content(digest, reading.name) else None
            )

        with contextlib.closing(in_threads(look, missing)) as looks:
            for done, (place, looked) in enumerate(looks, start=settled + 1):
                checked[place] = (looked.digest, _remember(facts, paths[place], looked, reading.name))
                if done % _SAVE_EVERY == 0:
                    facts.save()
                if progress:
                    progress(done, len(paths))
    return checked


def _remember(facts: Facts, path: Path, looked: Looked, reading: str) -> Content:
    """Keep what was learned of a file; returns what reading it came to."""
    content = looked.content
    if looked.digest and looked.stamp:
        facts.remember_file(path, looked.stamp, looked.digest)
        if content is None:
            content = facts.content(looked.digest, reading)
        elif looked.lasting:
            facts.remember_content(looked.digest, reading, content)
    return content or Content()


def _same_pictures(checked: Sequence[Checked]) -> Iterator[list[int]]:
    """The places of each picture that is there more than once, in order."""
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for place, (digest, content) in enumerate(checked):
        if digest and not content.problem:
            by_digest[digest].append(place)
    contents = list(by_digest)
    with_look = [digest for digest in contents if checked[by_digest[digest][0]][1].look]
    pairs = find_look_alikes([checked[by_digest[digest][0]][1].look for digest in with_look])
    # Every content begins as a group of its own; groups of contents that look alike are joined.
    group_of = {digest: [digest] for digest in contents}
    for first, second in pairs:
        large, small = sorted((group_of[with_look[first]], group_of[with_look[second]]), key=len, reverse=True)
        if large is not small:
            large += small
            group_of |= dict.fromkeys(small, large)
    seen: set[int] = set()
    for group in group_of.values():
        if id(group) not in seen:
            seen.add(id(group))
            places = sorted(place for digest in group for place in by_digest[digest])
            if len(places) > 1:
                yield places


def _repeats(members: Sequence[tuple[Sample, bytes | None]], classes: Sequence[str]) -> Iterator[Problem]:
    """The problems of one picture's samples, in the dataset's order: one for each but the first."""
    in_training = next((member for member in members if member[0].split == "train"), None)
    first_in_split: dict[bool, tuple[Sample, bytes | None]] = {}
    first_in_class: dict[tuple[bool, int], tuple[Sample, bytes | None]] = {}
    for sample, digest in members:
        is_training = sample.split == "train"
        its_class = (is_training, sample.label)
        if in_training and not is_training:
            kind, (original, its_digest) = MISFILED, in_training
        elif its_class in first_in_class:
            kind, (original, its_digest) = DUPLICATE, first_in_class[its_class]
        elif is_training in first_in_split:
            kind, (original, its_digest) = TWO_CLASSES, first_in_split[is_training]
        else:
            kind, original, its_digest = "", sample, digest
        first_in_split.setdefault(is_training, (sample, digest))
        first_in_class.setdefault(its_class, (sample, digest))
        if kind:
            same = "the same file as" if digest == its_digest else "the same picture, saved again, as"
            also = "" if original.label == sample.label else f", of class {classes[original.label]!r}"
            yield Problem(kind, sample.id, f"{same} {original.id}{also}")
