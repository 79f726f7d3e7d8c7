import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sam_core.config import ConfigError, RunConfig
from sam_core.recording import layout
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunWriter
from sam_core.training import sweep
from sam_core.training.lifecycle import train
from sam_core.training.sweep import Job, KnownRuns, Outcome, StopSignals, Sweep, identity, plan_sweep, state_of


def epoch_line(epoch: int, top1: float, **more: Any) -> dict[str, Any]:
    return {
        "kind": "epoch",
        "epoch": epoch,
        "test": {"top1": top1, "top5": 90.0},
        "attention": {},
        "seconds": 2.0,
        **more,
    }


def make_run(
    runs: Path, config: RunConfig, *, state: str = "finished", top1: float = 50.0, lines: list[Any] | None = None,
    **status: Any,
) -> Run:  # fmt: skip
    """A run folder as training leaves it, without the training."""
    writer = RunWriter.create(runs, config, epochs=2)
    writer.status(state=state, **status)
    for line in lines or [epoch_line(0, 1.0), epoch_line(1, top1)]:
        writer.append_metrics(line)
    writer.close()
    return Run(writer.folder)


def fake_training(trained: list[str], result: Callable[[Job], str] = lambda job: "finished") -> sweep.TrainOne:
    def train_one(
        job: Job, known: Run | None, runs: Path, signals: Any, quiet: bool, place: sweep.Place = sweep.HERE
    ) -> Outcome:
        trained.append(f"{job}, going on" if known else str(job))
        state = result(job)
        run = known or make_run(runs, job.config, state=state, top1=10.0 * job.config.seed)
        return Outcome(state, "resumed" if known else "trained", run, "it broke" if state == "failed" else None)

    return train_one


def carry_out(jobs: list[Job], runs: Path, train_one: sweep.TrainOne) -> list[dict[str, Any]]:
    return sweep.list_runs(Sweep(jobs, runs, say=lambda text: None, train_one=train_one).execute())


# --- the plan -------------------------------------------------------------------------------------------------------


def test_every_combination_is_planned_and_the_first_seed_of_all_comes_first():
    jobs = plan_sweep({"method": ["finetune", "sam"], "label_ratio": [5.0, 10.0], "seed": [3, 4]})
    assert [str(job) for job in jobs] == [
        f"method={method} label_ratio={ratio} seed={seed}"
        for seed in (3, 4)
        for method in ("finetune", "sam")
        for ratio in (5, 10)
    ]
    assert {job.config.split_seed for job in jobs} == {0}


def test_seeds_also_choose_which_images_are_labelled():
    jobs = plan_sweep({}, seeds=3)
    assert [(job.config.seed, job.config.split_seed) for job in jobs] == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("varied", [False, True])
def test_a_split_seed_that_is_given_stays_as_it_is(varied: bool):
    jobs = plan_sweep({"split_seed": [7]} if varied else {}, seeds=2, flags={} if varied else {"split_seed": 7})
    assert [(job.config.seed, job.config.split_seed) for job in jobs] == [(0, 7), (1, 7)]


def test_a_split_seed_in_the_file_does_not_stay(tmp_path: Path):
    layout.write_json(tmp_path / "run.json", RunConfig(split_seed=7, lr=0.5).to_json())
    jobs = plan_sweep({}, seeds=2, file=tmp_path / "run.json")
    assert [(job.config.split_seed, job.config.lr) for job in jobs] == [(0, 0.5), (1, 0.5)]


def test_what_a_method_fills_in_follows_the_method():
    jobs = plan_sweep({"method": ["finetune", "sam", "sam-bilinear"]})
    assert [(job.config.pooling, job.config.pseudo) for job in jobs] == [
        ("gap", None),
        ("gap", "cam"),
        ("bilinear", "gradcam"),
    ]


@pytest.mark.parametrize(
    ("vary", "more", "field"),
    [
        ({}, {}, "vary"),
        ({"label-ration": [5.0]}, {}, "label-ration"),
        ({"label-ratio": [5.0, 250.0]}, {}, "label_ratio"),
        ({"lr": [0.1, 0.1]}, {}, "lr"),
        ({"lr": []}, {}, "lr"),
        ({"lr": [0.1]}, {"flags": {"lr": 0.2}}, "lr"),
        ({"name": ["a", "b"]}, {}, "name"),
        ({"seed": [0, 1]}, {"seeds": 2}, "seeds"),
        ({}, {"seeds": 2, "flags": {"seed": 1}}, "seeds"),
        ({}, {"seeds": 0}, "seeds"),
        ({}, {"seeds": 2, "flags": {"label_ratio": 250.0}}, "label_ratio"),
    ],
)
def test_what_cannot_be_swept_is_refused_by_name(vary: dict[str, list[Any]], more: dict[str, Any], field: str):
    with pytest.raises(ConfigError) as refused:
        plan_sweep(vary, **more)
    assert refused.value.field == field


def test_an_error_that_all_runs_share_is_said_once():
    with pytest.raises(ConfigError) as refused:
        plan_sweep({}, seeds=5, flags={"label_ratio": 250.0})
    assert str(refused.value) == "label_ratio: must be above 0 and at most 100, not 250"


def test_all_contradictions_are_listed_once_for_all_seeds():
    vary = {"method": ["finetune", "sam", "sam-bilinear"], "pooling": ["gap", "bilinear"]}
    with pytest.raises(ConfigError) as refused:
        plan_sweep(vary, seeds=3)
    lines = str(refused.value).splitlines()
    assert lines[0] == "pooling: 2 of 6 combinations cannot be run, so nothing was started:"
    assert lines[1].startswith("  method=finetune pooling=bilinear: ")
    assert lines[2].startswith("  method=sam-bilinear pooling=gap: ")
    assert len(lines) == 3


def test_paths_are_made_absolute_since_the_same_word_elsewhere_is_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (job,) = plan_sweep({"dataset": ["photos"]}, flags={"data_root": "data", "weights": "w.pt"})
    assert job.config.dataset == str(tmp_path / "photos")
    assert job.config.data_root == str(tmp_path / "data")
    assert job.config.weights == str(tmp_path / "w.pt")
    (named,) = plan_sweep({"dataset": ["fieldguide"]})
    assert (named.config.dataset, named.config.weights) == ("fieldguide", "imagenet")


@pytest.mark.parametrize(
    "flags",
    [{"backbone": "resnet19"}, {"weights": "nowhere.pt"}, {"dataset": "nowhere"}],
    ids=lambda flags: next(iter(flags)),
)
def test_what_would_let_every_run_fail_is_refused_before_the_first(flags: dict[str, Any]):
    with pytest.raises(ConfigError) as refused:
        sweep.refuse_unavailable(plan_sweep({}, seeds=2, flags=flags))
    assert refused.value.field == next(iter(flags))


# --- which runs are the same ----------------------------------------------------------------------------------------


def test_a_name_makes_no_other_run_but_every_other_option_of_sam_does():
    base = RunConfig()
    assert identity(RunConfig(name="mine")) == identity(base)
    for other in ({"temperature": 0.5}, {"seed": 1}, {"attention_lr": 0.5}, {"device": "cpu"}, {"record": 3}):
        assert identity(RunConfig(**other)) != identity(base), other


ATTENTION_SETTINGS = {
    "pseudo": "gradcam",
    "temperature": 2.0,
    "attention_weight": 3.0,
    "warmup": 0.7,
    "target_scale": "max",
    "attention_maps": 3,
    "attention_lr": 0.5,
}


def test_the_baseline_is_one_run_whatever_the_attention_is_set_to():
    assert set(ATTENTION_SETTINGS) == set(sweep.ATTENTION_ONLY)
    assert identity(RunConfig(method="finetune", **ATTENTION_SETTINGS)) == identity(RunConfig(method="finetune"))
    assert identity(RunConfig(method="finetune", lr=0.5)) != identity(RunConfig(method="finetune"))


def test_what_the_baseline_is_said_not_to_use_does_not_change_it(tmp_path: Path):
    for name in ("one", "two"):
        for number in range(4):
            folder = tmp_path / "photos" / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((72, 72), 20.0 + 40 * (name == "two")).convert("RGB").save(folder / f"{number}.png")
    common: dict[str, Any] = {
        "dataset": str(tmp_path / "photos"), "method": "finetune", "backbone": "resnet18", "weights": "none",
        "image_size": 64, "epochs": 1, "label_ratio": 100.0, "device": "cpu",
    }  # fmt: skip
    plain, other = (
        train(RunConfig(**common, **settings), runs=tmp_path / "runs", quiet=True)
        for settings in ({}, ATTENTION_SETTINGS)
    )
    assert (plain.folder / layout.MODEL).read_bytes() == (other.folder / layout.MODEL).read_bytes()
    figures, others = sweep.figures_of(plain), sweep.figures_of(other)
    assert figures | {"seconds": 0} == others | {"seconds": 0}


def test_the_run_that_is_furthest_is_found(tmp_path: Path):
    config = RunConfig()
    known = KnownRuns(tmp_path / "runs")
    assert known.find(identity(config)) is None
    make_run(known.folder, RunConfig(lr=0.5))
    assert known.find(identity(config)) is None
    stopped = make_run(known.folder, config, state="stopped", epoch=3)
    for _ in range(4):
        make_run(known.folder, config, state="failed", epoch=1)
    assert known.find(identity(config)).id == stopped.id
    busy = RunWriter.create(known.folder, config, epochs=2, state="running")
    assert known.find(identity(config)).id == busy.folder.name
    finished = make_run(known.folder, RunConfig(name="another name"), epoch=2)
    assert known.find(identity(config)).id == finished.id
    busy.close()


def test_folders_that_are_no_runs_or_damaged_are_passed_over(tmp_path: Path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "sweep.csv").write_text("a,b\n")
    for name, text in {"cut": "{", "newer": '{"format": 99}', ".new.tmp": "{}"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / layout.CONFIG).write_text(text)
    assert KnownRuns(tmp_path).find(identity(RunConfig())) is None


def test_a_run_is_busy_while_a_process_holds_it_and_resumable_when_that_was_killed(tmp_path: Path):
    writer = RunWriter.create(tmp_path, RunConfig(), epochs=2, state="running")
    assert state_of(Run(writer.folder)) == "busy"
    writer.close()
    assert state_of(Run(writer.folder)) == "running"


def test_a_run_of_another_computer_is_busy_while_its_status_is_fresh(tmp_path: Path):
    run = make_run(tmp_path, RunConfig(), state="running", host=f"not-{socket.gethostname()}")
    assert state_of(run) == "busy"
    status = run.status | {"updated": time.time() - 2 * sweep.ELSEWHERE_ALIVE_S}
    layout.write_json(run.folder / layout.STATUS, status)
    assert state_of(run) == "running"


# --- carrying it out ------------------------------------------------------------------------------------------------


def test_finished_runs_are_reused_stopped_ones_resumed_and_busy_ones_left_alone(tmp_path: Path):
    jobs = plan_sweep({"seed": [0, 1, 2, 3, 4]})
    finished = make_run(tmp_path, jobs[0].config)
    make_run(tmp_path, jobs[1].config, state="stopped")
    make_run(tmp_path, jobs[2].config, state="failed")
    busy = RunWriter.create(tmp_path, jobs[3].config, epochs=2, state="running")
    trained: list[str] = []
    runs = carry_out(jobs, tmp_path, fake_training(trained))
    assert trained == ["seed=1, going on", "seed=2, going on", "seed=4"]
    assert [entry["how"] for entry in runs] == ["reused", "resumed", "resumed", "left alone", "trained"]
    assert [entry["state"] for entry in runs] == ["finished"] * 3 + ["busy", "finished"]
    assert runs[0]["run"] == str(finished.folder)
    assert runs[3]["figures"]["test_top1"] is None
    busy.close()


def test_the_same_sweep_again_trains_nothing_and_more_seeds_only_the_new_ones(tmp_path: Path):
    trained: list[str] = []
    first = carry_out(plan_sweep({"method": ["finetune", "sam"]}, seeds=1), tmp_path, fake_training(trained))
    trained.clear()
    again = carry_out(plan_sweep({"method": ["finetune", "sam"]}, seeds=1), tmp_path, fake_training(trained))
    assert trained == []
    assert [entry["run"] for entry in again] == [entry["run"] for entry in first]
    carry_out(plan_sweep({"method": ["finetune", "sam"]}, seeds=2), tmp_path, fake_training(trained))
    assert trained == ["method=finetune seed=1", "method=sam seed=1"]


def test_a_run_that_another_process_finishes_meanwhile_counts_in_the_table(tmp_path: Path):
    jobs = plan_sweep({"seed": [0, 1]})
    other = RunWriter.create(tmp_path, jobs[0].config, epochs=1, state="running")

    def finish_other(job: Job) -> str:
        other.append_metrics(epoch_line(1, 77.0))
        other.status(state="finished")
        other.close()
        return "finished"

    runs = carry_out(jobs, tmp_path, fake_training([], finish_other))
    assert (runs[0]["state"], runs[0]["how"], runs[0]["figures"]["test_top1"]) == ("finished", "reused", 77.0)


def test_a_failure_does_not_stop_the_rest(tmp_path: Path):
    trained: list[str] = []
    broken = fake_training(trained, lambda job: "failed" if job.config.seed == 0 else "finished")
    runs = carry_out(plan_sweep({"seed": [0, 1]}), tmp_path, broken)
    assert [(entry["state"], entry["error"]) for entry in runs] == [("failed", "it broke"), ("finished", None)]


def test_a_process_that_cannot_be_started_does_not_stop_the_rest(tmp_path: Path):
    def train_one(job: Job, *others: Any) -> Outcome:
        if job.config.seed == 0:
            raise OSError(12, "Cannot allocate memory")
        return Outcome("finished", "trained", make_run(tmp_path, job.config))

    runs = carry_out(plan_sweep({"seed": [0, 1]}), tmp_path, train_one)
    assert [entry["state"] for entry in runs] == ["failed", "finished"]
    assert "Cannot allocate memory" in runs[0]["error"]


def test_the_baseline_is_trained_once_and_shared_by_all_rows(tmp_path: Path):
    trained: list[str] = []
    jobs = plan_sweep({"method": ["finetune", "sam"], "temperature": [0.2, 0.4]})
    assert Sweep(jobs, tmp_path, say=print).distinct == 3
    runs = carry_out(jobs, tmp_path, fake_training(trained))
    assert trained == [
        f"method={what}" for what in ("finetune temperature=0.2", "sam temperature=0.2", "sam temperature=0.4")
    ]
    assert [entry["how"] for entry in runs] == ["trained", "shared", "trained", "trained"]
    assert runs[0]["run"] == runs[1]["run"]
    assert [row["runs"] for row in sweep.tabulate(runs)] == [1, 1, 1, 1]


def test_a_baseline_that_failed_is_not_tried_again_for_the_next_row(tmp_path: Path):
    trained: list[str] = []
    jobs = plan_sweep({"method": ["finetune"], "temperature": [0.2, 0.4]})
    runs = carry_out(jobs, tmp_path, fake_training(trained, lambda job: "failed"))
    assert len(trained) == 1
    assert [entry["state"] for entry in runs] == ["failed", "failed"]


def test_an_interruption_ends_the_sweep_and_finished_runs_still_count(tmp_path: Path):
    jobs = plan_sweep({"seed": [0, 1, 2]})
    make_run(tmp_path, jobs[2].config, top1=60.0)

    def train_one(
        job: Job, known: Run | None, runs: Path, signals: Any, quiet: bool, place: sweep.Place = sweep.HERE
    ) -> Outcome:
        signals.received = 1
        return Outcome("stopped", "trained", make_run(runs, job.config, state="stopped"))

    plan = Sweep(jobs, tmp_path, say=lambda text: None, train_one=train_one)
    runs = sweep.list_runs(plan.execute())
    assert plan.interrupted
    assert [entry["state"] for entry in runs] == ["stopped", "waiting", "finished"]
    (row,) = sweep.tabulate(runs)
    assert (row["runs"], row["planned"], row["figures"]["test_top1"]["mean"]) == (1, 3, 60.0)


TELLS_ITS_SIGNALS = """
import signal, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: print(signal.Signals(number).name, flush=True))
print("ready", flush=True)
while True:
    time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize(
    ("sent", "received"),
    [(signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM"), (getattr(signal, "SIGHUP", signal.SIGTERM), "SIGTERM")],
)
def test_each_signal_reaches_the_run_once_and_the_third_is_the_last_word(sent: signal.Signals, received: str):
    before = signal.getsignal(sent)
    command = [sys.executable, "-c", TELLS_ITS_SIGNALS]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as child,
        StopSignals() as signals,
    ):
        assert child.stdout.readline() == "ready\n"
        with signals.passed_on_to(child):
            for count in (1, 2):
                os.kill(os.getpid(), sent)
                assert child.stdout.readline() == f"{received}\n"
                assert signals.received == count
            os.kill(os.getpid(), sent)
            assert child.wait(10) == -signal.SIGKILL
        assert child.stdout.read() == ""
    assert signal.getsignal(sent) == before


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_a_run_that_is_being_started_when_the_signal_comes_is_stopped_too():
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        with subprocess.Popen(["sleep", "60"]) as child, signals.passed_on_to(child):
            assert child.wait(10) == -signal.SIGTERM


def test_progress_says_which_run_of_how_many_and_how_long_is_left(tmp_path: Path):
    said: list[str] = []
    jobs = plan_sweep({"method": ["finetune", "sam"], "label_ratio": [10.0]}, seeds=2)
    make_run(tmp_path, jobs[2].config)
    Sweep(jobs, tmp_path, say=said.append, train_one=fake_training([])).execute()
    assert said[0] == "run 1 of 4: method=finetune label_ratio=10 seed=0"
    assert said[1] == "run 2 of 4: method=sam label_ratio=10 seed=0 (about 0 s left)"
    assert said[2].startswith("run 3 of 4: method=finetune label_ratio=10 seed=1: finished before, ")


AUTO, CPU = RunConfig(), RunConfig(device="cpu")


@pytest.mark.parametrize(
    ("config", "at_once", "gpus", "expected"),
    [
        (AUTO, None, [], [None]),
        (AUTO, None, ["0"], [None]),
        (AUTO, None, ["2", "GPU-7f"], ["2", "GPU-7f"]),
        (CPU, None, ["0", "1"], [None]),
        (CPU, 2, ["0", "1"], [None, None]),
        (AUTO, 3, ["0", "1"], ["0", "1", "0"]),
        (AUTO, 1, ["0", "1"], [None]),
    ],
)
def test_each_gpu_takes_a_run_unless_another_number_is_asked_for(
    config: RunConfig, at_once: int | None, gpus: list[str], expected: list[str | None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(sweep, "usable_cores", lambda: 8)
    places = sweep.places_for([Job({}, {}, config)], at_once, gpus)
    assert [place.get("CUDA_VISIBLE_DEVICES") for place in places] == expected
    threads = None if len(places) == 1 else str(8 // len(places))
    assert {place.get("OMP_NUM_THREADS") for place in places} == {threads}


def test_no_run_at_a_time_is_refused():
    with pytest.raises(ConfigError, match="jobs: must be at least 1"):
        sweep.places_for([Job({}, {}, AUTO)], 0, [])


def test_runs_are_spread_over_the_places_one_at_each_at_a_time(tmp_path: Path):
    """Each of the first runs waits for the other, so that it ends only if they are trained at the same time."""
    places = [{"CUDA_VISIBLE_DEVICES": name} for name in ("0", "1")]
    meeting = threading.Barrier(2, timeout=20)
    at_work: dict[str, int] = dict.fromkeys(("0", "1"), 0)
    trained: list[tuple[int, str]] = []
    said: list[str] = []

    def train_one(job: Job, known: Run | None, runs: Path, signals: Any, quiet: bool, place: sweep.Place) -> Outcome:
        assert quiet
        gpu = place["CUDA_VISIBLE_DEVICES"]
        at_work[gpu] += 1
        assert at_work[gpu] == 1
        meeting.wait()
        trained.append((job.config.seed, gpu))
        at_work[gpu] -= 1
        return Outcome("finished", "trained", make_run(runs, job.config, top1=10.0 * job.config.seed))

    jobs = plan_sweep({"method": ["finetune"], "temperature": [0.2, 0.4]}, seeds=4)
    plan = Sweep(jobs, tmp_path, say=said.append, train_one=train_one, places=places)
    runs = sweep.list_runs(plan.execute())
    assert sorted(seed for seed, _ in trained) == [0, 1, 2, 3]  # a baseline that two rows share is trained once
    assert sorted(gpu for _, gpu in trained) == ["0", "0", "1", "1"]
    assert [entry["state"] for entry in runs] == ["finished"] * 8
    assert [line.split(":")[0] for line in said if line.startswith("run ")] == [f"run {n} of 4" for n in (1, 2, 3, 4)]
    assert sum(line.startswith("finished: ") for line in said) == 4


def test_a_signal_reaches_the_runs_at_every_place_and_no_new_one_is_begun(tmp_path: Path):
    begun: list[int] = []
    meeting = threading.Barrier(2, timeout=20)

    def train_one(job: Job, known: Run | None, runs: Path, signals: StopSignals, *others: Any) -> Outcome:
        begun.append(job.config.seed)
        with subprocess.Popen(["sleep", "60"], process_group=0) as child, signals.passed_on_to(child):
            if meeting.wait() == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            assert child.wait(20) == -signal.SIGTERM
        return Outcome("stopped", "trained", make_run(runs, job.config, state="stopped"))

    plan = Sweep(plan_sweep({}, seeds=4), tmp_path, say=print, train_one=train_one, places=[sweep.HERE] * 2)
    runs = sweep.list_runs(plan.execute())
    assert plan.interrupted
    assert sorted(begun) == [0, 1]
    assert [entry["state"] for entry in runs] == ["stopped", "stopped", "waiting", "waiting"]


def test_a_run_finds_its_place_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[dict[str, str]] = []

    class Process:
        returncode, pid = 1, 0

        def __init__(self, command: list[str], *, env: dict[str, str], **options: Any) -> None:
            seen.append(env)

        def communicate(self) -> tuple[str, None]:
            return "", None

    monkeypatch.setattr(subprocess, "Popen", Process)
    (job,) = plan_sweep({}, seeds=1)
    with StopSignals() as signals:
        sweep.train_in_process(job, None, tmp_path, signals, True, {"CUDA_VISIBLE_DEVICES": "3"})
        sweep.train_in_process(job, None, tmp_path, signals, True)
    assert seen[0]["CUDA_VISIBLE_DEVICES"] == "3"
    assert seen[1].get("CUDA_VISIBLE_DEVICES") == os.environ.get("CUDA_VISIBLE_DEVICES")


def test_the_preview_trains_nothing_and_writes_nothing(tmp_path: Path):
    jobs = plan_sweep({"method": ["finetune", "sam"], "temperature": [0.2, 0.4]})
    make_run(tmp_path, jobs[2].config)
    make_run(tmp_path, jobs[3].config, state="stopped")
    before = sorted(tmp_path.rglob("*"))
    preview = Sweep(jobs, tmp_path, say=print, train_one=fake_training([], lambda job: "failed")).preview()
    assert [outcome.how for _, outcome in preview] == ["to train", "shared", "reused", "to resume"]
    assert sorted(tmp_path.rglob("*")) == before


# --- the table ------------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_last_evaluated_epoch(tmp_path: Path):
    attention = {
        "test": {"localisation": {"learned": {"inside": 0.7}, "uniform": {"inside": 0.2}, "cam": {"inside": None}}}
    }
    lines = [
        epoch_line(0, 99.0),
        epoch_line(2, 40.0, swapped={"top1": 20.0}, validation={"top1": 30.0}, attention=attention),
        {"kind": "step", "epoch": 3, "test": {"top1": 1.0}},
        {"kind": "epoch", "epoch": 3, "train": {}, "seconds": 1.5},
    ]
    figures = sweep.figures_of(make_run(tmp_path, RunConfig(), lines=lines))
    assert figures == {
        "test_top1": 40.0,
        "test_top5": 90.0,
        "swapped_top1": 20.0,
        "validation_top1": 30.0,
        "learned_inside": 0.7,
        "cam_inside": None,
        "energy_inside": None,
        "uniform_inside": 0.2,
        "seconds": 5.5,
    }


def test_rows_are_means_with_the_sample_standard_deviation_over_seeds(tmp_path: Path):
    jobs = plan_sweep({"method": ["finetune", "sam"], "seed": [0, 1, 4]})
    table = sweep.tabulate(carry_out(jobs, tmp_path, fake_training([])))
    assert [row["options"] for row in table] == [{"method": "finetune"}, {"method": "sam"}]
    figure = table[1]["figures"]["test_top1"]  # 0, 10 and 40
    assert figure["n"] == table[1]["runs"] == 3
    assert figure["mean"] == pytest.approx(50 / 3)
    assert figure["sd"] == pytest.approx(math.sqrt((16.667**2 + 6.667**2 + 23.333**2) / 2), rel=1e-4)


def test_a_single_run_has_no_spread_and_an_unmeasured_figure_no_mean(tmp_path: Path):
    (row,) = sweep.tabulate(carry_out(plan_sweep({}, seeds=1), tmp_path, fake_training([])))
    assert row["figures"]["test_top1"] == {"mean": 0.0, "sd": None, "n": 1}
    assert row["figures"]["learned_inside"] is None


def test_only_finished_runs_enter_the_means(tmp_path: Path):
    half = fake_training([], lambda job: "failed" if job.config.seed == 2 else "finished")
    (row,) = sweep.tabulate(carry_out(plan_sweep({}, seeds=3), tmp_path, half))
    assert (row["runs"], row["planned"]) == (2, 3)
    assert row["figures"]["test_top1"]["mean"] == 5.0
