"""The images of a run: read once, the same ever after, and in time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sam_core
from sam_core.benchmark.evaluation import count_decodes
from sam_core.config import RunConfig, build_config
from sam_core.datasets import run_data
from sam_core.datasets.base import DatasetError
from sam_core.datasets.images import read_mask
from sam_core.datasets.run_data import load_run_data, open_run_dataset
from tests.datasets.miniatures import write_cub200


@pytest.fixture
def config(photographs: Path, cache_root: Path) -> RunConfig:
    """A run on the made-up photographs whose data root is a folder of the test."""
    values = {"dataset": str(photographs), "label_ratio": 50, "image_size": 32, "data_root": str(cache_root.parent)}
    return build_config(values)


def test_a_second_start_decodes_nothing_and_has_the_same_images(config: RunConfig):
    starts = []
    for decodes in (18, 0):
        with count_decodes() as count:
            starts.append(load_run_data(config))
        assert count.decodes == decodes
    first, second = starts
    everything = torch.arange(len(first.store))
    assert torch.equal(first.store.take(everything), second.store.take(everything))
    assert first.groups == second.groups
    assert first.store.samples == second.store.samples


def test_more_labels_decode_only_what_is_new(config: RunConfig):
    load_run_data(config)
    with count_decodes() as count:
        load_run_data(build_config({**vars(config), "label_ratio": 100}))
    assert count.decodes == 9


def test_without_a_cache_the_images_are_the_same(config: RunConfig, monkeypatch: pytest.MonkeyPatch):
    cached = [load_run_data(config) for _ in range(2)]
    monkeypatch.setenv("SAM_CACHE_GB", "0")
    plain = load_run_data(config)
    everything = torch.arange(len(plain.store))
    for data in cached:
        assert torch.equal(data.store.take(everything), plain.store.take(everything))


def test_with_the_cache_switched_off_nothing_is_written(config: RunConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAM_CACHE_GB", "0")
    load_run_data(config)
    assert not Path(config.data_root).exists()


def test_masks_come_in_the_order_of_the_positions_and_are_decoded_once(tmp_path: Path, cache_root: Path):
    root = write_cub200(tmp_path / "CUB_200_2011", masks=tmp_path / "CUB_200_2011")
    values = {"dataset": str(root), "label_ratio": 100, "image_size": 32, "data_root": str(cache_root.parent)}
    for decodes in (15, 0):
        data = load_run_data(build_config(values))
        with count_decodes() as count:
            masks = data.masks(data.groups["test"] + data.groups["labelled"])
        assert count.decodes == decodes
        samples = data.samples("test") + data.samples("labelled")
        for row, sample in enumerate(samples):
            mask = read_mask(sample.mask_path, sample.mask_on).resize((37, 37), Image.Resampling.NEAREST)
            assert torch.equal(masks[row], torch.from_numpy(np.asarray(mask) > 0))
            assert masks[row].any()


def test_broken_images_are_named_at_every_start(config: RunConfig):
    broken = Path(config.dataset) / "test" / "circle" / "00.png"
    broken.write_bytes(broken.read_bytes()[:80])
    for _ in range(2):
        (problem,) = load_run_data(config).problems
        assert (problem.kind, problem.path) == ("truncated image", "test/circle/00.png")
        assert "damaged" in problem.detail


def test_a_class_without_a_readable_labelled_image_is_refused_with_its_broken_file(config: RunConfig):
    for path in (Path(config.dataset) / "train" / "square").iterdir():
        path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"class 'square' of .* \(train/square/0\d.png: the file is empty"):
            load_run_data(config)


def test_a_run_says_that_its_images_stay_in_memory(config: RunConfig, tmp_path: Path, tiny, monkeypatch):
    monkeypatch.setenv("SAM_CACHE_GB", "0.000001")
    assert len(load_run_data(config).notes) == 1
    run = sam_core.train(
        tiny(Path(config.dataset), epochs=1, data_root=config.data_root), runs=tmp_path / "runs", quiet=True
    )
    said = (run.folder / "log.txt").read_text(encoding="utf-8")
    assert said.count("decoded images stay in memory, and the next start decodes them again") == 1


def test_a_cached_run_trains_to_the_same_weights(config: RunConfig, tmp_path: Path, tiny, monkeypatch):
    shared = {"dataset": Path(config.dataset), "epochs": 1, "data_root": config.data_root}
    cold = sam_core.train(tiny(**shared), runs=tmp_path / "cold", quiet=True)
    warm = sam_core.train(tiny(**shared), runs=tmp_path / "warm", quiet=True)
    monkeypatch.setenv("SAM_CACHE_GB", "0")
    plain = sam_core.train(tiny(**shared), runs=tmp_path / "plain", quiet=True)
    weights = [(run.folder / "model.safetensors").read_bytes() for run in (cold, warm, plain)]
    assert weights[0] == weights[1] == weights[2]


def test_looking_into_a_dataset_does_not_wait_for_torch():
    code = "import sys, sam_core.datasets.run_data, sam_core.datasets.checking; print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"


@pytest.mark.parametrize(("dataset", "words"), [("fieldguide", "drawing"), ("cub200", "opening the dataset")])
def test_opening_is_reported_in_words(dataset: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def open_slowly(name: str, *, progress: Callable[[int, int], None], **options: object) -> None:
        progress(1, 2)
        raise DatasetError("that is enough")

    heard: list[tuple[str, int, int]] = []
    monkeypatch.setattr(run_data, "open_dataset", open_slowly)
    with pytest.raises(DatasetError, match="enough"):
        open_run_dataset(build_config({"dataset": dataset}), lambda *told: heard.append(told))
    assert heard == [(words, 1, 2)]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_second_start_with_two_thousand_photographs_is_five_times_as_fast(tmp_path: Path, cache_root: Path):
    generator = np.random.default_rng(0)
    sizes = []
    for number in range(2000):
        place = tmp_path / "photographs" / ("train", "test")[number % 2] / f"class-{number // 2 % 20:02d}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)).astype(float)
        grain = generator.normal(0, 9, (375, 500, 1))  # so that its bytes are as many as a photograph's
        image = Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))
        image.save(place / f"{number:04d}.jpg", quality=89)
        sizes.append((place / f"{number:04d}.jpg").stat().st_size)
    values = {"dataset": str(tmp_path / "photographs"), "label_ratio": 100, "data_root": str(cache_root.parent)}
    seconds, decodes = [], []
    for _ in range(2):
        start = time.perf_counter()
        with count_decodes() as count:
            data = load_run_data(build_config(values))
            data.store.take(torch.tensor(data.groups["labelled"][:24]))
        seconds.append(time.perf_counter() - start)
        decodes.append(count.decodes)
    print(
        f"2,000 photographs of {np.mean(sizes) / 1e3:.0f} kB until the first batch: {seconds[0]:.2f} s, then", end=" "
    )
    print(f"{seconds[1]:.2f} s: {seconds[0] / seconds[1]:.0f} times as fast")
    assert decodes == [2000, 0]
    assert seconds[0] > 5 * seconds[1]
