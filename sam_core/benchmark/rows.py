"""The rows of the benchmark: their names, their budgets, and what a measured figure is.

Budgets are part of the design: `BUDGETS` lists them in the order of its table, the explorer's rows left to the
explorer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Figures are rounded to so many digits after the point before they are held against their budget: what a person
#: reads is what was judged.
DIGITS = 4
#: The design's "at least 40 interleaved pairs".
PAIRS = 40


@dataclass(frozen=True)
class Budget:
    """What one row promises.

    Attributes:
        what: the row in words.
        limit: the value it must not pass; None for a row that is measured to correct others.
        at_least: the limit is a floor, not a ceiling: more is better.
        limit_on_gpu: the limit where a GPU trains, if it is another.
    """

    what: str
    limit: float | None
    at_least: bool = False
    limit_on_gpu: float | None = None

    def limit_for(self, *, gpu: bool) -> float | None:
        """The limit on this kind of machine."""
        return self.limit_on_gpu if gpu and self.limit_on_gpu is not None else self.limit

    def holds(self, value: float | None, *, gpu: bool) -> bool | None:
        """Whether `value` keeps the budget; None where there is none. What could not be measured does not hold."""
        limit = self.limit_for(gpu=gpu)
        if limit is None:
            return None
        if value is None or not math.isfinite(value):
            return False
        return value >= limit if self.at_least else value <= limit


BUDGETS: dict[str, Budget] = {
    "control_step_ratio": Budget("plain fine-tuning step / plain fine-tuning step of a second network", None),
    "sam_step_ratio": Budget("sam step with CAM / plain fine-tuning step", 1.05),
    "gradcam_step_ratio": Budget("sam step with Grad-CAM / plain fine-tuning step", 1.05),
    "bilinear_step_ratio": Budget("sam-bilinear step with Grad-CAM / plain fine-tuning step", 1.10),
    "pipeline_ratio": Budget(
        "throughput with the real input pipeline / with data already on the device",
        0.95,
        at_least=True,
        limit_on_gpu=0.90,
    ),
    "recording_ratio": Budget("evaluation that records every image / the same evaluation without", 1.05),
    "ten_crop_decodes": Budget("ten-crop evaluation: decodes per image", 1),
    "ten_crop_ratio": Budget("ten-crop evaluation: time / that of one crop", 10.5),
    "timeline_ms": Budget("all epochs of one image, 200 epochs x 6,000 images recorded, in ms", 50),
    "quick_first_point_s": Budget("the default run on 2 CPU cores: seconds from start to first epoch", 20),
    "quick_run_s": Budget("the default run on 2 CPU cores: seconds to the end", 180),
    "quick_peak_gb": Budget("the default run on 2 CPU cores: the worker's peak memory in GB", 3),
}


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        value: the figure.
        noise: its standard error: how much it moves from run to run on this machine as it is now.
        details: what else was seen while measuring, for people.
    """

    value: float
    noise: float
    details: Mapping[str, Any] = field(default_factory=dict)


def row(
    name: str, figure: Figure | None, *, gpu: bool, error: str | None = None, budgets: Mapping[str, Budget] = BUDGETS
) -> dict[str, Any]:
    """One row as it is printed and kept; `figure` is None for what could not be measured, `error` says why."""
    budget = budgets[name]
    value = None if figure is None else round(float(figure.value), DIGITS)
    result: dict[str, Any] = {
        "name": name,
        "value": value,
        "budget": budget.limit_for(gpu=gpu),
        "holds": budget.holds(value, gpu=gpu),
    }
    if figure is not None:
        result["noise"] = round(float(figure.noise), DIGITS)
        if figure.details:
            result["details"] = dict(figure.details)
    if error is not None:
        result["error"] = error
    return result
