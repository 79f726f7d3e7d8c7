"""All measurements of the explorer: which rows each gives, and how much work it is told to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from explorer.benchmark.many_runs import measure_many_runs
from explorer.benchmark.ready import measure_ready
from explorer.benchmark.slider import measure_slider
from explorer.benchmark.viewers import measure_viewers
from sam_core.benchmark.rows import Figure
from sam_core.benchmark.suite import Effort, Measurement

#: What is measured with a server of its own each time: how often.
SERVERS = 3
#: Times that the slider is moved to the end and back.
ROUNDS = 5


def _ready(effort: Effort, wanted: Sequence[str]) -> Mapping[str, Figure]:
    return {"explorer_ready_s": measure_ready(starts=1 if effort.rough else SERVERS)}


def _slider(effort: Effort, wanted: Sequence[str]) -> Mapping[str, Figure]:
    return measure_slider(rounds=1 if effort.rough else ROUNDS)


def _many_runs(effort: Effort, wanted: Sequence[str]) -> Mapping[str, Figure]:
    return {"runs_1000_s": measure_many_runs(servers=1 if effort.rough else SERVERS)}


def _viewers(effort: Effort, wanted: Sequence[str]) -> Mapping[str, Figure]:
    return {"viewers_step_ratio": measure_viewers(effort.machine, pairs=effort.pairs)}


MEASUREMENTS = (
    Measurement(("explorer_ready_s",), "the server started anew, until its page is there", _ready),
    Measurement(("slider_requests", "slider_work_ms"), "the slider moved over 101 epochs in Chromium", _slider),
    Measurement(("runs_1000_s",), "1,000 run folders, and the first requests to a new server", _many_runs),
    Measurement(("viewers_step_ratio",), "a run that trains with 20 viewers and without, in turns", _viewers),
)
