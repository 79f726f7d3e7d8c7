"""The figures of earlier benchmarks, and which of today's are worse by more than their noise.

One JSON object a line: date, revision, machine, rows. Kept with the project, so that a change that costs time is seen
by whoever measures next on the same kind of machine.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_core.benchmark.machine import same_kind
from sam_core.benchmark.rows import BUDGETS, Budget
from sam_core.config import PROJECT_ROOT
from sam_core.recording.layout import dump_json

HISTORY = PROJECT_ROOT / "benchmarks" / "history.jsonl"
#: A difference counts from so many standard errors on: by chance alone about one row in 700 gets there.
ERRORS_APART = 3.0
#: And from this share on: less matters to nobody, and the noise itself is only an estimate.
SMALLEST_CHANGE = 0.02


def save(machine: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], path: Path = HISTORY) -> None:
    """Append these figures to the history. Nothing in them names a host, a person or a path."""
    about = {name: value for name, value in machine.items() if name != "revision"}
    figures = [{name: row[name] for name in ("name", "value", "noise")} for row in rows if row.get("value") is not None]
    now = datetime.datetime.now(datetime.UTC)
    entry = {"date": f"{now:%Y-%m-%d %H:%M}", "revision": machine.get("revision"), "machine": about, "rows": figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(dump_json(entry) + "\n")


def load(path: Path = HISTORY) -> list[dict[str, Any]]:
    """All saved entries, oldest first; a damaged line is passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and {"machine", "rows", "date"} <= entry.keys():
            entries.append(entry)
    return entries


def compare(
    machine: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    entries: Sequence[Mapping[str, Any]],
    budgets: Mapping[str, Budget] = BUDGETS,
) -> list[dict[str, Any]]:
    """The rows that are worse than when they were last saved on such a machine, by more than their noise.

    Worse means by more than three standard errors of the difference and by more than 2 % of the earlier value. The
    control row is not compared: it measures the machine's calm, not the program.
    """
    earlier: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for entry in entries:
        if same_kind(dict(entry["machine"]), dict(machine)):
            earlier |= {row["name"]: (row, entry) for row in entry["rows"]}
    worse = []
    for row in rows:
        name = row["name"]
        if row.get("value") is None or name not in earlier or budgets[name].limit is None:
            continue
        before, entry = earlier[name]
        change = row["value"] - before["value"]
        loss = -change if budgets[name].at_least else change
        noise = ERRORS_APART * math.hypot(row.get("noise", 0.0), before.get("noise", 0.0))
        if loss > max(noise, SMALLEST_CHANGE * abs(before["value"])):
            worse.append(
                {
                    "name": name,
                    "value": row["value"],
                    "before": before["value"],
                    "noise": round(noise, 4),
                    "date": entry["date"],
                    "revision": entry.get("revision"),
                }
            )
    return worse
