"""What a person waits for who opens the explorer over a thousand runs: the list, and the newest run's first image."""

from __future__ import annotations

import contextlib
import gzip
import json
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from explorer.benchmark.made_up import Photographs, write_recorded_run, write_runs
from explorer.benchmark.server import RunningServer, ServerError, Visitor, running_server
from sam_core.benchmark.rounds import median
from sam_core.benchmark.rows import Figure
from sam_core.recording.reader import Run

#: Images and epochs of the newest run, which alone has recorded maps: those of the default run.
IMAGES, EPOCHS = 440, 12


def measure_many_runs(*, servers: int, runs: int = 1000) -> Figure:
    """Seconds from the first request for the list to the newest run's first image: the median of some new servers.

    Asked one after the other, over one connection, as the page asks: the whole list and the newest run's curves, the
    run's images, all epochs of its first test image, and that image's photograph. The server has just come up and
    knows nothing yet, and what it does ahead for the first run may still be going on beside; the folders' files are
    in the system's memory, where writing them has put them.
    """
    with tempfile.TemporaryDirectory(prefix="sam-benchmark-") as folder:
        place = Path(folder)
        photographs = Photographs(place / "photographs")
        write_runs(place / "runs", runs - 1)
        newest = Run(write_recorded_run(place / "runs", photographs, epochs=EPOCHS, images=IMAGES))
        steps = []
        for _ in range(servers):
            with running_server(place / "runs", data_root=photographs.folder) as server:
                steps.append(_first_view(server, newest, runs))
    figure = median([sum(seconds.values()) for seconds in steps])
    details = {"servers": servers, "runs": runs, "images": IMAGES, "epochs": EPOCHS + 1}
    for name in steps[0]:
        details[f"{name}_ms"] = round(1000 * statistics.median(seconds[name] for seconds in steps), 1)
    return Figure(figure.value, figure.noise, details)


def _first_view(server: RunningServer, newest: Run, runs: int) -> dict[str, float]:
    """The seconds of each request."""
    row = next(row for row, sample in enumerate(newest.samples) if sample["split"] == "test")
    image = quote(newest.samples[row]["id"], safe="")
    requests = {
        "list": f"/explorer/pulse?list=0&run={newest.id}",
        "samples": f"/explorer/runs/{newest.id}/samples",
        "timeline": f"/explorer/runs/{newest.id}/timeline?image={image}",
        "view": f"/explorer/runs/{newest.id}/view/{row}",
    }
    seconds, answers = {}, {}
    with contextlib.closing(Visitor(server.address)) as visitor:
        for name, path in requests.items():
            started = time.perf_counter()
            answers[name] = visitor.get(path)
            seconds[name] = time.perf_counter() - started
    listed = json.loads(gzip.decompress(answers["list"]))["list"]["runs"]
    if len(listed) < runs:
        raise ServerError(f"the list has {len(listed)} runs, there are {runs}")
    return seconds
