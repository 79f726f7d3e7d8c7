"""Whether a run that suffered is the run that nothing happened to, and what of it is to be seen on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sam_core.recording import layout
from sam_core.recording.reader import Run
from tests.faults.examination import Findings

ARRAYS = (*layout.MAP_KINDS, "predicted", "confidence", "epochs")


def assert_same_run(folder: Path, whole: Path) -> None:
    """Weights, curves and every recorded map are equal, bit for bit; nothing else lies about."""
    assert (folder / layout.MODEL).read_bytes() == (whole / layout.MODEL).read_bytes()
    for name in (layout.CLASSES, layout.SAMPLES, layout.CONFIG):
        assert json.loads((folder / name).read_bytes()) == json.loads((whole / name).read_bytes()), name
    for kind in ARRAYS:
        assert layout.map_file(folder, kind).read_bytes() == layout.map_file(whole, kind).read_bytes(), kind
    assert without_time(Run(folder).metrics()) == without_time(Run(whole).metrics())
    assert Run(folder).status["state"] == "finished"
    assert sorted(path.name for path in folder.rglob("*")) == sorted(path.name for path in whole.rglob("*"))


def without_time(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in entries]


def assert_part_of(findings: Findings, whole: Path, image: str) -> int:
    """What a reader saw of a run that was cut is what the whole run has at the same epochs.

    Returns:
        How many epochs could be seen.
    """
    timeline = findings.answers.get("timeline")
    if timeline is None:
        return 0
    expected, count = Run(whole).timeline(image), len(timeline["epochs"])
    for name, values in timeline.items():
        np.testing.assert_array_equal(values, expected[name][:count], err_msg=name)
    return count
