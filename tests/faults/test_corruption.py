"""Bits turned over, in every file of a run folder and in photographs: nothing crashes, no wrong weights come of it."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sam_core.config import RunConfig
from sam_core.recording.reader import Run
from tests.faults.damage import Damage, damaging, files_of, flipped, resume_damaged
from tests.faults.examination import examine, refused_for, slow_for
from tests.faults.workers import Workers, run_folders


def flip_and_read(folder: Path, image: str, times: int, generator: random.Random, *, slowly: int) -> int:
    """Damage each file some times and read; how often. Every `slowly`-th time the network and the archive are asked."""
    flips = 0
    for path in files_of(folder):
        name, content = path.relative_to(folder).as_posix(), path.read_bytes()
        head = range(min(128, len(content)))
        for time in range(times):
            # Half of them in the head, where one bit decides what all the others mean.
            changed = flipped(content, generator, within=head if time % 2 else None, bits=generator.choice((1, 1, 3)))
            with damaging(path, changed):
                findings = examine(folder, image, slow=slow_for(name) if time % slowly == 0 else ())
                refused_for(findings, name)
            flips += 1
    return flips


def flips_to_resume(cut: Path, times: int, generator: random.Random, copied) -> Iterator[Damage]:
    """Each file of a copy of a run damaged some times; last.pt, on which the weights depend, three times as often."""
    for path in files_of(cut):
        name, content = path.relative_to(cut).as_posix(), path.read_bytes()
        for number in range(times * (3 if name == "last.pt" else 1)):
            yield Damage(copied(cut, f"{name}-{number}"), name, flipped(content, generator), silent=True)


def test_readers_take_files_with_bits_turned_over(copied, whole: Path, image: str, tried: Counter[str]):
    flips = flip_and_read(copied(whole), image, 20, random.Random(8), slowly=10)
    assert flips >= 400
    tried["corruptions read"] += flips


def test_a_damaged_run_goes_on_to_the_same_weights_or_says_what_is_damaged(
    workers: Workers, cut: Path, whole: Path, image: str, copied, tried: Counter[str]
):
    flips = resume_damaged(workers, flips_to_resume(cut, 1, random.Random(9), copied), whole, image)
    assert flips >= 20
    tried["corruptions resumed"] += flips


def test_a_flipped_bit_anywhere_in_the_saved_weights_is_noticed(
    workers: Workers, cut: Path, whole: Path, image: str, copied, tried: Counter[str]
):
    """torch itself would load it without a word."""
    content = (cut / "last.pt").read_bytes()
    folder = copied(cut)
    (folder / "last.pt").write_bytes(flipped(content, random.Random(10), within=range(1_000_000, 2_000_000)))
    ending = workers.resume(folder).wait()
    assert "last.pt" in ending.sentence
    assert "checksum" in ending.sentence
    tried["corruptions resumed"] += 1


def test_damaged_photographs_are_left_out_counted_and_named(
    workers: Workers, config: RunConfig, shared_photographs: Path, tmp_path: Path, tried: Counter[str]
):
    photographs, generator = tmp_path / "shapes", random.Random(11)
    shutil.copytree(shared_photographs, photographs)
    test_images = sorted((photographs / "test").rglob("*.png"))
    broken = {test_images[0]: b"", test_images[3]: b"no image", test_images[6]: test_images[6].read_bytes()[:60]}
    for path, content in broken.items():
        path.write_bytes(content)
    for path in test_images[1::3]:  # may be unreadable, or readable with other colours
        path.write_bytes(flipped(path.read_bytes(), generator, bits=2))
        tried["corruptions of photographs"] += 1
    changed = RunConfig.from_json(config.to_json() | {"dataset": str(photographs)})
    assert workers.begin(changed, tmp_path / "runs").wait().state == "finished"
    (folder,) = run_folders(tmp_path / "runs")
    log = (folder / "log.txt").read_text()
    recorded = {sample["id"] for sample in Run(folder).samples if sample["split"] == "test"}
    left_out = {path.relative_to(photographs).as_posix() for path in test_images} - recorded
    assert {path.relative_to(photographs).as_posix() for path in broken} <= left_out
    for name in left_out:
        assert f"left out: {name}: " in log
    assert f"{len(recorded)} test" in log


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_readers_take_files_with_bits_turned_over_many_times(copied, whole: Path, image: str, tried: Counter[str]):
    tried["corruptions read"] += flip_and_read(copied(whole), image, 1000, random.Random(12), slowly=20)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_a_run_damaged_many_times_goes_on_or_says_what_is_damaged(
    workers: Workers, cut: Path, whole: Path, image: str, copied, tried: Counter[str]
):
    flips = flips_to_resume(cut, 40, random.Random(13), copied)
    tried["corruptions resumed"] += resume_damaged(workers, flips, whole, image)
