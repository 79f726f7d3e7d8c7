"""A real run that also notes when its steps began and ended: `python -m explorer.benchmark.trainee FOLDER FILE`.

The clock is the system's, so that whoever started the process knows which of its steps fell into which time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TextIO

from sam_core.process import share_cores


def train(folder: Path, times: TextIO) -> None:
    """Train the queued run in `folder`, and write a line with two times for every step."""
    from torch import Tensor

    from sam_core.recording.reader import open_run
    from sam_core.recording.writer import RunWriter
    from sam_core.training.loop import Trainer
    from sam_core.training.messages import Messages

    class TimedTrainer(Trainer):
        def _step(self, step: int) -> dict[str, Tensor]:
            started = time.monotonic()
            losses = super()._step(step)
            times.write(f"{started} {time.monotonic()}\n")
            times.flush()
            return losses

    writer = RunWriter(folder)
    writer.take_over()
    messages = Messages(quiet=True)
    messages.open_log(folder / "log.txt")
    TimedTrainer(open_run(folder).config, messages).run(writer)


if __name__ == "__main__":
    share_cores()  # before anything imports torch, as in every run
    with open(sys.argv[2], "a", encoding="utf-8") as file:
        train(Path(sys.argv[1]), file)
