"""What many tests need: a small folder of made-up photographs, and a run that takes a second."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from sam_core.config import RunConfig, build_config
from sam_core.process import share_cores

share_cores()  # before any test imports torch
os.environ["SAM_CACHE_GB"] = "0"  # every test decodes for itself; the cache's own tests switch it on

CLASSES = ("circle", "square", "stripes")


def draw_photograph(kind: str, generator: random.Random, size: tuple[int, int] = (60, 48)) -> Image.Image:
    """A shape of its class in a random place on a random ground."""
    ground = tuple(generator.randint(0, 120) for _ in range(3))
    image = Image.new("RGB", size, ground)
    draw = ImageDraw.Draw(image)
    left, top = generator.randint(2, size[0] // 2), generator.randint(2, size[1] // 2)
    box = (left, top, left + 20, top + 20)
    ink = tuple(generator.randint(140, 255) for _ in range(3))
    if kind == "circle":
        draw.ellipse(box, fill=ink)
    elif kind == "square":
        draw.rectangle(box, fill=ink)
    else:
        for offset in range(0, 20, 5):
            draw.line((left, top + offset, left + 20, top + offset), fill=ink, width=2)
    return image


def write_photographs(root: Path, *, train: int = 6, test: int = 3) -> Path:
    """A folder of made-up photographs: ROOT/train/CLASS and ROOT/test/CLASS."""
    generator = random.Random(0)
    for split, count in (("train", train), ("test", test)):
        for kind in CLASSES:
            folder = root / split / kind
            folder.mkdir(parents=True)
            for number in range(count):
                draw_photograph(kind, generator).save(folder / f"{number:02}.png")
    return root


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    return write_photographs(tmp_path / "shapes")


@pytest.fixture(scope="session")
def shared_photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder for all tests that only read it."""
    return write_photographs(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="session")
def real_photographs() -> Path:
    """Where the real photographs and published lists are, for tests marked `photographs`."""
    path = Path(os.environ.get("SAM_PHOTOGRAPHS", ""))
    assert (path / "flowers17" / "train").is_dir(), "set SAM_PHOTOGRAPHS to the folder that holds flowers17/ and cub25/"
    return path


@pytest.fixture(scope="session")
def tiny():
    """Makes the configuration of a run that takes about a second."""

    def make(dataset: Path, **changes: object) -> RunConfig:
        values = {
            "dataset": str(dataset),
            "label_ratio": 50,
            "backbone": "test_resnet",
            "weights": "none",
            "image_size": 64,
            "batch_size": 4,
            "epochs": 3,
            "attention_maps": 4,
            "device": "cpu",
        }
        return build_config(values | changes)

    return make


@pytest.fixture(scope="session")
def tiny_flags() -> list[str]:
    """The same run for the command line."""
    text = "--label-ratio 50 --backbone test_resnet --weights none --image-size 64 --batch-size 4 --epochs 3"
    return [*text.split(), "--attention-maps", "4", "--device", "cpu"]


@pytest.fixture(scope="session")
def trained(shared_photographs: Path, tmp_path_factory: pytest.TempPathFactory, tiny):
    """A finished run on the made-up photographs, for tests that only read it."""
    import sam_core

    return sam_core.train(tiny(shared_photographs, epochs=2), runs=tmp_path_factory.mktemp("runs"), quiet=True)
