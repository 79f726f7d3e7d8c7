"""The benchmark measures what it says: shown with small networks, and with work made slower on purpose."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sam_core.benchmark import history, suite
from sam_core.benchmark.evaluation import (
    count_decodes,
    count_ten_crop_decodes,
    measure_recording,
    measure_ten_crop_time,
)
from sam_core.benchmark.machine import describe_machine
from sam_core.benchmark.made_up import config_for, write_photographs
from sam_core.benchmark.pipeline import FedTrainer, measure_pipeline
from sam_core.benchmark.quick import QuickRunError, measure_quick_run, memory_of
from sam_core.benchmark.rounds import corrected, interleave, order_of, ratio
from sam_core.benchmark.rows import BUDGETS, Figure, row
from sam_core.benchmark.steps import TrainingStep, Workload, measure_steps
from sam_core.benchmark.timeline import measure_timeline
from sam_core.cli import benchmark as command
from sam_core.cli.main import main
from sam_core.config import RunConfig
from sam_core.datasets import images as image_files
from sam_core.datasets.run_data import RunData, load_run_data
from sam_core.device import Machine
from sam_core.training.messages import Messages

CPU = Machine(torch.device("cpu"), bfloat16=False)
TINY = Workload("resnet18", batch_size=4, image_size=64, classes=5)


# --- rows and budgets -------------------------------------------------------------------------------------------------


def test_rows_have_the_names_of_the_design() -> None:
    assert list(BUDGETS) == [
        "control_step_ratio",
        *("sam_step_ratio", "gradcam_step_ratio", "bilinear_step_ratio"),
        *("pipeline_ratio", "recording_ratio", "ten_crop_decodes", "ten_crop_ratio", "timeline_ms"),
        *("quick_first_point_s", "quick_run_s", "quick_peak_gb"),
    ]


@pytest.mark.parametrize(
    ("name", "on_cpu", "on_gpu"),
    [
        ("sam_step_ratio", 1.05, 1.05),
        ("gradcam_step_ratio", 1.05, 1.05),
        ("bilinear_step_ratio", 1.10, 1.10),
        ("pipeline_ratio", 0.95, 0.90),
        ("recording_ratio", 1.05, 1.05),
        ("ten_crop_decodes", 1, 1),
        ("ten_crop_ratio", 10.5, 10.5),
        ("timeline_ms", 50, 50),
        ("quick_first_point_s", 20, 20),
        ("quick_run_s", 180, 180),
        ("quick_peak_gb", 3, 3),
    ],
)
def test_budgets_are_those_of_the_design(name: str, on_cpu: float, on_gpu: float) -> None:
    assert BUDGETS[name].limit_for(gpu=False) == on_cpu
    assert BUDGETS[name].limit_for(gpu=True) == on_gpu


def test_every_row_is_measured_by_exactly_one_measurement() -> None:
    measured = [name for measurement in suite.MEASUREMENTS for name in measurement.rows]
    assert sorted(measured) == sorted(BUDGETS)


def test_a_row_holds_at_its_limit_and_not_beyond() -> None:
    assert row("sam_step_ratio", Figure(1.05, 0.0), gpu=False)["holds"] is True
    assert row("sam_step_ratio", Figure(1.0502, 0.0), gpu=False)["holds"] is False


def test_throughput_holds_above_its_limit() -> None:
    assert row("pipeline_ratio", Figure(0.93, 0.0), gpu=False)["holds"] is False
    assert row("pipeline_ratio", Figure(0.93, 0.0), gpu=True)["holds"] is True


def test_the_control_has_no_budget_and_nothing_to_hold() -> None:
    control = row("control_step_ratio", Figure(1.2, 0.0), gpu=False)
    assert control["budget"] is None
    assert control["holds"] is None


def test_what_was_not_measured_does_not_hold() -> None:
    failed = row("timeline_ms", None, gpu=False, error="no room")
    assert failed["value"] is None
    assert failed["holds"] is False
    assert failed["error"] == "no room"


# --- interleaving -----------------------------------------------------------------------------------------------------


def test_every_pair_comes_in_both_orders_within_two_rounds() -> None:
    names = ["plain", "sam", "gradcam", "bilinear", "control"]
    for number in range(0, 20, 2):
        first, second = order_of(names, number), order_of(names, number + 1)
        assert first == second[::-1]


def test_every_kind_has_every_place_over_the_rounds() -> None:
    names = ["a", "b", "c"]
    places = {name: {order_of(names, number).index(name) for number in range(6)} for name in names}
    assert all(seen == {0, 1, 2} for seen in places.values())


def test_interleaving_alternates_the_order_and_times_each_kind_once_a_round() -> None:
    calls: list[str] = []
    now = 0.0

    def work(name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            nonlocal now
            calls.append(name)
            now += seconds

        return run

    work_of = {"a": work("a", 1.0), "b": work("b", 3.0)}
    seconds = interleave(work_of, 4, warm_up=1, clock=lambda: now)
    assert calls == ["a", "b", "a", "b", "b", "a", "b", "a", "a", "b"]
    assert seconds == {"a": [1.0] * 4, "b": [3.0] * 4}


def test_a_repeated_kind_is_done_that_often_within_its_turn() -> None:
    calls: list[str] = []
    work = {"one": lambda: calls.append("one"), "ten": lambda: calls.append("ten")}
    interleave(work, 1, warm_up=0, repeat={"one": 3})
    assert calls == ["one", "one", "one", "ten"]


def test_a_ratio_is_the_median_of_quotients_within_rounds() -> None:
    # The machine is ten times slower in the second round: both sides suffer, their quotient does not.
    assert ratio([1.1, 11.0, 1.1], [1.0, 10.0, 1.0]).value == pytest.approx(1.1)


def test_a_ratio_is_corrected_by_its_control() -> None:
    figure = corrected(Figure(1.10, 0.011), Figure(1.05, 0.0))
    assert figure.value == pytest.approx(1.10 / 1.05)
    assert figure.noise == pytest.approx(0.01 * figure.value)


# --- steps ------------------------------------------------------------------------------------------------------------


def test_step_ratios_have_a_control_beside_them() -> None:
    figures = measure_steps(["sam_step_ratio"], CPU, pairs=2, workload=TINY)
    assert set(figures) == {"sam_step_ratio", "control_step_ratio"}
    assert all(figure.value > 0 and figure.details["pairs"] == 2 for figure in figures.values())


class SlowWithGradCam(TrainingStep):
    """A step that wastes as much time again, where the pseudo-attention is Grad-CAM."""

    def __call__(self) -> dict[str, torch.Tensor]:
        started = time.perf_counter()
        losses = super().__call__()
        if self.config.pseudo == "gradcam":
            time.sleep(2 * (time.perf_counter() - started))
        return losses


def test_a_slowed_method_raises_its_own_ratio() -> None:
    wanted = ["sam_step_ratio", "gradcam_step_ratio"]
    figures = measure_steps(wanted, CPU, pairs=6, workload=TINY, make_step=SlowWithGradCam)
    # Three times the work, on a machine that may be busy: well apart from the one that was left as it is.
    assert figures["gradcam_step_ratio"].value > 1.6 * figures["sam_step_ratio"].value


def test_the_measured_step_is_the_training_loops(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photographs", classes=3, train=2, test=1)
    config = config_for(
        tmp_path / "photographs", CPU, backbone="resnet18", image_size=64, batch_size=6, schedule="constant", warmup=0.0
    )
    trainer = FedTrainer(config, _silent())
    images, labels = trainer.prepare(0)
    trainer.ready = images, labels
    step = TrainingStep(config, CPU, images, labels, classes=3)
    step.model.load_state_dict(trainer.model.state_dict())
    trainer.model.train()
    theirs, ours = trainer.measured_step(0), step()
    assert theirs["loss"] == ours["loss"]
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(weight, step.model.state_dict()[name]), name


# --- pipeline, recording, ten crops -----------------------------------------------------------------------------------


class SlowPipeline(FedTrainer):
    """A pipeline that keeps every step waiting."""

    def _batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.ready is None:
            time.sleep(0.5)
        return super()._batch(step)


def test_a_slow_pipeline_lowers_the_throughput_ratio() -> None:
    tiny: dict[str, Any] = {"pairs": 4, "backbone": "resnet18", "batch_size": 4, "image_size": 64}
    slow = measure_pipeline(CPU, **tiny, trainer_type=SlowPipeline)
    assert slow.value < 0.7
    assert slow.value < measure_pipeline(CPU, **tiny).value


class SlowBilinear(FedTrainer):
    """A pipeline that keeps one method waiting."""

    def _batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.ready is None and self.config.method == "sam-bilinear":
            time.sleep(0.5)
        return super()._batch(step)


def test_of_several_methods_the_one_that_loses_most_counts() -> None:
    tiny: dict[str, Any] = {"pairs": 3, "backbone": "resnet18", "batch_size": 4, "image_size": 64}
    methods = ("finetune", "sam", "sam-bilinear")
    figure = measure_pipeline(CPU, **tiny, methods=methods, trainer_type=SlowBilinear)
    assert figure.details["method"] == "sam-bilinear"
    each = figure.details["methods"]
    assert tuple(each) == methods
    assert figure.value == pytest.approx(each["sam-bilinear"]["ratio"], abs=1e-4)
    assert each["sam-bilinear"]["images_per_s"] < 4 / 0.5
    assert each["sam-bilinear"]["images_per_s"] < each["sam-bilinear"]["images_per_s_with_ready_batch"]


def test_slow_recording_raises_the_recording_ratio() -> None:
    tiny: dict[str, Any] = {"pairs": 3, "backbone": "resnet18", "image_size": 64, "images": 8}
    slow = measure_recording(CPU, **tiny, record_batch=lambda *_: time.sleep(0.5))
    assert slow.value > 2
    assert slow.value > measure_recording(CPU, **tiny).value


def test_recording_writes_all_six_maps_of_every_image() -> None:
    seen: list[tuple[int, set[str]]] = []
    figure = measure_recording(
        CPU,
        pairs=1,
        backbone="resnet18",
        image_size=64,
        images=8,
        record_batch=lambda rows, maps, *_: seen.append((len(rows), set(maps))),
    )
    assert figure.details["maps"] == 6
    assert seen[-1][1] == {"cam", "gradcam", "learned", "cam_predicted", "gradcam_predicted", "energy"}
    assert seen[-1][0] == 8


def test_ten_crops_take_about_ten_times_as_long_as_one() -> None:
    figure = measure_ten_crop_time(CPU, pairs=3, backbone="resnet18", image_size=64, images=8)
    assert 3 < figure.value < 30  # tiny, on a machine that may be busy; only a missing factor would fail


def test_a_ten_crop_evaluation_decodes_every_image_once() -> None:
    figure = count_ten_crop_decodes(CPU, backbone="resnet18", image_size=64, images=8)
    assert figure.value == 1
    assert figure.details["images"] == 16  # eight to label and eight to test


def test_decoding_twice_is_counted_twice() -> None:
    def load_twice(config: RunConfig) -> RunData:
        load_run_data(config)
        return load_run_data(config)

    assert count_ten_crop_decodes(CPU, backbone="resnet18", image_size=64, images=8, load=load_twice).value == 2


def test_looking_at_an_images_size_is_no_decode(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "image.jpg")
    with count_decodes() as count, Image.open(tmp_path / "image.jpg") as image:
        assert image.size == (20, 10)
        assert count.decodes == 0
        image.load()
        image.load()
    assert count.decodes == 1
    image_files.read_image(tmp_path / "image.jpg")
    assert count.decodes == 1  # the counting has ended


# --- timeline and default run -----------------------------------------------------------------------------------------


def test_the_timeline_is_read_from_a_recording_of_the_asked_size() -> None:
    figure = measure_timeline(epochs=5, images=30, reads=4)
    assert figure.value > 0
    assert figure.details["epochs"] == 6
    assert figure.details["images"] == 30
    assert figure.details["p95_ms"] >= figure.value


def test_the_memory_of_a_process_includes_what_it_takes() -> None:
    before = memory_of(os.getpid())
    if not before:
        pytest.skip("this system does not tell the memory of a process")
    block = bytearray(300_000_000)
    for place in range(0, len(block), 4096):
        block[place] = 1
    assert memory_of(os.getpid()) >= before
    assert memory_of(os.getpid()) > 300_000_000


def test_a_default_run_that_fails_is_an_error_that_names_the_reason() -> None:
    with pytest.raises(QuickRunError, match="exit code 2; error: label_ratio"):
        measure_quick_run(["--label-ratio", "0"])


@pytest.mark.long
def test_the_default_run_is_watched_to_its_end() -> None:
    figures = measure_quick_run(["--epochs", "1"])
    assert 0 < figures["quick_first_point_s"].value <= figures["quick_run_s"].value
    assert 0.1 < figures["quick_peak_gb"].value < 10


# --- history ----------------------------------------------------------------------------------------------------------

MACHINE = {
    "cpu": "A CPU",
    "cores": 2,
    "memory_gb": 8,
    "gpu": None,
    "device": "cpu",
    "system": "Linux",
    "revision": "1a",
}


def _figure(name: str, value: float, noise: float) -> dict[str, Any]:
    return row(name, Figure(value, noise), gpu=False)


def test_a_figure_that_became_worse_than_its_noise_is_told(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history.save(MACHINE, [_figure("sam_step_ratio", 1.01, 0.005)], path)
    worse = history.compare(MACHINE, [_figure("sam_step_ratio", 1.08, 0.005)], history.load(path))
    assert [change["name"] for change in worse] == ["sam_step_ratio"]
    assert worse[0]["before"] == 1.01
    assert worse[0]["revision"] == "1a"


def test_a_difference_within_the_noise_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history.save(MACHINE, [_figure("sam_step_ratio", 1.01, 0.02)], path)
    assert history.compare(MACHINE, [_figure("sam_step_ratio", 1.08, 0.02)], history.load(path)) == []


def test_a_lower_throughput_is_worse_and_a_higher_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history.save(MACHINE, [_figure("pipeline_ratio", 0.97, 0.002)], path)
    entries = history.load(path)
    assert history.compare(MACHINE, [_figure("pipeline_ratio", 0.90, 0.002)], entries)
    assert not history.compare(MACHINE, [_figure("pipeline_ratio", 0.999, 0.0)], entries)


def test_another_machine_is_no_comparison(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history.save(MACHINE, [_figure("timeline_ms", 5, 0.1)], path)
    assert not history.compare(MACHINE | {"cores": 16}, [_figure("timeline_ms", 40, 0.1)], history.load(path))


def test_the_latest_figure_of_a_row_counts_and_damaged_lines_do_not(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history.save(MACHINE, [_figure("timeline_ms", 5, 0.1)], path)
    history.save(MACHINE, [_figure("timeline_ms", 40, 0.1)], path)
    history.save(MACHINE, [_figure("ten_crop_ratio", 10, 0.1)], path)
    path.write_text(path.read_text() + '{"date": "2026', encoding="utf-8")
    assert not history.compare(MACHINE, [_figure("timeline_ms", 40.1, 0.1)], history.load(path))


def test_the_history_names_no_host_and_no_path(tmp_path: Path) -> None:
    import socket

    path = tmp_path / "history.jsonl"
    history.save(describe_machine(CPU.device), [_figure("timeline_ms", 5, 0.1)], path)
    text = path.read_text(encoding="utf-8")
    assert "/" not in "".join(str(value) for value in json.loads(text)["machine"].values())
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)


# --- the command ------------------------------------------------------------------------------------------------------


def _silent() -> Messages:
    return Messages(quiet=True)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements that take no time: one within its budget, one beyond, one that breaks."""

    def broken(effort: suite.Effort, wanted: Sequence[str]) -> dict[str, Figure]:
        raise OSError("no space left on device")

    stand_in = (
        suite.Measurement(("recording_ratio",), "within", lambda *_: {"recording_ratio": Figure(1.01, 0.002)}),
        suite.Measurement(("ten_crop_ratio",), "beyond", lambda *_: {"ten_crop_ratio": Figure(12.0, 0.1)}),
        suite.Measurement(("timeline_ms",), "broken", broken),
    )
    original = suite.measure
    monkeypatch.setattr(
        suite, "measure", lambda effort, only, *, say: original(effort, only, say=say, measurements=stand_in)
    )


@pytest.mark.usefixtures("stand_ins")
def test_the_last_line_is_one_object_with_machine_and_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    only = ["--only", "recording_ratio", "ten_crop_ratio", "--history", str(tmp_path / "none.jsonl")]
    assert main(["benchmark", "--json", *only]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out.splitlines()[-1])
    assert {"cpu", "cores", "memory_gb", "gpu", "python", "packages", "threads", "load_before"} <= set(
        result["machine"]
    )
    assert [row["name"] for row in result["rows"]] == ["recording_ratio", "ten_crop_ratio"]
    for entry in result["rows"]:
        assert {"name", "value", "budget", "holds"} <= set(entry)
    assert [row["holds"] for row in result["rows"]] == [True, False]
    assert "DOES NOT HOLD" in captured.err


@pytest.mark.usefixtures("stand_ins")
def test_a_broken_budget_fails_only_when_strict(tmp_path: Path) -> None:
    common = ["benchmark", "--only", "ten_crop_ratio", "--history", str(tmp_path / "none.jsonl")]
    assert main(common) == 0
    assert main([*common, "--strict"]) == 1


@pytest.mark.usefixtures("stand_ins")
def test_a_row_that_cannot_be_measured_does_not_take_the_others_with_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["benchmark", "--json", "--history", str(tmp_path / "none.jsonl")]) == 1
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["value"] for row in rows] == [1.01, 12.0, None]
    assert "no space left" in rows[-1]["error"]


@pytest.mark.usefixtures("stand_ins")
def test_saved_figures_are_compared_with_the_next(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    common = ["benchmark", "--only", "recording_ratio", "--history", str(path)]
    assert main([*common, "--save"]) == 0
    entry = history.load(path)[0]
    entry["rows"][0]["value"] = 0.9
    path.write_text(json.dumps(entry) + "\n", encoding="utf-8")
    capsys.readouterr()
    assert main(common) == 0
    captured = capsys.readouterr()
    assert "worse than on" in captured.err
    assert "recording_ratio" in captured.out


@pytest.mark.parametrize(
    "arguments",
    [["--only", "sam_steps"], ["--pairs", "1"], ["--save", "--quick"], ["--save", "--pairs", "10"]],
)
def test_wrong_usage_is_refused_before_anything_is_measured(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "measure", lambda *_, **__: pytest.fail("it began to measure"))
    assert main(["benchmark", *arguments]) == 2


def test_a_rough_benchmark_leaves_the_default_run_out_unless_it_is_named() -> None:
    done: list[str] = []

    def note(name: str) -> Callable[..., dict[str, Figure]]:
        return lambda *_: done.append(name) or {}

    stand_in = (
        suite.Measurement(("timeline_ms",), "fast", note("fast")),
        suite.Measurement(("quick_run_s",), "slow", note("slow"), slow=True),
    )
    effort = suite.Effort(CPU, pairs=2, rough=True)
    list(suite.measure(effort, say=lambda _: None, measurements=stand_in))
    assert done == ["fast"]
    list(suite.measure(effort, ["quick_run_s"], say=lambda _: None, measurements=stand_in))
    assert done == ["fast", "slow"]


def test_a_step_row_brings_its_control_along() -> None:
    figures = {"sam_step_ratio": Figure(1.0, 0.0), "control_step_ratio": Figure(1.0, 0.0)}
    stand_in = (suite.Measurement(suite.STEP_ROWS, "steps", lambda *_: figures),)
    rows = list(suite.measure(suite.Effort(CPU), ["sam_step_ratio"], say=lambda _: None, measurements=stand_in))
    assert [entry["name"] for entry in rows] == ["control_step_ratio", "sam_step_ratio"]


def test_the_help_lists_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command.add_parser(argparse.ArgumentParser().add_subparsers())
    parser.print_help()
    text = capsys.readouterr().out
    assert all(name in text for name in BUDGETS)
