from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from explorer.attention.gallery import Rankings, columns, measure_images, strip
from explorer.attention.photographs import weights_of
from sam_core.evaluation.agreement import agreement
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunError


def test_the_columns_are_those_of_samples_json_and_of_the_last_epoch(trained):
    table = columns(trained)
    assert table["ids"] == [sample["id"] for sample in trained.samples]
    assert table["epoch"] == 2
    last = [int(trained.timeline(image)["predicted"][-1]) for image in table["ids"]]
    assert table["predicted"] == last
    assert len({len(table[name]) for name in ("ids", "label", "split", "labelled", "predicted", "confidence")}) == 1


def test_a_run_without_an_epoch_yet_has_images_and_no_predictions(own_run):
    epochs = np.load(own_run / "attention" / "epochs.npy")
    np.save(own_run / "attention" / "epochs.npy", np.full_like(epochs, -1))
    table = columns(Run(own_run))
    assert table["epoch"] == -1
    assert table["predicted"] is None
    assert table["ids"]
    assert Rankings().of(Run(own_run))["disagreement"] is None


def test_a_run_that_has_only_begun_has_no_images_yet(own_run):
    for name in ("samples.json", "classes.json"):
        (own_run / name).unlink()
    shutil.rmtree(own_run / "attention")
    table = columns(Run(own_run))
    assert table["ids"] == table["classes"] == []
    assert weights_of(Run(own_run))["classes"] == []


def test_disagreement_is_the_divergence_of_the_pseudo_attention_and_the_learned_attention(trained):
    measured = measure_images(trained)["disagreement"]
    for image in (0, len(measured) - 1):
        timeline = trained.timeline(trained.samples[image]["id"])
        pair = [torch.from_numpy(timeline[kind][-1:]) for kind in ("cam", "learned")]
        expected = float(agreement(*pair)["kl"])
        assert measured[image] == pytest.approx(expected, abs=1e-3, nan_ok=True) or np.isnan(expected)


def test_change_is_zero_for_maps_that_did_not_move(own_run):
    path = own_run / "attention" / "learned.npy"
    maps = np.load(path)
    maps[:] = maps[:, :1] + np.float16(0.5)
    np.save(path, maps)
    assert max(measure_images(Run(own_run))["change"]) == pytest.approx(0, abs=1e-3)


def test_a_ranking_is_measured_once_for_an_epoch(trained, monkeypatch):
    rankings, measured = Rankings(), []
    monkeypatch.setattr(
        "explorer.attention.gallery.measure_images",
        lambda run: measured.append(run) or {"disagreement": [], "change": []},
    )
    rankings.of(trained)
    rankings.of(trained)
    assert len(measured) == 1


def test_the_strip_shows_test_images_of_different_classes_and_always_the_same(trained):
    shown = strip(trained, 3)["images"]
    assert len({image["label"] for image in shown}) == 3
    assert all(trained.samples[image["row"]]["split"] == "test" for image in shown)
    assert shown == strip(trained, 3)["images"]
    assert len(strip(trained, 12)["images"]) == 3, "no more images than classes"


def test_a_run_without_maps_to_compare_is_not_ranked(own_run):
    meta = own_run / "attention" / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"kinds": ["energy"]}))
    with pytest.raises(RunError, match="no map that could be compared"):
        Rankings().of(Run(own_run))
