"""The run folder: written by one module, read by another, whole or not there at any moment."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import sam_core
from sam_core.config import build_config
from sam_core.recording import layout
from sam_core.recording.lock import is_locked
from sam_core.recording.reader import open_run
from sam_core.recording.writer import RunError, RunWriter, new_run_id

KINDS = ("cam", "learned", "gradcam++")
VIEW = (0.0625, 0.0625, 0.875, 0.875)


@pytest.fixture
def writer(tmp_path: Path):
    writer = RunWriter.create(tmp_path / "runs", build_config(), epochs=2)
    yield writer
    writer.close()


def samples(count: int) -> list[dict]:
    return [{"id": f"test/a/{number}.png", "label": 0, "split": "test", "labelled": False} for number in range(count)]


def test_a_runs_name_says_when_what_and_how():
    moment = datetime.datetime(2026, 11, 24, 10, 15, 2)
    name = new_run_id(build_config({"label_ratio": 12.5}), moment)
    assert name.startswith("20261124-101502-fieldguide-12.5pct-sam-")
    odd = new_run_id(build_config({"dataset": "/tmp/My photos; rm -rf"}), moment)
    assert odd.startswith("20261124-101502-my-photos-rm-rf-10pct-sam-")


def test_a_new_run_appears_whole(writer: RunWriter):
    run = open_run(writer.folder)
    assert run.status["state"] == "queued"
    assert run.config == build_config()
    assert [path.name for path in writer.folder.parent.iterdir()] == [writer.folder.name]


def test_a_run_is_found_by_path_and_by_id(writer: RunWriter):
    runs = writer.folder.parent
    assert open_run(writer.folder.name, runs).folder == open_run(writer.folder).folder
    with pytest.raises(RunError, match="no run"):
        open_run("../somewhere", runs)


def test_maps_come_back_as_they_were_written(writer: RunWriter):
    writer.start_attention(samples(5), kinds=KINDS, grid=(3, 4), epochs=(0, 2, 3), view=VIEW)
    generator = torch.Generator().manual_seed(0)
    written = {}
    for point in (0, 1):
        maps = {kind: torch.rand(5, 3, 4, generator=generator) for kind in KINDS}
        rows = np.array([3, 0, 4, 1, 2])
        writer.attention.record(rows, point, maps, torch.arange(5), torch.rand(5, generator=generator))
        written[point] = {kind: maps[kind][rows.tolist().index(4)] for kind in KINDS}
        writer.attention.finish_point(point)
    timeline = open_run(writer.folder).timeline("test/a/4.png")
    assert list(timeline["epochs"]) == [0, 2]
    assert list(timeline["predicted"]) == [2, 2]
    assert timeline["gradcam"] is None
    for kind in KINDS:
        assert timeline[kind].shape == (2, 3, 4)
        for point in (0, 1):
            np.testing.assert_allclose(timeline[kind][point], written[point][kind], atol=1e-3)
    one = open_run(writer.folder).attention("test/a/4.png", 2)
    np.testing.assert_array_equal(one["cam"], timeline["cam"][1])
    with pytest.raises(RunError, match="no maps at epoch 3"):
        open_run(writer.folder).attention("test/a/4.png", 3)
    with pytest.raises(RunError, match="no sample"):
        open_run(writer.folder).timeline("test/b/4.png")


def test_a_point_is_seen_only_when_it_is_whole(writer: RunWriter):
    writer.start_attention(samples(2), kinds=("cam",), grid=(2, 2), epochs=(0, 1), view=VIEW)
    writer.attention.record(np.array([0]), 0, {"cam": torch.ones(1, 2, 2)}, torch.zeros(1), torch.ones(1))
    assert len(open_run(writer.folder).recorded_epochs) == 0
    writer.attention.finish_point(0)
    assert list(open_run(writer.folder).recorded_epochs) == [0]
    writer.reopen_attention(until=-1)
    assert len(open_run(writer.folder).recorded_epochs) == 0


def test_all_epochs_of_an_image_lie_together(writer: RunWriter):
    writer.start_attention(samples(3), kinds=("cam",), grid=(7, 7), epochs=range(11), view=VIEW)
    array = np.load(layout.map_file(writer.folder, "cam"), mmap_mode="r")
    assert array.shape == (3, 11, 7, 7)
    assert array.dtype == np.float16
    assert array.flags["C_CONTIGUOUS"]


def test_disk_is_claimed_at_the_start(writer: RunWriter):
    writer.start_attention(samples(100), kinds=("cam",), grid=(7, 7), epochs=range(101), view=VIEW)
    file = layout.map_file(writer.folder, "cam").stat()
    assert file.st_blocks * 512 >= 100 * 101 * 49 * 2


def test_values_beyond_half_precision_are_cut_not_lost(writer: RunWriter):
    writer.start_attention(samples(1), kinds=("cam",), grid=(1, 2), epochs=(0,), view=VIEW)
    writer.attention.record(np.array([0]), 0, {"cam": torch.tensor([[[1e9, 2.0]]])}, torch.zeros(1), torch.ones(1))
    writer.attention.finish_point(0)
    assert open_run(writer.folder).timeline("test/a/0.png")["cam"].tolist() == [[[65504.0, 2.0]]]


def test_metrics_survive_a_cut_last_line_and_strangers_lines(writer: RunWriter):
    writer.append_metrics({"kind": "epoch", "epoch": 0, "value": float("nan")})
    writer.append_metrics({"kind": "step", "epoch": 1})
    with open(writer.folder / layout.METRICS, "ab") as file:
        file.write(b"\xff\xfe broken\n[1]\n" + b'{"kind": "epoch", "epo')
    run = open_run(writer.folder)
    assert run.metrics("epoch") == [{"kind": "epoch", "epoch": 0, "value": None}]
    assert len(run.metrics()) == 2


def test_a_resumed_run_forgets_the_lines_of_the_epoch_that_was_cut(writer: RunWriter):
    for epoch in (0, 1, 2):
        writer.append_metrics({"kind": "step", "epoch": epoch})
        writer.append_metrics({"kind": "epoch", "epoch": epoch})
    writer.append_metrics({"kind": "step", "epoch": 3})
    writer.close()
    again = RunWriter(writer.folder)
    again.keep_metrics_until(epoch=1)
    assert [entry["epoch"] for entry in open_run(writer.folder).metrics()] == [0, 0, 1, 1]
    again.close()


def test_a_status_is_replaced_whole_and_keeps_its_other_keys(writer: RunWriter):
    writer.status(epoch=1, state="running")
    writer.status(force=False, step=7)  # too soon after the last: it may wait
    assert open_run(writer.folder).status["epoch"] == 1
    writer.status(step=8)
    status = open_run(writer.folder).status
    assert (status["epoch"], status["step"], status["state"]) == (1, 8, "running")
    assert not list(writer.folder.glob(".*"))


def test_one_writer_at_a_time(writer: RunWriter):
    assert is_locked(writer.folder)
    with pytest.raises(RunError, match="another process"):
        RunWriter(writer.folder)
    writer.close()
    assert not is_locked(writer.folder)
    RunWriter(writer.folder).close()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a.json"
    layout.write_json(path, {"a": 1})

    class Unwritable:
        pass

    with pytest.raises(TypeError):
        layout.write_json(path, {"a": Unwritable()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", ["cam.npy", "epochs.npy", "meta.json"])
def test_a_damaged_recording_is_named(name: str, writer: RunWriter):
    writer.start_attention(samples(2), kinds=("cam",), grid=(2, 2), epochs=(0, 1), view=VIEW)
    (writer.folder / layout.ATTENTION / name).write_bytes(b"\x93NUMPY broken")
    with pytest.raises(sam_core.RunError, match=name):
        open_run(writer.folder).timeline("test/a/0.png")


def test_an_array_that_hides_a_pickle_is_not_opened(writer: RunWriter):
    writer.start_attention(samples(1), kinds=("cam",), grid=(2, 2), epochs=(0,), view=VIEW)
    np.save(layout.map_file(writer.folder, "cam"), np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    with pytest.raises(RunError, match="cannot be read"):
        open_run(writer.folder).timeline("test/a/0.png")


def test_names_with_a_plus_are_files_without_one(tmp_path: Path):
    assert layout.map_file(tmp_path, "gradcam++").name == "gradcampp.npy"
