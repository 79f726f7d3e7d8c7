"""The run folder: written by one module, read by another, whole or not there at any moment."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from pathlib import Path
from typing import TextIO

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


def test_a_new_run_needs_nothing_more_of_a_disk_that_is_full_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[set[str]] = []

    def look(folder: Path) -> TextIO:
        seen.append({path.name for path in folder.iterdir()})
        return open(folder / layout.LOCK, encoding="utf-8")

    monkeypatch.setattr("sam_core.recording.writer.take_lock", look)
    RunWriter.create(tmp_path, build_config(), epochs=2).close()
    assert seen == [{layout.CONFIG, layout.STATUS, layout.LOCK}]


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


def test_a_run_that_is_taken_over_keeps_how_far_it_had_come(writer: RunWriter):
    writer.status(state="failed", epoch=1, step=7, steps=14, pid=-1, error={"message": "broken"}, eta_s=3)
    writer.close()
    again = RunWriter(writer.folder)
    again.take_over(state="queued")
    status = open_run(writer.folder).status
    assert (status["state"], status["epoch"], status["epochs"], status["step"]) == ("queued", 1, 2, 7)
    assert (status["steps"], status["error"], status["eta_s"], status["pid"]) == (0, None, None, os.getpid())
    again.close()


@pytest.mark.parametrize("content", ["", '{"state": "run', "[1]"])
def test_a_status_that_cannot_be_read_is_begun_anew(content: str, writer: RunWriter):
    (writer.folder / layout.STATUS).write_text(content)
    writer.status(state="stopped")
    status = open_run(writer.folder).status
    assert (status["state"], status["epoch"], status["error"]) == ("stopped", 0, None)


def test_a_new_run_says_nothing_of_the_computer_that_will_train_it(writer: RunWriter):
    assert {path.name for path in writer.folder.iterdir()} == {layout.CONFIG, layout.STATUS, layout.LOCK}
    writer.write_environment()
    environment = json.loads((writer.folder / layout.ENVIRONMENT).read_text())
    assert environment["threads"] == torch.get_num_threads()


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
    with pytest.raises(RunError, match=r"cam\.npy .* must be a plain array"):
        open_run(writer.folder).timeline("test/a/0.png")


def test_names_with_a_plus_are_files_without_one(tmp_path: Path):
    assert layout.map_file(tmp_path, "gradcam++").name == "gradcampp.npy"


# --- Damage and full disks ------------------------------------------------------------------------------------------


def recorded(writer: RunWriter) -> Path:
    """A run of five samples recorded at two points, with what a finished run has."""
    writer.write_classes({"classes": ["a", "b"]})
    writer.start_attention(samples(5), kinds=("cam",), grid=(2, 2), epochs=(0, 1), view=VIEW)
    for point in (0, 1):
        values = torch.arange(20.0).reshape(5, 2, 2) + 100 * point
        writer.attention.record(np.arange(5), point, {"cam": values}, torch.arange(5) % 2, torch.full((5,), 0.5))
        writer.attention.finish_point(point)
    return writer.folder


def test_one_point_of_many_samples_is_read_at_once(writer: RunWriter):
    run = open_run(recorded(writer))
    np.testing.assert_array_equal(run.recorded_at("cam", 1), np.arange(20.0).reshape(5, 2, 2) + 100)
    np.testing.assert_array_equal(run.recorded_at("cam", 0, slice(3, 9))[:, 0, 0], [12, 16])
    assert run.recorded_at("predicted", 1).tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(RunError, match="has recorded no 'learned'"):
        run.recorded_at("learned", 0)


def test_what_lies_before_a_cut_can_still_be_read(writer: RunWriter):
    folder = recorded(writer)
    os.truncate(layout.map_file(folder, "cam"), 128 + 3 * 2 * 4 * 2 + 1)  # three samples and a byte
    assert open_run(folder).timeline("test/a/2.png")["cam"].shape == (2, 2, 2)
    with pytest.raises(RunError, match=r"cam\.npy .* shorter"):
        open_run(folder).timeline("test/a/3.png")
    with pytest.raises(RunError, match=r"cam\.npy .* shorter"):
        open_run(folder).recorded_at("cam", 1)


def test_a_reader_outlives_an_array_that_becomes_shorter(writer: RunWriter):
    run = open_run(recorded(writer))
    timeline = run.timeline("test/a/4.png")
    os.truncate(layout.map_file(run.folder, "cam"), 128)
    assert timeline["cam"][1, 1, 1] == 119, "mapped memory would be gone, and the process with it"


def test_without_their_list_of_ids_samples_are_found_all_the_same(writer: RunWriter):
    folder = recorded(writer)
    (folder / layout.ATTENTION / layout.IDS).write_bytes(b"[1, 2")
    assert open_run(folder).row("test/a/3.png") == 3
    (folder / layout.ATTENTION / layout.IDS).write_text('["test/b/0.png"]')
    with pytest.raises(RunError, match="must have the ids"):
        open_run(folder).samples  # noqa: B018


def test_classes_that_the_run_does_not_have_are_refused(writer: RunWriter):
    folder = recorded(writer)
    np.load(layout.map_file(folder, "predicted"), mmap_mode="r+")[2, 1] = 2
    with pytest.raises(RunError, match=r"predicted\.npy .* class"):
        open_run(folder).timeline("test/a/2.png")
    layout.write_json(folder / layout.SAMPLES, [sample | {"label": 2} for sample in samples(5)])
    with pytest.raises(RunError, match=r"samples\.json .* class"):
        open_run(folder).samples  # noqa: B018


@pytest.mark.parametrize("name", ["epochs", "predicted", "cam"])
def test_a_recording_that_was_cut_is_not_gone_on_with(name: str, writer: RunWriter):
    """numpy would make it longer, with zeros in the place of maps."""
    path = layout.map_file(recorded(writer), name)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(RunError, match=rf"{name}\.npy .* length"):
        writer.reopen_attention(until=1)
    path.unlink()
    with pytest.raises(RunError, match=rf"{name}\.npy .* missing"):
        writer.reopen_attention(until=1)


def test_the_saved_state_comes_back_and_a_flipped_bit_in_it_is_noticed(writer: RunWriter):
    state = {"epoch": 3, "model": {"a": torch.arange(1000.0)}, "optimiser": {}}
    writer.save_last(state)
    assert writer.load_last(torch.device("cpu"))["model"]["a"].sum() == state["model"]["a"].sum()
    path = writer.folder / layout.LAST
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 400] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"last\.pt .* checksum"):
        writer.load_last(torch.device("cpu"))


@pytest.mark.parametrize("state", [[1], {"epoch": 1}, {"epoch": 1, "model": {}}])
def test_a_state_without_what_resuming_needs_is_refused(state: object, writer: RunWriter):
    torch.save(state, writer.folder / layout.LAST)
    with pytest.raises(RunError, match=r"last\.pt .* not what resuming needs"):
        writer.load_last(torch.device("cpu"))


@pytest.mark.parametrize("save", ["save_last", "save_weights"])
def test_a_full_disk_is_an_error_of_the_system_whoever_writes(
    save: str, writer: RunWriter, monkeypatch: pytest.MonkeyPatch
):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            getattr(writer, save)({"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(writer.folder.glob(".*"))
    assert not (writer.folder / layout.LAST).exists()


def test_the_space_of_a_status_is_enough_to_say_that_the_disk_is_full(
    writer: RunWriter, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    writer.status(state="running", epoch=3)
    size = (writer.folder / layout.STATUS).stat().st_size
    monkeypatch.setattr(layout, "replacing", refuse)
    writer.last_status(state="failed", error={"type": "disk full", "message": "m" * 200, "hint": "h" * 200})
    status = open_run(writer.folder).status
    assert (status["state"], status["epoch"], status["error"]["hint"]) == ("failed", 3, "h" * 200)
    assert (writer.folder / layout.STATUS).stat().st_size == size


def test_what_a_killed_process_was_writing_is_removed_by_the_next(writer: RunWriter):
    writer.start_attention(samples(1), kinds=("cam",), grid=(2, 2), epochs=(0,), view=VIEW)
    writer.close()
    (writer.folder / layout.KEPT).mkdir()
    left = [
        ".last.pt.12ab.tmp",
        ".model.safetensors.12ab.tmp",
        "attention/.ids.json.1.tmp",
        "kept/.epoch-00001.safetensors.1.tmp",
    ]
    for name in (*left, ".notes.json.12ab.tmp"):
        (writer.folder / name).write_bytes(b"half")
    RunWriter(writer.folder).close()
    assert not any((writer.folder / name).exists() for name in left)
    assert (writer.folder / ".notes.json.12ab.tmp").exists(), "somebody else may be writing that at this moment"


def test_a_second_writer_is_told_who_the_first_is(writer: RunWriter):
    with pytest.raises(RunError, match=rf"another process \({os.getpid()} on "):
        RunWriter(writer.folder)


@pytest.mark.parametrize("name", ["~nobody-here", "a" * 5000, "a\0b", "\ud800", ""])
def test_names_that_no_run_can_have_are_refused(name: str, tmp_path: Path):
    with pytest.raises(RunError, match="there is no run"):
        open_run(name, tmp_path)


def test_only_weights_under_their_own_names_count(writer: RunWriter):
    (writer.folder / layout.KEPT).mkdir()
    for name in ("epoch-00002.safetensors", "epoch-x.safetensors", "epoch-.safetensors", "notes.txt"):
        (writer.folder / layout.KEPT / name).write_bytes(b"")
    assert open_run(writer.folder).kept_epochs == [2]


def test_a_strangers_numbers_do_not_take_the_memory_that_they_ask_for(trained, tmp_path: Path):
    folder = Path(shutil.copytree(trained.folder, tmp_path / trained.id))
    config = json.loads((folder / layout.CONFIG).read_text())
    (folder / layout.CONFIG).write_text(json.dumps(config | {"attention_maps": 2**31}))
    with pytest.raises(RunError, match=r"model\.safetensors .* does not fit"):
        open_run(folder).model()
