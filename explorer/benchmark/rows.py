"""The explorer's rows of the benchmark and their budgets, in the order of the design's table."""

from __future__ import annotations

from sam_core.benchmark.rows import Budget

BUDGETS: dict[str, Budget] = {
    "explorer_ready_s": Budget("seconds from the start of the server to its page, imports cached", 15),
    "slider_requests": Budget("moving the slider over 100 epochs: requests that it makes", 0),
    "slider_work_ms": Budget("moving the slider over 100 epochs: our own work per move, 95th percentile in ms", 20),
    "runs_1000_s": Budget("1,000 run folders: seconds for the list and the first view", 1),
    "viewers_step_ratio": Budget("training step with 20 viewers polling / with none", 1.05),
}
