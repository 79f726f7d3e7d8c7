"""Every file of a run folder cut at every length: what needs the file is refused in a sentence, all else works."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.damage import Damage, damaging, files_of, resume_damaged
from tests.faults.examination import examine, refused_for, slow_for
from tests.faults.sameness import assert_part_of
from tests.faults.workers import Workers

#: Where the headers of arrays, of weights and of zips end, or nearly.
BORDERS = (0, 1, 2, 3, 6, 8, 9, 10, 16, 30, 64, 126, 127, 128, 129, 130, 256, 4096)
#: A file up to twice as large is read at every length; of a larger one, every length so near its ends.
CLOSELY = 2048


def some_lengths(size: int, number: int, generator: random.Random) -> list[int]:
    """Lengths at which to cut a file: borders, both ends, and others at random."""
    lengths = {length for length in (*BORDERS, size // 2, size - 2, size - 1) if 0 <= length < size}
    while len(lengths) < min(number, size):
        lengths.add(generator.randrange(size))
    return sorted(lengths)


def cut_off(run: Path, path: Path, length: int, copied: Callable[[Path, str], Path]) -> Damage:
    """One file of a copy of a run, cut at a length."""
    name = path.relative_to(run).as_posix()
    return Damage(copied(run, f"{name}-{length}"), name, path.read_bytes()[:length])


def every_length(size: int, stride: int) -> Iterator[int]:
    """Every length of a small file; of a large one every length near its ends, and some between."""
    yield from range(min(size, CLOSELY))
    yield from range(CLOSELY, size - CLOSELY, stride)
    yield from range(max(CLOSELY, size - CLOSELY), size)


@pytest.fixture(params=["whole", "cut"])
def run(request: pytest.FixtureRequest, copied) -> Path:
    """A copy of a finished run, and of one that was killed in the middle."""
    return copied(request.getfixturevalue(request.param))


def test_readers_take_files_cut_at_any_length(
    run: Path, whole: Path, image: str, request: pytest.FixtureRequest, tried: Counter[str]
):
    generator, before = random.Random(4), tried["truncations read"]
    number = 40 if request.node.callspec.params["run"] == "whole" else 10
    for path in files_of(run):
        name, content = path.relative_to(run).as_posix(), path.read_bytes()
        for length in some_lengths(len(content), number, generator):
            with damaging(path, content[:length]):
                # The network takes longer than all else together; a few of the lengths will do for it.
                findings = examine(run, image, slow=slow_for(name) if length % 8 == 0 else ())
                refused_for(findings, name)
                assert_part_of(findings, whole, image)
            tried["truncations read"] += 1
    assert tried["truncations read"] - before >= 150


def test_a_run_whose_file_was_cut_goes_on_or_says_which(
    workers: Workers, cut: Path, whole: Path, image: str, copied, tried: Counter[str]
):
    generator = random.Random(5)

    def damages() -> Iterator[Damage]:
        for path in files_of(cut):
            size = path.stat().st_size
            lengths = {0, generator.randrange(size), size - 1}
            for length in lengths if path.parent == cut else (generator.choice(sorted(lengths)),):
                yield cut_off(cut, path, length, copied)

    count = resume_damaged(workers, damages(), whole, image)
    assert count >= 30
    tried["truncations resumed"] += count


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_readers_take_files_cut_at_every_length(run: Path, whole: Path, image: str, tried: Counter[str]):
    for path in files_of(run):
        name, content = path.relative_to(run).as_posix(), path.read_bytes()
        for length in every_length(len(content), stride=5_003):
            with damaging(path, content[:length]):
                findings = examine(run, image, slow=slow_for(name) if length % 7 == 0 else ())
                refused_for(findings, name)
                assert_part_of(findings, whole, image)
            tried["truncations read"] += 1


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_a_run_whose_file_was_cut_at_many_lengths_goes_on_or_says_which(
    workers: Workers, cut: Path, whole: Path, image: str, copied, tried: Counter[str]
):
    generator = random.Random(6)
    lengths = {path: some_lengths(path.stat().st_size, 60, generator) for path in files_of(cut)}
    damages = (cut_off(cut, path, length, copied) for path, tried_of in lengths.items() for length in tried_of)
    tried["truncations resumed"] += resume_damaged(workers, damages, whole, image)
