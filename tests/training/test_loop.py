"""A run from start to end: what it leaves, what it measures, and that it learns."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sam_core
from sam_core.recording import layout
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunWriter
from tests.datasets.miniatures import write_cub200


@pytest.fixture(scope="module")
def finished(shared_photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = sam_core.build_config(
        {
            "dataset": str(shared_photographs), "label_ratio": 50, "backbone": "test_resnet", "weights": "none",
            "image_size": 64, "batch_size": 4, "epochs": 3, "attention_maps": 4, "device": "cpu", "keep_checkpoints": 2,
            "validation": 0.2, "test_crops": 10,
        }
    )  # fmt: skip
    return sam_core.train(config, runs=tmp_path_factory.mktemp("runs"), quiet=True)


def test_the_run_folder_is_complete(finished: Run):
    expected = {
        layout.CONFIG, layout.ENVIRONMENT, layout.STATUS, layout.METRICS, layout.SAMPLES, layout.ATTENTION,
        layout.LAST, layout.MODEL, layout.CLASSES, layout.LOG, layout.KEPT, layout.LOCK,
    }  # fmt: skip
    assert {path.name for path in finished.folder.iterdir()} == expected


def test_the_status_says_what_the_contract_says(finished: Run):
    status = finished.status
    keys = ["state", "pid", "host", "epoch", "epochs", "step", "steps", "updated", "eta_s", "error"]
    assert list(status) == keys
    assert (status["state"], status["epoch"], status["epochs"], status["error"]) == ("finished", 3, 3, None)
    assert status["step"] == status["steps"] == 9


def test_every_epoch_has_one_line_and_epoch_zero_comes_before_training(finished: Run):
    epochs = finished.metrics("epoch")
    assert [entry["epoch"] for entry in epochs] == [0, 1, 2, 3]
    assert set(epochs[0]["train"]) == {"top1", "top5"}
    assert set(epochs[1]["train"]) == {"loss", "classification", "attention", "top1", "top5"}
    for entry in epochs:
        assert set(entry["test"]) == {"top1", "top5", "loss"}
        assert entry["test"]["top5"] == 100  # of three classes
        assert "top1" in entry["validation"]
    steps = finished.metrics("step")
    assert [entry["step"] for entry in steps] == list(range(1, 10))
    assert steps[0]["lr"] > steps[-1]["lr"] > 0


def test_every_labelled_and_test_image_is_recorded_at_every_epoch(finished: Run):
    assert len(finished.samples) == 9 + 9
    assert sum(sample["labelled"] for sample in finished.samples) == 9
    assert list(finished.recorded_epochs) == [0, 1, 2, 3]
    for sample in finished.samples:
        timeline = finished.timeline(sample["id"])
        for kind in layout.MAP_KINDS:
            assert timeline[kind].shape == (4, 2, 2)
            assert np.isfinite(timeline[kind]).all()
        assert ((timeline["predicted"] >= 0) & (timeline["predicted"] < 3)).all()
        assert (timeline["confidence"] > 1 / 3 - 1e-6).all()


def test_the_last_recorded_maps_are_those_of_the_saved_weights(finished: Run):
    from sam_core.augment import centre_views, normalise
    from sam_core.datasets.run_data import load_run_data
    from sam_core.models.backbones import data_config

    data, model = load_run_data(finished.config), finished.model()
    sample = finished.samples[-1]
    stored = data.store.take(torch.tensor([data.store.index[sample["id"]]]))
    with torch.no_grad():
        output = model(normalise(centre_views(stored, 64), *data_config("test_resnet")))
    recorded = finished.attention(sample["id"], 3)
    learned = output.attention[0].amax(dim=0)
    cam = torch.einsum("c,chw->hw", model.head.classifier.weight[sample["label"]], output.features[0]).relu()
    assert recorded["predicted"] == output.scores[0].argmax()
    np.testing.assert_allclose(recorded["learned"], learned, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(recorded["cam"], cam.detach(), rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(recorded["gradcam"], cam.detach() / 4, rtol=2e-3, atol=1e-3)


def test_agreement_and_no_made_up_localisation(finished: Run):
    attention = finished.metrics("epoch")[-1]["attention"]
    assert set(attention) == {"labelled", "test"}
    assert attention["test"]["agreement"]["cam-gradcam"]["cosine"] == pytest.approx(1, abs=1e-4)
    assert "localisation" not in attention["test"]  # these photographs have neither box nor mask


def test_weights_of_kept_epochs_load_and_differ(finished: Run):
    assert finished.kept_epochs == [0, 2, 3]
    assert finished.model(2).training is False
    kept = load_file(finished.folder / layout.KEPT / "epoch-00003.safetensors")
    last = load_file(finished.folder / layout.MODEL)
    assert all(torch.equal(kept[name], last[name]) for name in last)
    with pytest.raises(sam_core.RunError, match="kept no weights of epoch 1"):
        finished.model(1)


def test_a_photograph_is_classified(finished: Run):
    answer = finished.predict(finished.samples[0]["path"])
    assert answer["label"] in ("circle", "square", "stripes")
    assert sum(probability for _, probability in answer["top"]) == pytest.approx(1, abs=1e-4)


def test_resuming_a_finished_run_changes_nothing(finished: Run):
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")}
    assert sam_core.train(resume=finished.folder, quiet=True).status["state"] == "finished"
    assert {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")} == before


def test_the_weights_file_depends_on_the_weights_only(finished: Run):
    header = (finished.folder / layout.MODEL).read_bytes()
    size = int.from_bytes(header[:8], "little")
    assert "__metadata__" not in json.loads(header[8 : 8 + size])


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "finetune"},
        {"method": "sam-bilinear"},
        {"method": "sam-bilinear", "pooling": "compact"},
        {"pooling": "attention", "pooling_start": 4},
        {"pooling": "bilinear", "pseudo": "layercam", "target_scale": "max"},
        {"iterations": 5, "eval_every": 2, "epochs": None, "schedule": "multistep", "augment": "randaugment"},
        {"record": 4, "tensorboard": True},
    ],
    ids=str,
)
def test_every_method_trains_and_records(changes: dict, shared_photographs: Path, tmp_path: Path, tiny):
    changes = {"epochs": 1} | changes
    run = sam_core.train(tiny(shared_photographs, **changes), runs=tmp_path, quiet=True)
    assert run.status["state"] == "finished"
    timeline = run.timeline(run.samples[0]["id"])
    assert (timeline["learned"] is None) == (changes.get("method") == "finetune")
    assert (timeline["cam"] is None) == (changes.get("pooling") == "compact")
    assert len(run.samples) == changes.get("record", 18)
    assert run.model().head.pooling_name == run.config.pooling_at(run.status["steps"])
    if "layercam" in changes.values():
        assert timeline["layercam"].shape == timeline["cam"].shape
    if "tensorboard" in changes:
        assert list((run.folder / "tensorboard").iterdir())


def test_the_network_learns(shared_photographs: Path, tmp_path: Path, tiny):
    config = tiny(shared_photographs, epochs=25, label_ratio=100, eval_every=25, lr=0.02, head_lr=0.02, augment="none")
    run = sam_core.train(config, runs=tmp_path, quiet=True)
    first, last = run.metrics("epoch")[0], run.metrics("epoch")[-1]
    assert last["train"]["top1"] >= 90
    assert last["train"]["attention"] < 0.7 * run.metrics("epoch")[1]["train"]["attention"]
    assert first["train"]["top1"] < 80


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(shared_photographs: Path, tmp_path: Path, tiny):
    def weights(seed: int) -> bytes:
        run = sam_core.train(tiny(shared_photographs, seed=seed, epochs=1), runs=tmp_path, quiet=True)
        return (run.folder / layout.MODEL).read_bytes()

    assert weights(0) == weights(0)
    assert weights(0) != weights(1)


def test_a_loss_that_is_not_finite_ends_the_run_with_a_sentence(shared_photographs: Path, tmp_path: Path, tiny):
    with pytest.raises(sam_core.TrainingError, match="infinite or undefined"):
        sam_core.train(tiny(shared_photographs, lr=100, head_lr=1000, epochs=9), runs=tmp_path, quiet=True)
    (folder,) = tmp_path.iterdir()
    run = sam_core.open_run(folder)
    assert run.status["state"] == "failed"
    assert "--lr" in run.status["error"]["hint"]
    assert len(run.recorded_epochs) >= 1  # what was recorded stays readable


def test_a_full_disk_ends_the_run_with_a_sentence_and_keeps_what_was_recorded(
    shared_photographs: Path, tmp_path: Path, tiny, monkeypatch: pytest.MonkeyPatch
):
    save = RunWriter.save_last

    def full_at_epoch_two(self: RunWriter, state: dict) -> None:
        if state["epoch"] == 2:
            # From now on no new file can be made, as on a full disk; the old ones can still be written over.
            monkeypatch.setattr(layout, "replacing", refuse)
            refuse(None)
        save(self, state)

    def refuse(path: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunWriter, "save_last", full_at_epoch_two)
    with pytest.raises(sam_core.TrainingError, match="disk is full"):
        sam_core.train(tiny(shared_photographs), runs=tmp_path, quiet=True)
    (folder,) = tmp_path.iterdir()
    run = sam_core.open_run(folder)
    assert (run.status["state"], run.status["error"]["type"]) == ("failed", "disk full")
    assert "free some space" in run.status["error"]["hint"]
    assert len(run.recorded_epochs) == 3
    monkeypatch.undo()
    assert sam_core.train(resume=folder, quiet=True).status["state"] == "finished"


def test_tensorboard_without_its_package_is_refused_before_anything_is_written(
    shared_photographs: Path, tmp_path: Path, tiny, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    runs = tmp_path / "runs"
    with pytest.raises(sam_core.ConfigError, match="pip install tensorboard"):
        sam_core.train(tiny(shared_photographs, tensorboard=True), runs=runs, quiet=True)
    assert not runs.exists()


def test_the_log_says_what_chose_the_labels_and_which_masks_are_missing(tiny, tmp_path: Path):
    birds = write_cub200(tmp_path / "CUB_200_2011", masks=tmp_path)
    broken = next((tmp_path / "segmentations").rglob("*_0004_*.png"))
    broken.write_bytes(broken.read_bytes()[:60])
    run = sam_core.train(tiny(birds, epochs=1, split_seed=3, label_ratio=100), runs=tmp_path / "runs", quiet=True)
    said = (run.folder / layout.LOG).read_text(encoding="utf-8")
    assert "labelled images by the seeded rule, split seed 3\n" in said
    (line,) = [line for line in said.splitlines() if "without its mask" in line]
    assert f"/{broken.stem}.jpg: " in line
    assert len(run.samples) == 15, "the photograph itself is as good as any"
