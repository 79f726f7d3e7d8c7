"""What is done ahead while nobody waits: the field guide drawn, this machine's speed known."""

from __future__ import annotations

import contextlib

from explorer.context import Explorer
from explorer.data.shelf import Selection
from sam_core.config import RunConfig
from sam_core.datasets.base import DatasetError


def warm_up(explorer: Explorer) -> None:
    """Draw the default dataset once, so that a class does not wait for it at the first run. Failures show there."""
    with contextlib.suppress(DatasetError, OSError):
        explorer.shelf.open(Selection("fieldguide"))
    with contextlib.suppress(DatasetError):
        explorer.forecaster.outlook(RunConfig())
