"""The drawn field guide: the same pixels everywhere, exact masks, honest bias, and a cache that is whole or absent."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_core.datasets.base import Dataset, DatasetError
from sam_core.datasets.fieldguide import (
    DEFAULT_HABITAT_BIAS,
    HABITATS,
    MASK_PARTS,
    SPECIES,
    build,
    contact_sheet,
    habitats_of,
    load_fieldguide,
)

ROOT = Path(__file__).resolve().parents[2]
PART_VALUES = {name: value for value, name in MASK_PARTS.items()}

#: Of the decoded pixels and masks of the birds below. Whoever changes the drawing changes `build.VERSION` and this.
PIXEL_DIGEST = "1bd828550645febee3a7fb11698bdb23c831ec7e199e9e7e167f01630e0125c7"


@pytest.fixture(scope="session")
def guide(tmp_path_factory) -> Dataset:
    root = tmp_path_factory.mktemp("data")
    calls: list[tuple[int, int]] = []
    start = time.perf_counter()
    dataset = load_fieldguide(root, progress=lambda done, total: calls.append((done, total)))
    seconds = time.perf_counter() - start
    print(f"\nfieldguide: {len(dataset.samples)} images drawn in {seconds:.1f} s by {build._processors()} processes")
    assert calls[-1] == (800, 800)
    assert calls == sorted(calls)
    return dataset


@pytest.fixture(scope="session")
def masks(guide) -> dict[str, np.ndarray]:
    return {sample.id: _array(sample.mask_path) for sample in guide.samples}


@pytest.fixture
def few(monkeypatch):
    """A guide of one training and one test image per species, drawn in this process."""
    monkeypatch.setattr(build, "TRAIN_IMAGES", 1)
    monkeypatch.setattr(build, "TEST_IMAGES", 1)
    monkeypatch.setattr(build, "_draw_in_children", _draw_here)


def _draw_here(draft, birds, seed, habitat_bias, progress):
    return [record for plates in birds for record in build.write_plates(draft, plates, seed)]


def _array(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_pixels_are_the_same_on_every_machine():
    digest = hashlib.sha256()
    birds = build.plan(seed=0, habitat_bias=DEFAULT_HABITAT_BIAS)
    shown = set()
    for plates in birds[:: len(birds) // 17]:
        for plate, image, mask in build.draw_plates(plates, seed=0):
            shown.add(plate.habitat)
            digest.update(image.tobytes())
            digest.update(mask.tobytes())
    assert shown == set(HABITATS)
    assert digest.hexdigest() == PIXEL_DIGEST


def test_the_files_hold_what_is_drawn(guide):
    plates = next(group for group in build.plan(0, DEFAULT_HABITAT_BIAS) if group[0].name.startswith("test/"))
    for plate, image, mask in build.draw_plates(plates, seed=0):
        assert np.array_equal(_array(guide.root / plate.name), np.asarray(image))
        assert np.array_equal(_array(guide.root / "masks" / plate.name), np.asarray(mask))


def test_another_seed_draws_other_birds():
    first, second = (next(build.draw_plates(build.plan(seed, 0.5)[0], seed))[1] for seed in (0, 1))
    assert first.tobytes() != second.tobytes()


def test_ten_species_with_forty_training_twenty_test_and_twenty_swapped_images(guide):
    assert guide.name == "fieldguide"
    assert guide.layout == "drawn by the program"
    assert guide.mask_parts == MASK_PARTS
    assert guide.classes == tuple(species.name for species in SPECIES)
    assert len(set(guide.classes)) == 10
    counts = Counter((sample.split, sample.label) for sample in guide.samples)
    assert counts == {
        (split, label): count for split, count in (("train", 40), ("test", 20), ("swapped", 20)) for label in range(10)
    }
    first = guide.samples[0]
    assert first.id == "train/ember-crowned-reedling/0001.png"
    assert first.path == guide.root / "train" / "ember-crowned-reedling" / "0001.png"
    assert first.mask_path == guide.root / "masks" / "train" / "ember-crowned-reedling" / "0001.png"
    assert len({sample.id for sample in guide.samples}) == 800
    for sample in guide.samples[::37]:
        with Image.open(sample.path) as image, Image.open(sample.mask_path) as mask:
            assert (image.size, image.mode, mask.size, mask.mode) == ((256, 256), "RGB", (256, 256), "L")


def test_species_share_every_kind_of_mark_and_neighbours_share_few():
    kinds = [
        (species.bill, species.crown, species.bar_colour, species.breast, species.tail, species.tip_colour)
        for species in SPECIES
    ]
    for mark in zip(*kinds, strict=True):
        assert min(Counter(mark).values()) >= 2
    assert Counter(species.home for species in SPECIES) == dict.fromkeys(HABITATS, 2)
    for first, second in itertools.combinations(range(10), 2):
        alike = sum(a == b for a, b in zip(kinds[first], kinds[second], strict=True))
        assert alike <= (2 if SPECIES[first].home == SPECIES[second].home else 4)


def test_bias_one_keeps_every_training_bird_at_home():
    for plate in (plate for plates in build.plan(0, 1.0) for plate in plates if plate.split == "train"):
        assert plate.habitat == SPECIES[plate.label].home


def test_bias_zero_spreads_training_birds_over_all_habitats():
    plates = [plate for plates in build.plan(0, 0.0) for plate in plates if plate.split == "train"]
    counts = Counter(plate.habitat for plate in plates)
    # 400 draws from five: 80 expected, with a standard deviation of 8
    assert set(counts) == set(HABITATS)
    assert all(abs(count - 80) <= 28 for count in counts.values())
    at_home = sum(plate.habitat == SPECIES[plate.label].home for plate in plates)
    assert abs(at_home - 80) <= 28


def test_bias_is_the_probability_of_home(guide):
    habitats = habitats_of(guide)
    train = guide.split("train")
    at_home = sum(habitats[sample.id] == SPECIES[sample.label].home for sample in train) / len(train)
    expected = DEFAULT_HABITAT_BIAS + (1 - DEFAULT_HABITAT_BIAS) / 5
    assert at_home == pytest.approx(expected, abs=0.06)


def test_raising_the_bias_only_sends_birds_home():
    weak, strong = build.plan(0, 0.3), build.plan(0, 0.7)
    for before, after in zip(weak, strong, strict=True):
        for old, new in zip(before, after, strict=True):
            assert new == old or (new.split == "train" and new.habitat == SPECIES[new.label].home)


def test_test_habitats_are_balanced_within_every_species(guide):
    habitats = habitats_of(guide)
    counts = Counter((sample.label, habitats[sample.id]) for sample in guide.split("test"))
    assert counts == {(label, habitat): 4 for label in range(10) for habitat in HABITATS}


def test_swapped_shows_the_same_bird_in_a_habitat_that_is_neither_the_one_before_nor_home(guide, masks):
    habitats = habitats_of(guide)
    swapped = {sample.id: sample for sample in guide.split("swapped")}
    for sample in guide.split("test"):
        other = swapped[sample.id.replace("test/", "swapped/")]
        assert other.label == sample.label
        assert habitats[other.id] not in (habitats[sample.id], SPECIES[sample.label].home)
        before, after = masks[sample.id], masks[other.id]
        both = (before > 0) & (after > 0)
        # What the foreground leaves of the bird is the same bird, pixel for pixel
        assert np.array_equal(before[both], after[both])
        assert both.sum() > 0.7 * max((before > 0).sum(), (after > 0).sum())
    assert set(Counter(habitats[name] for name in swapped)) == set(HABITATS)


def test_the_bird_itself_keeps_its_colours_when_the_habitat_is_swapped(guide, masks):
    for sample in guide.split("test")[::29]:
        name = sample.id.replace("test/", "swapped/")
        same = (masks[sample.id] > 0) & (masks[name] > 0)
        # Away from the outline, where bird and habitat mix, and from what stands before the bird
        inner = np.asarray(Image.fromarray(same).convert("L").resize((64, 64), Image.Resampling.BOX)) == 255
        before, after = (_array(guide.root / path).astype(int) for path in (sample.id, name))
        blocks = np.abs(before - after).max(axis=2).reshape(64, 4, 64, 4).max(axis=(1, 3))
        assert (blocks[inner] == 0).mean() > 0.93


def test_boxes_and_parts_agree_with_the_masks(guide, masks):
    for sample in guide.samples:
        mask = masks[sample.id]
        rows, columns = np.nonzero(mask)
        left, top, width, height = (value * 256 for value in sample.box)
        assert (left, top) == (columns.min(), rows.min())
        assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
        assert set(np.unique(mask)) <= {0, *MASK_PARTS}
        for part in sample.parts:
            assert mask[int(part.y * 256), int(part.x * 256)] == PART_VALUES[part.name]


def test_every_bird_shows_its_marks_large_enough_to_be_seen(guide, masks):
    smallest: dict[str, int] = {}
    for sample in guide.samples:
        species = SPECIES[sample.label]
        named = {part.name for part in sample.parts}
        expected = {"body", "bill", "crown", "breast", "tail"} | ({"wing bar"} if species.bar_colour else set())
        assert expected <= named, sample.id
        assert ("wing bar" in named) == (species.bar_colour is not None)
        areas = np.bincount(masks[sample.id].ravel(), minlength=9)
        for name in expected:
            smallest[name] = min(smallest.get(name, 1 << 30), int(areas[PART_VALUES[name]]))
        assert 0.06 < (masks[sample.id] > 0).mean() < 0.5
        assert sample.box[2] >= 0.35 or sample.box[3] >= 0.35
    # In pixels of the 256 x 256 image
    assert all(area >= 100 for area in smallest.values()), smallest


def test_poses_places_and_habitat_pictures_vary(guide):
    boxes = np.array([sample.box for sample in guide.split("train")])
    assert boxes[:, 0].std() > 0.02
    assert boxes[:, 1].std() > 0.03
    facing = [
        next(part.x for part in sample.parts if part.name == "bill")
        > next(part.x for part in sample.parts if part.name == "tail")
        for sample in guide.split("train")
    ]
    assert 0.4 < np.mean(facing) < 0.6


def test_a_second_load_reads_the_index_alone(guide, monkeypatch):
    monkeypatch.setattr(build, "build_guide", None)
    start = time.perf_counter()
    again = load_fieldguide(guide.root.parent, progress=lambda done, total: pytest.fail("it draws again"))
    assert again == guide
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("bias", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_bias_outside_its_range_is_refused_by_name(tmp_path, bias):
    with pytest.raises(ValueError, match="habitat_bias"):
        load_fieldguide(tmp_path, habitat_bias=bias)
    assert not list(tmp_path.iterdir())


def test_equal_biases_share_a_folder_and_others_do_not(tmp_path, few):
    roots = [load_fieldguide(tmp_path, habitat_bias=bias).root for bias in (0, 0.0, -0.0, 0.5)]
    assert roots[0] == roots[1] == roots[2] != roots[3]
    assert load_fieldguide(tmp_path, habitat_bias=0, seed=1).root not in roots


def test_a_half_made_guide_is_not_taken_for_whole(tmp_path, few):
    folder = build.guide_folder(tmp_path, 0, 0.5)
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "leftover.png").write_bytes(b"")
    dataset = load_fieldguide(tmp_path, habitat_bias=0.5)
    assert len(dataset.samples) == 30
    assert not (folder / "train" / "leftover.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    (folder / "index.json").write_text((folder / "index.json").read_text()[:-100])
    assert load_fieldguide(tmp_path, habitat_bias=0.5) == dataset


def test_a_build_that_fails_leaves_nothing_behind(tmp_path, few, monkeypatch):
    def full(draft, *others):
        (draft / "train" / "half.png").write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(build, "_draw_in_children", full)
    with pytest.raises(OSError, match="space"):
        load_fieldguide(tmp_path, habitat_bias=0.5)
    assert not list(tmp_path.iterdir())


def test_a_child_that_fails_is_reported_in_its_own_words(tmp_path):
    (tmp_path / "draft").mkdir()
    with pytest.raises(DatasetError, match="No such file"):
        # The folders for the images are missing
        build._draw_in_children(tmp_path / "draft", build.plan(0, 0.5), 0, 0.5, None)


def test_an_interrupted_build_ends_its_children_and_leaves_nothing_behind(tmp_path):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_fieldguide(tmp_path, habitat_bias=0.5, progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_drafts_left_by_killed_builds_are_swept_away(tmp_path, few):
    folder = build.guide_folder(tmp_path, 0, 0.5)
    old, new = (tmp_path / f".{folder.name}-{name}" for name in ("old", "new"))
    for draft in (old, new):
        draft.mkdir()
    long_ago = time.time() - 2 * build.STALE_SECONDS
    os.utime(old, (long_ago, long_ago))
    load_fieldguide(tmp_path, habitat_bias=0.5)
    assert not old.exists()
    assert new.exists()


#: Two programs without a guarded main module, which shrink the guide and start to build it together.
_BUILDER = """
import sys, time
from pathlib import Path
from sam_core.datasets.fieldguide import build, load_fieldguide

build.TRAIN_IMAGES = build.TEST_IMAGES = 1
build._draw_in_children = lambda draft, birds, seed, bias, progress: [
    record for plates in birds for record in build.write_plates(draft, plates, seed)
]
gate = Path(sys.argv[1]) / "gate"
while not gate.exists():
    time.sleep(0.005)
dataset = load_fieldguide(Path(sys.argv[1]) / "data", habitat_bias=0.5)
assert len(dataset.samples) == 30 and all(sample.path.exists() for sample in dataset.samples)
assert "torch" not in sys.modules, "drawing must not wait for torch"
print(dataset.root)
"""


def test_two_processes_may_build_at_once(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", _BUILDER, str(tmp_path)], stdout=subprocess.PIPE, env=environment, text=True
        )
        for _ in range(2)
    ]
    (tmp_path / "gate").touch()
    said = [builder.communicate(timeout=60)[0] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert said[0] == said[1]
    folder = Path(said[0].strip())
    assert [path.name for path in (tmp_path / "data").iterdir()] == [folder.name]
    assert len(json.loads((folder / "index.json").read_text())["samples"]) == 30


def test_the_contact_sheet_has_a_row_per_species(guide):
    sheet = contact_sheet(guide, columns=3, side=64, gap=4)
    assert sheet.size == (3 * 68 + 4, 10 * 68 + 4)
