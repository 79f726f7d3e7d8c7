"""Train with the Self-Boosting Attention Mechanism on few labels, and record where the network looks.

import sam_core

run = sam_core.train(sam_core.RunConfig(dataset="fieldguide", label_ratio=10, method="sam"))
run.timeline(run.samples[0]["id"])["learned"]  # (epochs, H, W)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam_core.config import ConfigError, RunConfig, build_config
    from sam_core.recording.reader import Run, open_run
    from sam_core.recording.writer import RunError
    from sam_core.training.failures import TrainingError
    from sam_core.training.lifecycle import train

__version__ = "0.1.0"

__all__ = ["ConfigError", "Run", "RunConfig", "RunError", "TrainingError", "build_config", "open_run", "train"]

_PLACES = {
    "ConfigError": "config",
    "RunConfig": "config",
    "build_config": "config",
    "Run": "recording.reader",
    "open_run": "recording.reader",
    "RunError": "recording.writer",
    "TrainingError": "training.failures",
    "train": "training.lifecycle",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import sam_core` alone must not take the seconds that torch takes."""
    if name not in _PLACES:
        raise AttributeError(f"module 'sam_core' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"sam_core.{_PLACES[name]}"), name)
