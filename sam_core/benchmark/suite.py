"""All measurements: which rows each gives, and how much work it is told to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sam_core.benchmark.evaluation import count_ten_crop_decodes, measure_recording, measure_ten_crop_time
from sam_core.benchmark.pipeline import measure_pipeline
from sam_core.benchmark.quick import measure_quick_run
from sam_core.benchmark.rows import BUDGETS, PAIRS, Budget, Figure, row
from sam_core.benchmark.steps import VARIANTS, measure_steps
from sam_core.benchmark.timeline import measure_timeline
from sam_core.device import Machine

ROUGH_PAIRS = 5


@dataclass(frozen=True)
class Effort:
    """How thorough to be. A rough benchmark is over in a minute or two and is only good for a first look."""

    machine: Machine
    pairs: int = PAIRS
    rough: bool = False

    @property
    def long_pairs(self) -> int:
        """Pairs of what takes many times as long as a step."""
        return max(2, self.pairs // 4)


@dataclass(frozen=True)
class Measurement:
    """One thing that is done and the rows that it gives.

    Attributes:
        rows: their names.
        doing: what is done, for people who wait.
        run: does it, for the rows that are wanted.
        slow: left out of a rough benchmark, unless a row of it is asked for by name.
    """

    rows: tuple[str, ...]
    doing: str
    run: Callable[[Effort, Sequence[str]], Mapping[str, Figure]]
    slow: bool = False


def _steps(effort: Effort, wanted: Sequence[str]) -> Mapping[str, Figure]:
    return measure_steps(wanted, effort.machine, pairs=effort.pairs)


def _pipeline(effort: Effort, wanted: Sequence[str]) -> Mapping[str, Figure]:
    return {"pipeline_ratio": measure_pipeline(effort.machine, pairs=effort.pairs)}


def _recording(effort: Effort, wanted: Sequence[str]) -> Mapping[str, Figure]:
    return {"recording_ratio": measure_recording(effort.machine, pairs=effort.pairs)}


def _decodes(effort: Effort, wanted: Sequence[str]) -> Mapping[str, Figure]:
    return {"ten_crop_decodes": count_ten_crop_decodes(effort.machine)}


def _ten_crops(effort: Effort, wanted: Sequence[str]) -> Mapping[str, Figure]:
    return {"ten_crop_ratio": measure_ten_crop_time(effort.machine, pairs=effort.long_pairs)}


def _timeline(effort: Effort, wanted: Sequence[str]) -> Mapping[str, Figure]:
    return {"timeline_ms": measure_timeline(reads=max(effort.pairs, 10))}


def _quick_run(effort: Effort, wanted: Sequence[str]) -> Mapping[str, Figure]:
    return measure_quick_run()


STEP_ROWS = tuple(name for name in BUDGETS if name in VARIANTS)

MEASUREMENTS = (
    Measurement(STEP_ROWS, "training steps of each method, interleaved with plain fine-tuning steps", _steps),
    Measurement(("pipeline_ratio",), "training steps with the real input pipeline and with a ready batch", _pipeline),
    Measurement(("recording_ratio",), "evaluations with and without recording", _recording),
    Measurement(("ten_crop_decodes",), "a ten-crop evaluation whose decodes are counted", _decodes),
    Measurement(("ten_crop_ratio",), "ten-crop and one-crop evaluations", _ten_crops),
    Measurement(("timeline_ms",), "writing a recording of 201 x 6,000 x 6 maps, then reading single images", _timeline),
    Measurement(
        ("quick_first_point_s", "quick_run_s", "quick_peak_gb"), "the default run, from nothing", _quick_run, slow=True
    ),
)


def measure(
    effort: Effort,
    only: Sequence[str] = (),
    *,
    say: Callable[[str], None],
    measurements: Sequence[Measurement] = MEASUREMENTS,
    budgets: Mapping[str, Budget] = BUDGETS,
) -> Iterator[dict[str, Any]]:
    """The rows that are wanted, each as soon as it is measured.

    A row that cannot be measured has no value, does not hold, and says why; the others are measured all the same.
    """
    gpu = effort.machine.device.type != "cpu"
    for measurement in measurements:
        wanted = [name for name in measurement.rows if name in only] if only else list(measurement.rows)
        if not wanted or (effort.rough and measurement.slow and not only):
            continue
        say(f"{', '.join(wanted)}: {measurement.doing}")
        figures: Mapping[str, Figure] = {}
        failure = None
        try:
            figures = measurement.run(effort, wanted)
        except Exception as error:  # whatever the measured code can raise: one row's failure is no other's
            failure = f"{type(error).__name__}: {error}"
            say(f"could not be measured: {failure}")
        # The control belongs beside every step ratio that is asked for.
        for name in measurement.rows:
            if name in wanted or (name == "control_step_ratio" and name in figures):
                yield row(name, figures.get(name), gpu=gpu, error=failure, budgets=budgets)
