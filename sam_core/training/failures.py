"""What went wrong with a run, in a sentence that says what to do."""

from __future__ import annotations

import errno
from typing import Any

import torch

from sam_core.datasets.base import DatasetError
from sam_core.recording.writer import RunError


class TrainingError(RuntimeError):
    """A run that failed: `kind` for programs, the message and `hint` for people."""

    def __init__(self, kind: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.hint = hint

    def as_json(self) -> dict[str, Any]:
        """The error as status.json has it."""
        return {"type": self.kind, "message": str(self), "hint": self.hint}


def explain(error: BaseException) -> TrainingError:
    """The error as a person needs it; one that nobody foresaw keeps its own message."""
    if isinstance(error, TrainingError):
        return error
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        hint = "lower --batch-size or --image-size, or take a smaller --backbone; then --resume"
        return TrainingError("out of memory", "the device has not enough memory for this run", hint)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        message = f"the disk is full, or a size limit is reached ({error.strerror})"
        return TrainingError("disk full", message, "free some space, then --resume; what was recorded is kept")
    if isinstance(error, DatasetError | RunError):
        return TrainingError(type(error).__name__, str(error), error.hint)
    if isinstance(error, FileNotFoundError):
        message = f"a file is gone: {error.filename or error}"
        return TrainingError("file gone", message, "bring the dataset or the run folder back, then --resume")
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        hint = "start again without --compile; compiling needs a C++ compiler on this machine, and on a GPU Triton"
        return TrainingError("not compiled", f"torch.compile cannot compile the backbone: {_first_line(error)}", hint)
    message = f"{type(error).__name__}: {_first_line(error)}"
    return TrainingError(type(error).__name__, message, "log.txt in the run folder has the details")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no further word")
