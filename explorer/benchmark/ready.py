"""How long a person waits for the explorer: from its start to its page."""

from __future__ import annotations

import tempfile
from pathlib import Path

from explorer.benchmark.server import running_server
from sam_core.benchmark.rounds import median
from sam_core.benchmark.rows import Figure


def measure_ready(*, starts: int) -> Figure:
    """Seconds from the start of a process until its page is there: the median of some starts.

    One start comes before them and is not counted: it compiles the program's files and brings them and the packages'
    into the system's memory.
    """
    with tempfile.TemporaryDirectory(prefix="sam-benchmark-") as place:
        seconds = [_start(Path(place)) for _ in range(1 + starts)]
    figure = median(seconds[1:])
    return Figure(figure.value, figure.noise, {"starts": starts, "before_them_s": round(seconds[0], 2)})


def _start(runs: Path) -> float:
    with running_server(runs) as server:
        return server.ready_s
