"""The same picture saved again is found; different pictures, however alike, are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_core.datasets.images import decode_image
from sam_core.datasets.look_alikes import find_look_alikes
from sam_core.datasets.reading import GLANCE_SIDE, look_of


def photograph(seed: int, size: tuple[int, int] = (500, 375)) -> Image.Image:
    """Smooth colours with grain: what a photograph's bytes are like."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)).astype(float)
    return Image.fromarray((smooth + generator.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file


def look(file: io.BytesIO, *, at_least: int | None = GLANCE_SIDE) -> bytes:
    file.seek(0)
    return look_of(*decode_image(file, at_least=at_least))


def difference(one: bytes, other: bytes) -> float:
    first, second = (np.frombuffer(look, np.uint8).astype(float) for look in (one, other))
    return float(np.sqrt(((first - second) ** 2).mean()))


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (1001, 667), (130, 131)])
def test_a_look_is_the_same_at_whatever_size_a_picture_is_decoded(size: tuple[int, int]):
    file = saved(photograph(0, size), "JPEG", quality=88)
    full = look(file, at_least=None)
    for at_least in (GLANCE_SIDE, 256, 448):
        assert difference(look(file, at_least=at_least), full) < 1


def test_a_picture_saved_again_is_found_in_any_format_size_and_quality():
    original = photograph(0)
    half, large = original.resize((250, 188)), original.resize((1000, 750), Image.Resampling.BICUBIC)
    files = [
        saved(photograph(1), "JPEG"),
        saved(original, "JPEG", quality=95),
        saved(original, "JPEG", quality=30),
        saved(photograph(2), "PNG"),
        saved(original, "PNG"),
        saved(half, "WEBP", quality=60),
        saved(large, "JPEG", quality=70),
        saved(photograph(3), "JPEG"),
    ]
    pairs = find_look_alikes([look(file) for file in files])
    assert len(pairs) == 4
    assert {place for pair in pairs for place in pair} == {1, 2, 4, 5, 6}


def test_two_takes_of_the_same_thing_are_two_pictures():
    scene = photograph(0)
    moved = scene.transform(scene.size, Image.Transform.AFFINE, (1, 0, 12, 0, 1, 8))
    darker = scene.point(lambda value: value * 0.9)
    mirrored = scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    files = [saved(image, "JPEG") for image in (scene, moved, darker, mirrored)]
    assert find_look_alikes([look(file) for file in files]) == []


def test_pictures_of_nearly_nothing_are_not_taken_for_one():
    generator = np.random.default_rng(0)
    skies = []
    for _ in range(20):
        sky = np.full((120, 160, 3), 180.0) + np.linspace(-3, 3, 120)[:, None, None]
        top, left = generator.integers(0, 100), generator.integers(0, 140)
        sky[top : top + 12, left : left + 16] = 40  # a bird, somewhere
        skies.append(saved(Image.fromarray(sky.astype(np.uint8)), "PNG"))
    blank = [saved(Image.new("RGB", (160, 120), (grey, grey, grey)), "PNG") for grey in (0, 1, 128, 255)]
    assert find_look_alikes([look(file) for file in (*skies, *blank)]) == []


def test_what_may_differ_is_little_and_less_where_there_is_little_to_see():
    busy = np.random.default_rng(0).integers(20, 236, 256, dtype=np.uint8)  # a contrast of 62
    quiet = 100 + busy // 20  # of 3

    def alike(one: np.ndarray, other: np.ndarray) -> bool:
        return find_look_alikes([one.tobytes(), other.tobytes()]) == [(0, 1)]

    assert alike(busy, busy + 2)
    assert not alike(busy, busy + 4)
    assert alike(quiet, quiet)
    assert not alike(quiet, quiet + 2)


def test_all_pairs_of_a_larger_set_are_looked_at():
    generator = np.random.default_rng(0)
    looks = generator.integers(0, 256, (1500, 256), dtype=np.uint8)
    looks[7], looks[1300] = looks[900], looks[20] ^ 1
    expected = {(7, 900), (20, 1300)}
    assert set(find_look_alikes([row.tobytes() for row in looks])) == expected


def test_a_picture_that_is_there_a_thousand_times_is_one_group_not_all_its_pairs():
    looks = [np.random.default_rng(0).integers(0, 256, 256, dtype=np.uint8).tobytes()] * 1000
    pairs = find_look_alikes(looks)
    assert len(pairs) == 999
    group = {0}
    for first, second in pairs:
        assert first in group or second in group
        group |= {first, second}
    assert len(group) == 1000


def test_none_and_one_have_no_pairs():
    assert find_look_alikes([]) == find_look_alikes([bytes(256)]) == []


@pytest.mark.photographs
def test_real_photographs_that_are_not_the_same_are_far_apart(real_photographs: Path):
    paths = sorted(real_photographs.glob("cub25/CUB_200_2011/images/*/*.jpg"))
    looks = [look(io.BytesIO(path.read_bytes())) for path in paths]
    assert len(looks) == 1402
    assert find_look_alikes(looks) == []
    pictures = np.stack([np.frombuffer(one, np.uint8) for one in looks]).astype(np.float32)
    squares = (pictures**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * pictures @ pictures.T
    np.fill_diagonal(distances, np.inf)
    closest = float(np.sqrt(distances.min() / pictures.shape[1]))
    print(f"the two closest of {len(looks)} photographs differ by {closest:.1f}")
    assert closest > 10
