"""Many runs from one command: every combination of some options, over seeds, and what they add up to.

Three steps that know little of each other: `plan_sweep` makes the list of jobs and refuses what cannot be, `Sweep`
trains what is not there yet, and `tabulate` sums up.

Each run is trained by a process of its own. That costs the few seconds in which a process loads PyTorch, and buys what
a night of thirty runs needs: a run that crashes, or is killed for its memory, takes nothing else with it; memory,
threads and random generators begin afresh each time; and a run of a sweep is in no way another thing than a run of
`train`.
So runs can be trained at the same time, each on a GPU that it takes for the only one.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from sam_core.config import PROJECT_ROOT, ConfigError, RunConfig, build_config, known_options, options
from sam_core.datasets.catalog import DATASETS
from sam_core.process import usable_cores
from sam_core.recording import layout
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunError

#: A row of the table is a mean over these; every other varied option tells rows apart.
SEEDS = ("seed", "split_seed")
#: What a run does not depend on.
LABELS_ONLY = ("name",)
#: What `finetune`, which has no attention head, does not depend on.
ATTENTION_ONLY = (
    *(name for name, about in options().items() if about["group"] == "attention"),
    "attention_maps",
    "attention_lr",
)
#: A run of another computer is taken to be alive if its status is not older than this: locks do not reach that far.
ELSEWHERE_ALIVE_S = 120.0
#: So many refused combinations are listed.
LISTED = 12


# --- what to train --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One run that the sweep needs: the varied options as asked for, its seeds, and the configuration they make."""

    options: Mapping[str, Any]
    seeds: Mapping[str, int]
    config: RunConfig
    identity: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", identity(self.config))

    def __str__(self) -> str:
        shown = dict(self.seeds)
        if shown.get("split_seed") == shown.get("seed"):
            shown.pop("split_seed", None)
        return describe({**self.options, **shown})


def plan_sweep(
    vary: Mapping[str, Sequence[Any]],
    *,
    seeds: int | None = None,
    flags: Mapping[str, Any] | None = None,
    file: Path | None = None,
    preset: str | None = None,
) -> list[Job]:
    """Every combination of the varied options, built and validated before anything runs.

    The options are laid over flags, file and preset before the configuration is made, so that what a method fills in by
    itself (its pooling, its pseudo-attention) follows the method. The first seed of every combination comes before the
    second of any: a sweep that is stopped early has compared everything it was to compare.

    Args:
        vary: option -> its values, each of the option's type.
        seeds: vary `seed` over 0..seeds-1, and `split_seed` with it, so that the spread includes which images are
            labelled. A `split_seed` among the flags, or varied by itself, is left as it is; one in the file is not,
            since the file may be the config.json of a run, which holds every option.
        flags: the options that all runs share.
        file: a file of options, under the flags.
        preset: a preset, under the file.

    Raises:
        ConfigError: for an unknown option, a value that cannot be, or combinations that contradict themselves.
    """
    varied = known_options(vary)
    shared = known_options(flags or {})
    _refuse_unclear(varied, shared, seeds)
    seed_axes = [[{name: value} for value in varied[name]] for name in SEEDS if name in varied]
    if seeds is not None:
        together = [name for name in SEEDS if name not in varied and name not in shared]
        seed_axes.insert(0, [dict.fromkeys(together, number) for number in range(seeds)])
    varied = {name: values for name, values in varied.items() if name not in SEEDS}
    combinations = [dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())]

    jobs, refused = [], {}
    for parts in itertools.product(*seed_axes):
        seed_values = {name: value for part in parts for name, value in part.items()}
        for combination in combinations:
            try:
                config = build_config({**shared, **combination, **seed_values}, file=file, preset=preset)
                jobs.append(Job(combination, seed_values, _independent_of_folder(config)))
            except ConfigError as error:
                refused.setdefault(str(error), (error, []))[1].append(combination)
    if refused:
        raise _refusal(list(refused.values()), total=len(combinations))
    return jobs


def describe(values: Mapping[str, Any]) -> str:
    """`method=sam label_ratio=10`."""
    return " ".join(f"{name}={plain(value)}" for name, value in values.items())


def plain(value: Any) -> str:
    """A value as `--vary` takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ":".join(f"{part:g}" for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def identity(config: RunConfig) -> str:
    """What two runs must have in common to be the same run.

    Everything but the name; and of the baseline everything that it depends on, so that it is trained once and not again
    for each temperature that it does not use. (Temperature enters two measures of its maps, neither of which a sweep
    shows: the agreement of CAM and Grad-CAM, and localisation of the softmax.)
    """
    ignored = LABELS_ONLY + (() if config.has_attention else ATTENTION_ONLY)
    return json.dumps({name: value for name, value in config.to_json().items() if name not in ignored}, sort_keys=True)


def refuse_unavailable(jobs: Sequence[Job]) -> None:
    """Look now for what is the same for many runs and would let each fail: data, backbone, weights and device.

    Raises:
        ConfigError: naming the option.
    """
    # timm takes seconds to import; a plan needs it only when it is about to be carried out.
    from sam_core.device import choose_machine
    from sam_core.models.backbones import data_config

    for dataset in {job.config.dataset for job in jobs}:
        if dataset not in DATASETS and not Path(dataset).exists():
            names = ", ".join(DATASETS)
            raise ConfigError("dataset", f"{dataset} is neither a folder or zip nor a known dataset ({names})")
    for backbone in {job.config.backbone for job in jobs}:
        data_config(backbone)
    for weights in {job.config.weights for job in jobs} - {"imagenet", "none"}:
        if not Path(weights).is_file():
            raise ConfigError("weights", f"there is no file {weights}; give imagenet, none, or a weights file")
    for device, precision in {(job.config.device, job.config.precision) for job in jobs}:
        choose_machine(device, precision)


def _refuse_unclear(varied: Mapping[str, Sequence[Any]], shared: Mapping[str, Any], seeds: int | None) -> None:
    if not varied and seeds is None:
        raise ConfigError("vary", "nothing varies; give --vary NAME=VALUE,VALUE,... or --seeds N")
    if seeds is not None and seeds < 1:
        raise ConfigError("seeds", f"must be at least 1, not {seeds}")
    if seeds is not None and ("seed" in varied or "seed" in shared):
        raise ConfigError("seeds", "sets seed for every run; leave out --seed and --vary seed")
    for name, values in varied.items():
        if name in LABELS_ONLY:
            raise ConfigError(name, "is a label for people: varying it would train the same run again and again")
        if name in shared:
            raise ConfigError(name, "is both given and varied; leave one of them out")
        if not values:
            raise ConfigError(name, "has no values to vary over")
        twice = [value for place, value in enumerate(values) if value in values[:place]]
        if twice:
            raise ConfigError(name, f"has the value {plain(twice[0])} twice")


def _refusal(refused: list[tuple[ConfigError, list[dict[str, Any]]]], *, total: int) -> ConfigError:
    """One error for all that is wrong with a sweep; it names the option if only one is to blame."""
    lines, count = [], 0
    for error, combinations in refused:
        different = [values for place, values in enumerate(combinations) if values not in combinations[:place]]
        count += len(different)
        lines += [f"  {describe(values) or 'every run'}: {error}" for values in different]
    names = {error.field for error, _ in refused}
    if len(refused) == 1 and count == total:
        error = refused[0][0]
        return ConfigError(error.field, str(error).removeprefix(f"{error.field}: "))
    listed = lines[:LISTED] + ([f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else [])
    return ConfigError(
        names.pop() if len(names) == 1 else "vary",
        f"{count} of {total} combinations cannot be run, so nothing was started:\n" + "\n".join(listed),
    )


def _independent_of_folder(config: RunConfig) -> RunConfig:
    """The configuration with absolute paths: `photos` elsewhere is other data, and must not pass for this run."""

    def absolute(path: str) -> str:
        return os.path.abspath(os.path.expanduser(path))

    return replace(
        config,
        dataset=config.dataset if config.dataset in DATASETS else absolute(config.dataset),
        data_root=absolute(config.data_root),
        weights=config.weights if config.weights in ("imagenet", "none") else absolute(config.weights),
    )


# --- what is there already ------------------------------------------------------------------------------------------


class KnownRuns:
    """The run folders under one folder, found by what they trained."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._identities: dict[Path, str | None] = {}  # a run's configuration never changes

    def find(self, wanted: str) -> Run | None:
        """The run of this identity that is furthest: finished, else being trained, else the one with most epochs."""
        if not self.folder.is_dir():
            return None
        runs = [Run(path) for path in self.folder.iterdir() if self._identity(path) == wanted]
        return max(runs, key=_progress, default=None)

    def _identity(self, path: Path) -> str | None:
        if path not in self._identities:
            if path.name.startswith(".") or not (path / layout.CONFIG).is_file():
                return None  # not a run, or not yet
            try:
                self._identities[path] = identity(Run(path).config)
            except RunError:
                self._identities[path] = None  # of another version, or damaged: nothing to build on
        return self._identities[path]


def state_of(run: Run) -> str:
    """`finished`; `busy`, being trained by a process now; or what the run was left as, to be resumed."""
    status = _status(run)
    state = str(status.get("state", "stopped"))
    if state == "finished":
        return state
    elsewhere = state in ("running", "stopping") and status.get("host") != socket.gethostname()
    if run.is_alive or (elsewhere and time.time() - float(status.get("updated", 0)) < ELSEWHERE_ALIVE_S):
        return "busy"
    return state


def _progress(run: Run) -> tuple[bool, bool, int, str]:
    state = state_of(run)
    return state == "finished", state == "busy", int(_status(run).get("epoch", 0)), run.id


def _status(run: Run) -> dict[str, Any]:
    try:
        return run.status
    except RunError:
        return {}  # cut while it was made; resuming makes it whole


# --- training -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        state: finished, stopped, failed, busy (another process trains it) or waiting (not begun).
        how: trained, resumed, reused, shared (with an earlier row), or left alone.
        run: its folder, where there is one.
        error: why it failed, in a sentence.
    """

    state: str
    how: str
    run: Run | None = None
    error: str | None = None


class StopSignals:
    """While a sweep runs, Ctrl-C, SIGTERM and a closed terminal are passed on to the runs being trained, once each.

    A child is in a process group of its own, else Ctrl-C would reach it twice, from the terminal and from here, and
    the second one tells a run to end at once instead of after the step at hand.
    """

    def __init__(self) -> None:
        self.received = 0
        self._children: list[subprocess.Popen[str]] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            hangup = getattr(signal, "SIGHUP", None)
            if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:  # nohup means it
                self._before[hangup] = signal.signal(hangup, self._stop)
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def passed_on_to(self, child: subprocess.Popen[str]) -> Iterator[None]:
        """Pass on what comes, and what came while the child was being started."""
        self._children.append(child)
        if self.received:
            child.terminate()
        try:
            yield
        finally:
            self._children.remove(child)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.received += 1
        if os.name != "posix":
            return  # there the console tells the child itself
        for child in list(self._children):
            if self.received > 2:  # the first one lets it finish its step, the second ends it, this is the last word
                child.kill()
            else:
                child.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)


#: Where a run is trained: what its process finds in the environment beside what is there anyway.
Place = Mapping[str, str]
HERE: Place = {}

TrainOne = Callable[[Job, "Run | None", Path, StopSignals, bool, Place], Outcome]


def places_for(jobs: Sequence[Job], at_once: int | None, gpus: Sequence[str]) -> list[Place]:
    """Where runs are trained at the same time: one on each GPU, one on a CPU, or as many as are asked for.

    Args:
        jobs: from `plan_sweep`.
        at_once: how many runs at a time; None for one on each GPU that they may use, else one.
        gpus: the devices, as CUDA_VISIBLE_DEVICES names them.

    Raises:
        ConfigError: if fewer than one is asked for.
    """
    if at_once is not None and at_once < 1:
        raise ConfigError("jobs", f"must be at least 1, not {at_once}")
    if any(job.config.device not in ("auto", "cuda") for job in jobs):
        gpus = ()
    count = at_once or max(1, len(gpus))
    if count == 1:
        return [HERE]
    # Threads of more runs than there are cores for would only wait for each other.
    share = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, usable_cores() // count))}
    return [share | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}) for number in range(count)]


def train_in_process(
    job: Job, known: Run | None, runs: Path, signals: StopSignals, quiet: bool, place: Place = HERE
) -> Outcome:
    """Train one run, or go on with `known`, in a process of its own that writes to this one's standard error."""
    with tempfile.TemporaryDirectory(prefix="sam-sweep-") as scratch:
        if known is None:
            file = Path(scratch) / layout.CONFIG
            layout.write_json(file, job.config.to_json())
            what = ["--config", str(file)]
        else:
            what = ["--resume", str(known.folder)]
        command = [sys.executable, "-m", "sam_core", "train", *what, "--runs", str(runs), "--json"]
        paths = (str(PROJECT_ROOT), os.environ.get("PYTHONPATH", ""))
        child = subprocess.Popen(
            command + ["--quiet"] * quiet,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **place},
            process_group=0 if os.name == "posix" else None,
        )
        with signals.passed_on_to(child):
            try:
                output, _ = child.communicate()
            except BaseException:  # whatever ends this process must not leave one behind that nobody watches
                child.terminate()
                child.wait()
                raise
    return _outcome(job, known, runs, child, output, stopped=signals.received > 0)


def _outcome(
    job: Job, known: Run | None, runs: Path, child: subprocess.Popen[str], output: str, *, stopped: bool
) -> Outcome:
    how = "trained" if known is None else "resumed"
    summary = _last_object(output)
    if child.returncode in (0, 130) and summary is not None:
        return Outcome(str(summary["state"]), how, Run(Path(summary["run"])))
    run = known or KnownRuns(runs).find(job.identity)
    if stopped or child.returncode == 130:
        return Outcome("stopped" if run else "waiting", how, run)
    if run and state_of(run) == "busy":
        return Outcome("busy", "left alone", run)  # another process was quicker
    return Outcome("failed", how, run, _reason(run, child))


def _last_object(output: str) -> dict[str, Any] | None:
    try:
        value = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return None
    return value if isinstance(value, dict) and {"run", "state"} <= value.keys() else None


def _reason(run: Run | None, child: subprocess.Popen[str]) -> str:
    if child.returncode < 0:
        number = -child.returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        memory = "; where nobody did that, the computer ran out of memory" if name == "SIGKILL" else ""
        return f"its process was killed ({name}){memory}"
    status = _status(run) if run else {}
    if status.get("error") and status.get("pid") == child.pid:  # not what an earlier attempt left behind
        return str(status["error"]["message"])
    return f"it ended with exit code {child.returncode}; its message is above"


class Sweep:
    """The jobs of a plan, carried out in their order as far as they are not done yet: one at each place at a time.

    Args:
        jobs: from `plan_sweep`.
        runs: the folder of the run folders, searched for runs to reuse or resume.
        say: takes each line of progress.
        quiet: also keeps the runs themselves quiet.
        train_one: trains one run.
        places: where runs are trained at the same time. Of several, the runs themselves are kept quiet.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        runs: Path,
        *,
        say: Callable[[str], None],
        quiet: bool = False,
        train_one: TrainOne = train_in_process,
        places: Sequence[Place] = (HERE,),
    ) -> None:
        self.jobs = list(jobs)
        self.runs = runs.resolve()
        self.interrupted = False
        self._say = say
        self._quiet = quiet or len(places) > 1
        self._train_one = train_one
        self._places = list(places)
        self._known = KnownRuns(self.runs)
        self._begun = 0
        self._seconds: list[float] = []
        self._one_at_a_time = threading.Lock()  # may look for runs and speak

    @property
    def distinct(self) -> int:
        """How many runs the jobs come to: a baseline is shared by all rows that differ in what it does not use."""
        return len({job.identity for job in self.jobs})

    def preview(self) -> list[tuple[Job, Outcome]]:
        """What would be done: every job with what is there of it now."""
        seen: dict[str, Outcome] = {}
        pairs = []
        for job in self.jobs:
            if job.identity in seen:
                pairs.append((job, replace(seen[job.identity], how="shared")))
                continue
            run = self._known.find(job.identity)
            state = state_of(run) if run else "waiting"
            how = {"waiting": "to train", "finished": "reused", "busy": "left alone"}.get(state, "to resume")
            seen[job.identity] = Outcome(state, how, run)
            pairs.append((job, seen[job.identity]))
        return pairs

    def execute(self) -> list[tuple[Job, Outcome]]:
        """Train what is missing; afterwards `interrupted` says whether a signal ended it early."""
        first_of: dict[str, Job] = {}
        for job in self.jobs:
            first_of.setdefault(job.identity, job)
        waiting = deque(first_of.values())
        outcomes: dict[str, Outcome] = {}
        with StopSignals() as signals:

            def work_at(place: Place) -> None:
                while waiting and not signals.received:
                    try:
                        job = waiting.popleft()
                    except IndexError:  # another place was quicker
                        return
                    outcomes[job.identity] = self._carry_out(job, list(waiting), signals, place)

            if len(self._places) == 1:
                work_at(self._places[0])
            else:
                with ThreadPoolExecutor(len(self._places)) as pool:
                    for work in [pool.submit(work_at, place) for place in self._places]:
                        work.result()
            self.interrupted = signals.received > 0
        return list(self._of_every_job(outcomes))

    def _carry_out(self, job: Job, waiting: Iterable[Job], signals: StopSignals, place: Place) -> Outcome:
        with self._one_at_a_time:
            # Looked up only now: another sweep over the same folder may have trained it in the meantime.
            known = self._known.find(job.identity)
            state = state_of(known) if known else "waiting"
            self._begun += 1
            which = f"run {self._begun} of {self.distinct}: {job}"
            if known and state == "finished":
                self._say(f"{which}: finished before, {known.id}")
                return Outcome(state, "reused", known)
            if known and state == "busy":
                self._say(f"{which}: another process is training it, left alone, {known.id}")
                return Outcome(state, "left alone", known)
            left = f" ({self._time_left([job, *waiting])})" if self._seconds else ""
            self._say(f"{which}: going on with {known.id}{left}" if known else f"{which}{left}")
        started = time.monotonic()
        try:
            outcome = self._train_one(job, known, self.runs, signals, self._quiet, place)
        except OSError as error:  # no process could be started: there may be memory or disk again for the next one
            outcome = Outcome("failed", "not begun", known, f"no process could be started for it: {error.strerror}")
        with self._one_at_a_time:
            if outcome.state == "finished":
                self._seconds.append(time.monotonic() - started)
            if outcome.state == "failed":
                self._say(f"failed, going on without it: {job}: {outcome.error}")
            elif len(self._places) > 1:  # the runs themselves say nothing then
                self._say(f"{outcome.state}: {job}{f', {outcome.run.id}' if outcome.run else ''}")
        return outcome

    def _time_left(self, waiting: Iterable[Job]) -> str:
        names = {job.identity for job in waiting}
        done = {name for name in names if (run := self._known.find(name)) and state_of(run) == "finished"}
        left = statistics.mean(self._seconds) * len(names - done) / len(self._places)
        if left < 90:
            return f"about {left:.0f} s left"
        return f"about {left / 60:.0f} min left" if left < 5400 else f"about {left / 3600:.1f} h left"

    def _of_every_job(self, outcomes: Mapping[str, Outcome]) -> Iterator[tuple[Job, Outcome]]:
        shown: set[str] = set()
        for job in self.jobs:
            outcome = outcomes.get(job.identity) or Outcome("waiting", "not begun", self._known.find(job.identity))
            # Not reached before an interruption, or left to another process: finished runs count all the same.
            if outcome.state in ("waiting", "busy") and outcome.run and state_of(outcome.run) == "finished":
                outcome = replace(outcome, state="finished", how="reused")
            yield job, replace(outcome, how="shared") if job.identity in shown and outcome.run else outcome
            shown.add(job.identity)


# --- what it adds up to ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """One number of a run: where the last evaluated epoch's line in metrics.jsonl has it, and how it is shown."""

    label: str
    path: tuple[str, ...]
    decimals: int = 1


def _inside(kind: str) -> tuple[str, ...]:
    return ("attention", "test", "localisation", kind, "inside")


#: The share of a map that lies inside the object always stands beside its two controls: the features' plain energy,
#: and a uniform map.
FIGURES: dict[str, Figure] = {
    "test_top1": Figure("test top-1", ("test", "top1")),
    "test_top5": Figure("test top-5", ("test", "top5")),
    "swapped_top1": Figure("swapped top-1", ("swapped", "top1")),
    "validation_top1": Figure("validation top-1", ("validation", "top1")),
    "learned_inside": Figure("learned inside", _inside("learned"), 3),
    "cam_inside": Figure("CAM inside", _inside("cam"), 3),
    "energy_inside": Figure("energy inside", _inside("energy"), 3),
    "uniform_inside": Figure("uniform inside", _inside("uniform"), 3),
    "seconds": Figure("seconds", ()),
}


def figures_of(run: Run) -> dict[str, float | None]:
    """The figures of a run's last epoch; None for what it has not measured."""
    epochs = run.metrics("epoch")
    last = next((entry for entry in reversed(epochs) if "test" in entry), {})
    figures = {name: _at(last, figure.path) for name, figure in FIGURES.items()}
    figures["seconds"] = round(sum(entry.get("seconds", 0.0) for entry in epochs), 1)
    return figures


def list_runs(results: Sequence[tuple[Job, Outcome]]) -> list[dict[str, Any]]:
    """One object per combination and seed. Only a finished run has figures: others would blur a mean."""
    return [
        {
            "options": dict(job.options),
            "seed": job.config.seed,
            "split_seed": job.config.split_seed,
            "run": str(outcome.run.folder) if outcome.run else None,
            "state": outcome.state,
            "how": outcome.how,
            "error": outcome.error,
            "figures": figures_of(outcome.run)
            if outcome.run and outcome.state == "finished"
            else dict.fromkeys(FIGURES),
        }
        for job, outcome in results
    ]


def tabulate(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per combination of the varied options: mean and sample standard deviation over its seeds.

    Args:
        runs: from `list_runs`.

    Returns:
        Rows in the order of the plan, each with `options`, `runs` (how many have finished), `planned`, and `figures`:
        name -> `mean`, `sd` (None of a single run) and `n`; None where no run has the figure.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run["options"], sort_keys=True), []).append(run)
    return [
        {
            "options": dict(members[0]["options"]),
            "runs": sum(run["state"] == "finished" for run in members),
            "planned": len(members),
            "figures": {name: _mean([run["figures"][name] for run in members]) for name in FIGURES},
        }
        for members in groups.values()
    ]


def _mean(values: Sequence[float | None]) -> dict[str, Any] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    spread = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "sd": spread, "n": len(known)}


def _at(entry: Mapping[str, Any], path: Sequence[str]) -> float | None:
    value: Any = entry
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None
