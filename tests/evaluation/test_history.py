"""The measures of one image over its epochs are those that an evaluation pass writes of all images at one epoch."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam_core.config import build_config
from sam_core.datasets.base import Part, Sample
from sam_core.datasets.masks import MaskStore
from sam_core.datasets.on_device import DeviceImages
from sam_core.datasets.run_data import load_run_data
from sam_core.device import choose_machine
from sam_core.evaluation.evaluator import LOCALISED, PAIRS, evaluate_group
from sam_core.evaluation.groups import build_groups, choose_recorded, object_coverage
from sam_core.evaluation.history import loss_distributions, measures_over_epochs, sample_coverage, sample_parts
from sam_core.losses import attention_loss
from sam_core.models.backbones import data_config
from sam_core.recording import layout
from sam_core.recording.reader import Run
from sam_core.recording.views import recorded_view, view_mask

EPOCHS, GRID = 4, (3, 5)


def made_up_timeline(**changes: object) -> dict[str, object]:
    generator = np.random.default_rng(0)
    timeline = {kind: generator.random((EPOCHS, *GRID), dtype=np.float32) for kind in layout.MAP_KINDS}
    about = {"epochs": np.arange(EPOCHS), "predicted": np.zeros(EPOCHS, int), "confidence": np.ones(EPOCHS)}
    return timeline | about | changes


def nan_mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def assert_equal_means(found: list[dict], expected: dict, tolerance: float = 2e-3) -> None:
    """The mean over images of every measure at one point is the expected one."""
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_equal_means([measures[name] for measures in found], value, tolerance)
        else:
            assert nan_mean([measures[name] for measures in found]) == pytest.approx(value, abs=tolerance), name


def at_point(measures: object, point: int) -> object:
    """The measures of one epoch."""
    if isinstance(measures, dict):
        return {name: at_point(value, point) for name, value in measures.items()}
    return measures[point] if isinstance(measures, list) else measures


# --- What the loss compares ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("target_scale", ["raw", "sum", "max"])
def test_the_distributions_are_those_whose_divergence_is_the_attention_loss(target_scale: str):
    config = build_config({"target_scale": target_scale, "temperature": 0.7, "pseudo": "layercam"})
    timeline = made_up_timeline(layercam=np.random.default_rng(1).random((EPOCHS, *GRID), dtype=np.float32))
    shares = loss_distributions(timeline, config)
    assert shares.keys() == {*layout.MAP_KINDS, "layercam"}
    for kind in ("cam", "gradcam_predicted", "layercam"):
        loss = attention_loss(
            torch.from_numpy(timeline[kind]),
            torch.from_numpy(timeline["learned"]),
            temperature=0.7,
            target_scale=target_scale,
        )
        target, learned = shares[kind].astype(float), shares["learned"].astype(float)
        by_epoch = (target * np.log(target / learned)).sum(axis=(1, 2))
        assert by_epoch.mean() == pytest.approx(float(loss), abs=1e-5)


def test_every_distribution_adds_up_to_one_and_what_cannot_exist_is_none():
    timeline = made_up_timeline(learned=None)
    timeline["cam"][2] = 0
    timeline["energy"] -= 0.5
    timeline["energy"][1] = -1
    shares = loss_distributions(timeline, build_config({}))
    assert shares["learned"] is None
    for kind in ("cam", "gradcam", "energy"):
        assert shares[kind].shape == (EPOCHS, *GRID)
        assert shares[kind].dtype == np.float32
        np.testing.assert_allclose(shares[kind].sum(axis=(1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(shares["cam"][2], 1 / 15)
    np.testing.assert_allclose(shares["energy"][1], 1 / 15)
    positive = np.maximum(timeline["energy"][0], 0)
    np.testing.assert_allclose(shares["energy"][0], positive / positive.sum(), rtol=1e-5)


# --- Measures -----------------------------------------------------------------------------------------------------


def test_the_mean_over_images_is_what_the_run_wrote_at_every_epoch(trained: Run):
    measured = [
        measures_over_epochs(trained.timeline(sample["id"]), None, temperature=trained.config.temperature)
        for sample in trained.samples
    ]
    for point, entry in enumerate(trained.metrics("epoch")):
        for group, expected in entry["attention"].items():
            chosen = [
                at_point(measures, point)
                for measures, sample in zip(measured, trained.samples, strict=True)
                if sample["labelled"] == (group == "labelled")
            ]
            assert len(chosen) == 9
            assert chosen[0]["localisation"] is None
            assert expected["agreement"].keys() == {f"{first}-{second}" for first, second in PAIRS}
            # Where rounding makes two cells equal their order, and so the overlap, can change.
            assert_equal_means([measures["agreement"] for measures in chosen], expected["agreement"], tolerance=5e-3)


def test_localisation_is_what_an_evaluation_pass_finds(trained: Run):
    config = trained.config
    data = load_run_data(config)
    boxes = np.random.default_rng(0).uniform(0.1, 0.5, (len(data.store.samples), 4))
    samples = [replace(each, box=tuple(box)) for each, box in zip(data.store.samples, boxes, strict=True)]
    points = np.random.default_rng(1).uniform(0, 1, (len(samples), 3, 2))  # some of them are outside the view
    samples = [
        replace(each, parts=tuple(Part(f"part {at}", *point) for at, point in enumerate(places[: row % 4])))
        for row, (each, places) in enumerate(zip(samples, points.tolist(), strict=True))
    ]
    data.store.samples[:] = samples
    grid = tuple(trained.attention_meta["grid"])
    group = build_groups(data, choose_recorded(data, None), image_size=config.image_size, grid=grid)["test"]
    recorded: dict[int, dict[str, np.ndarray]] = {}

    def keep(rows, maps, predicted, confidence):
        for place, row in enumerate(rows):
            recorded[row] = {kind: maps[kind][place].numpy()[None] for kind in maps}

    expected = evaluate_group(
        trained.model(), DeviceImages(data.store, torch.device("cpu")), group, config, choose_machine("cpu"),
        record=keep, normalisation=data_config(config.backbone), kinds=LOCALISED,
    ).attention  # fmt: skip
    found = []
    for position, row in zip(group.positions, group.rows, strict=True):
        marked = [[part.name, part.x, part.y] for part in samples[position].parts]
        run = with_sample(trained, row, box=list(boxes[position]), parts=marked)
        measures = measures_over_epochs(
            recorded[row], sample_coverage(run, row, None), temperature=config.temperature, parts=sample_parts(run, row)
        )
        found.append(at_point(measures, 0)["localisation"])
    assert expected["localisation"].keys() == {*LOCALISED, "uniform"}
    assert "parts" in expected["localisation"]["learned"]
    found = [{kind: {"parts": None} | measures for kind, measures in localisation.items()} for localisation in found]
    assert_equal_means(found, expected["localisation"], tolerance=2e-5)


def test_a_measure_that_is_not_defined_is_none_and_a_map_that_is_not_there_is_left_out():
    timeline = made_up_timeline(learned=None)
    timeline["cam"][1] = 0
    measures = measures_over_epochs(timeline, torch.ones(GRID), temperature=0.4)
    assert measures["agreement"].keys() == {"cam-gradcam"}
    assert measures["localisation"].keys() == {"cam", "gradcam", "energy", "uniform"}
    for values in (*measures["agreement"]["cam-gradcam"].values(), *measures["localisation"]["cam"].values()):
        assert [value is None for value in values] == [False, True, False, False]
    assert measures["localisation"]["gradcam"]["inside"] == [1, 1, 1, 1]
    assert measures["localisation"]["uniform"] == {"inside": 1, "pointing": 1}
    json.dumps(measures, allow_nan=False)


def test_before_the_first_epoch_there_are_no_measures():
    timeline = {name: values[:0] for name, values in made_up_timeline().items()}
    measures = measures_over_epochs(timeline, torch.ones(GRID), temperature=0.4)
    assert measures["agreement"]["cam-learned"] == {"kl": [], "cosine": [], "iou": []}
    assert loss_distributions(timeline, build_config({}))["cam"].shape == (0, *GRID)


# --- Where the object is ------------------------------------------------------------------------------------------


def with_sample(run: Run, row: int, **values: object) -> Run:
    """The run, read anew, with other values in one entry of samples.json."""
    changed = Run(run.folder)
    changed.samples[row] |= values
    return changed


def test_a_mask_or_a_box_covers_the_cells_as_in_evaluation(trained: Run, tmp_path: Path):
    mask = np.zeros((48, 60), dtype=np.uint8)
    mask[5:33, 12:51] = 7
    Image.fromarray(mask).resize((73, 73), Image.Resampling.NEAREST).save(tmp_path / "mask.png")
    sample = Sample("a", tmp_path / "a.png", 0, "test", box=(0.1, 0.3, 0.5, 0.2))
    samples = [replace(sample, mask_path=tmp_path / "mask.png"), sample]
    expected = object_coverage(samples, MaskStore(samples, 73), side=73, image_size=64, grid=(2, 2))

    # A square photograph of the stored size, so that both read the same pixels.
    Image.new("RGB", (73, 73)).save(tmp_path / "a.png")
    run = with_sample(trained, 4, path=str(tmp_path / "a.png"), mask=str(tmp_path / "mask.png"), box=list(sample.box))
    torch.testing.assert_close(sample_coverage(run, 4, view_mask(run, 4, side=64)), expected[0])
    torch.testing.assert_close(sample_coverage(run, 4, None), expected[1])


@pytest.mark.parametrize(
    "box", [None, "abcd", [], [0, 0, 1], [0, 0, 1, "1"], [0, 0, float("nan"), 1], [0, 0, 10**400, 1], {"a": 1}, 3]
)
def test_without_a_usable_box_the_coverage_is_unknown(box: object, trained: Run):
    assert sample_coverage(with_sample(trained, 0, box=box), 0, None) is None


def test_parts_are_moved_into_the_view_and_left_out_beyond_it(trained: Run):
    left, top, width, height = recorded_view(trained)
    run = with_sample(trained, 0, parts=[["bill", 0.5, left + 0.25 * width], ["tail", left / 2, 0.5]])
    [(name, x, y)] = sample_parts(run, 0)
    assert name == "bill"
    assert (x, y) == pytest.approx(((0.5 - left) / width, (left + 0.25 * width - top) / height))


@pytest.mark.parametrize("value", [None, "box", [1, 2], {"a": 1}, True, 10**400, float("nan")])
def test_parts_from_strangers_that_make_no_sense_are_left_out(value: object, trained: Run):
    assert sample_parts(with_sample(trained, 0, parts=value), 0) == []
    assert sample_parts(with_sample(trained, 0, parts=[value, ["a", value, value]]), 0) == []


def test_a_run_folder_is_only_read(trained: Run, tmp_path: Path):
    shutil.copytree(trained.folder, tmp_path / "copy")
    before = {path: path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    run = Run(tmp_path / "copy")
    timeline = run.timeline(run.samples[0]["id"])
    loss_distributions(timeline, run.config)
    measures_over_epochs(timeline, sample_coverage(run, 0, None), temperature=0.4)
    assert {path: path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file()} == before
