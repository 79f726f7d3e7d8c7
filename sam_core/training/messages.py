"""What a run says: a progress bar on standard error for people, log.txt for later, TensorBoard if asked."""

from __future__ import annotations

import datetime
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from sam_core.config import ConfigError


class Messages:
    """One place for everything that a run says. Nothing here is needed for the run to go on.

    Args:
        quiet: say nothing on standard error.
        mute: nor anywhere else, as the processes of a team but the first.
    """

    def __init__(self, *, quiet: bool = False, mute: bool = False) -> None:
        self.quiet = quiet or mute
        self._mute = mute
        self._bar: tqdm | None = None
        self._task = ""
        self._log: TextIO | None = None
        self._before_log: list[str] = []
        self._tensorboard: Any = None

    def say(self, text: str) -> None:
        """One line for people, now and later."""
        self._write_log(text)
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def progress(self, task: str, done: int, total: int) -> None:
        """Show how far a task is; a new task replaces the bar of the last."""
        if self.quiet:
            return
        if self._bar is None or self._bar.total != total:
            self._close_bar()
            self._bar = tqdm(total=total, file=sys.stderr, leave=False, dynamic_ncols=True, disable=None, smoothing=0.1)
        if task != self._task:
            self._bar.set_description_str(task, refresh=False)
            self._task = task
        self._bar.update(done - self._bar.n)
        if done == total:
            self._close_bar()

    def epoch_line(self, entry: dict[str, Any], epochs: int) -> None:
        """One line that sums up an epoch."""
        parts = [f"epoch {entry['epoch']:>3} of {epochs}"]
        for name in ("classification", "attention"):
            if name in entry["train"]:
                parts.append(f"{name} loss {entry['train'][name]:.3f}")
        for name in ("train", "validation", "test", "swapped"):
            if "top1" in entry.get(name, {}):
                parts.append(f"{name} {entry[name]['top1']:.1f} %")
        self.say("  ".join([*parts, f"{entry['seconds']:.1f} s"]))
        for name in ("train", "validation", "test", "swapped"):
            if name in entry:
                self.scalars(name, entry["epoch"], entry[name])

    def open_log(self, path: Path) -> None:
        """From here on everything said also goes to the run's log."""
        if self._mute:
            return
        self._log = open(path, "a", encoding="utf-8")  # noqa: SIM115
        for line in self._before_log:
            self._log.write(line)
        self._before_log.clear()

    def log_traceback(self) -> None:
        """Put the error being handled into the log, for whoever looks closer."""
        self._write_log(traceback.format_exc())

    def open_tensorboard(self, folder: Path) -> None:
        """Also write TensorBoard event files."""
        if self._mute:
            return
        self._tensorboard = tensorboard_writer()(log_dir=str(folder))

    def scalars(self, group: str, step: int, values: dict[str, float]) -> None:
        """Hand numbers to TensorBoard, if it was asked for."""
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Take the bar away and close the files."""
        self._close_bar()
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None

    def _write_log(self, text: str) -> None:
        if self._mute:
            return
        line = f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S} {text}\n"
        try:
            if self._log is None:
                self._before_log.append(line)
            else:
                self._log.write(line)
                self._log.flush()
        except OSError:
            self._log = None  # a full disk must not hide the error that is being logged

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar, self._task = None, ""


def tensorboard_writer() -> Any:
    """PyTorch's event-file writer.

    Raises:
        ConfigError: if the package it needs is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("tensorboard", "needs the package: pip install tensorboard") from None
    return SummaryWriter
