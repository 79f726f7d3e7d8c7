"""What two processes do together, for test_distributed.py: every case in one launch, since PyTorch loads for seconds.

torchrun --standalone --nproc-per-node=2 tests/training/together.py PHOTOGRAPHS RESULTS
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sam_core
from sam_core import team
from sam_core.config import RunConfig, build_config
from sam_core.datasets.base import DatasetError
from sam_core.recording.writer import RunWriter
from sam_core.training import loop

#: Rates so low that rounding does not grow: of a run at the usual ones, a change of 1e-7 in the weights makes another.
BASE: dict[str, Any] = {
    "label_ratio": 85, "backbone": "test_resnet", "weights": "none", "image_size": 64, "batch_size": 8, "epochs": 2,
    "attention_maps": 4, "device": "cpu", "lr": 1e-4, "head_lr": 1e-4, "attention_lr": 1e-4, "validation": 0.05,
    "schedule": "constant", "keep_checkpoints": 1,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "finetune": {"method": "finetune"},
    "sam": {"method": "sam", "test_crops": 10},
    "sam-bilinear": {"method": "sam-bilinear", "seed": 8},
    "compact": {"method": "sam-bilinear", "pooling": "compact", "record": 5},
    "attention": {"method": "sam", "pooling": "attention", "pooling_start": 3},
    "one image a step": {"method": "sam", "label_ratio": 30, "batch_size": 1, "epochs": 1},
    "gradcam++": {"method": "sam", "pseudo": "gradcam++", "label_ratio": 30, "batch_size": 1, "epochs": 1},
    "eigencam": {"method": "sam", "pseudo": "eigencam", "label_ratio": 30, "batch_size": 1, "epochs": 1},
    "finercam": {"method": "sam", "pseudo": "finercam", "label_ratio": 30, "batch_size": 1, "epochs": 1},
    "ablationcam": {"method": "sam", "pseudo": "ablationcam", "label_ratio": 30, "batch_size": 1, "epochs": 1},
}
LONGER = {"method": "sam", "epochs": 4}
STEPS_BEFORE = 4


def config_of(photographs: Path, changes: dict[str, Any]) -> RunConfig:
    """The configuration of a case."""
    return build_config(BASE | {"dataset": str(photographs)} | changes)


class Cases:
    """Trains case after case, and keeps what this process saw of each."""

    def __init__(self, photographs: Path, results: Path) -> None:
        self.photographs = photographs
        self.results = results
        self.rank = int(os.environ["RANK"])
        self.seen: dict[str, Any] = {}

    def train(self, name: str, changes: dict[str, Any] | None = None, **options: Any) -> None:
        """Train one run, and keep where it is or how it ended."""
        config = None if changes is None else config_of(self.photographs, changes)
        try:
            run = sam_core.train(config, runs=self.results / name, quiet=True, **options)
            self.seen[name] = {"folder": str(run.folder)}
        except Exception as error:
            said_elsewhere = getattr(error, "said_elsewhere", False)
            self.seen[name] = {"type": type(error).__name__, "message": str(error), "said_elsewhere": said_elsewhere}
        self.write()

    def write(self) -> None:
        """Write down everything seen so far."""
        (self.results / f"{self.rank}.json").write_text(json.dumps(self.seen))

    def with_patch(self, rank: int, owner: Any, name: str, replacement: Callable[..., Any]) -> _Patch:
        """In the process of this rank, another function for a while; it is handed the first one."""
        return _Patch(owner, name, replacement if rank == self.rank else None)


class _Patch:
    def __init__(self, owner: Any, name: str, replacement: Callable[..., Any] | None) -> None:
        self.owner, self.name, self.replacement = owner, name, replacement
        self.before = getattr(owner, name)

    def __enter__(self) -> None:
        if self.replacement is not None:
            replacement, before = self.replacement, self.before
            setattr(self.owner, self.name, lambda *values, **named: replacement(before, *values, **named))

    def __exit__(self, *error: object) -> None:
        setattr(self.owner, self.name, self.before)


def in_step(act: Callable[[], None], begun: list[int] | None = None) -> Callable[..., Any]:
    """Do something before the step after `STEPS_BEFORE`; `begun` takes the number of every step."""

    def step(before: Callable[..., Any], trainer: loop.Trainer, number: int) -> Any:
        if begun is not None:
            begun.append(number)
        if number == STEPS_BEFORE:
            act()
        return before(trainer, number)

    return step


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def run_out_of_memory() -> None:
    raise MemoryError


def refuse(before: Callable[..., Any], *values: Any) -> None:
    raise DatasetError("the second machine has no photographs", "copy them")


def stop_in_loading(before: Callable[..., Any], config: RunConfig, progress: Callable[[str, int, int], None]) -> Any:
    ask_to_stop()
    return before(config, progress)


def full(before: Callable[..., Any], writer: RunWriter, state: dict[str, Any]) -> None:
    if state["epoch"] == 1:
        raise OSError(28, "No space left on device")
    before(writer, state)


def main(photographs: Path, results: Path) -> None:
    """Every case."""
    cases = Cases(photographs, results)
    for name, changes in CASES.items():
        cases.train(name, changes)

    cases.train("longer", LONGER)
    # A stop that only the second process hears of, half-way through an epoch.
    begun: list[int] = []
    with (
        cases.with_patch(1, loop.Trainer, "_step", in_step(ask_to_stop, begun)),
        cases.with_patch(0, loop.Trainer, "_step", in_step(lambda: None, begun)),
    ):
        cases.train("stopped", LONGER)
    cases.seen["stopped"]["steps"] = begun
    stopped = Path(cases.seen["stopped"]["folder"])
    if cases.rank == 0:
        shutil.copytree(stopped, results / "alone" / stopped.name)
    with cases.with_patch(1, loop, "load_run_data", stop_in_loading):
        cases.train("stopped while loading", resume=stopped)
    cases.seen["stopped while loading"]["state"] = sam_core.open_run(stopped).status["state"]
    cases.train("resumed", resume=stopped)
    cases.train("resumed again", resume=stopped)

    with cases.with_patch(1, loop, "load_run_data", refuse):
        cases.train("refused by the second", LONGER)
    with cases.with_patch(0, loop, "load_run_data", refuse):
        cases.train("refused by the first", LONGER)
    with cases.with_patch(1, loop.Trainer, "_step", in_step(run_out_of_memory)):
        cases.train("failed in the second", LONGER)
    with cases.with_patch(0, RunWriter, "save_last", full):
        cases.train("failed in the first", LONGER)
    cases.train("infinite", LONGER | {"lr": 100, "head_lr": 1000, "epochs": 9})

    # Deaf to everything, as one that waits for a GPU; this ends the first process.
    team.LOOK_EVERY_S, team.GRACE_S = 0.1, 0.2
    with (
        cases.with_patch(1, loop.Trainer, "_step", in_step(run_out_of_memory)),
        cases.with_patch(0, loop.Trainer, "_step", in_step(lambda: time.sleep(600))),
    ):
        cases.train("deaf", LONGER)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
