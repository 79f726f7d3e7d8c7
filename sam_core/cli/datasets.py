"""`datasets`: what is available, where, how many images; and how to get what is not."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from sam_core.config import DEFAULT_DATA_ROOT


def add_parser(verbs: Any) -> argparse.ArgumentParser:
    """Describe the verb."""
    parser = verbs.add_parser(
        "datasets",
        help="the datasets that have a name",
        description="List the datasets that have a name, where they are or how to get them, and the folders of "
        "photographs under --data-root.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--data-root", type=Path, default=DEFAULT_DATA_ROOT, metavar="DIR", help="where datasets are kept"
    )
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """List and count; nothing is drawn, fetched or decoded."""
    from sam_core.datasets.catalog import DATASETS, named_folder
    from sam_core.training.messages import Messages

    data_root, messages = options.data_root.expanduser().resolve(), Messages()
    rows, named = [], set()
    try:
        for name, info in DATASETS.items():
            folder = named_folder(name, data_root)
            row = {"name": name, "description": f"{info.label}: {info.description}"}
            if name == "fieldguide":
                row |= _field_guide(data_root)
            elif folder is None:
                row |= {"state": "not here", "get": _command(name, data_root)}
            else:
                named.add(folder)
                row |= _opened(name, data_root, messages)
            rows.append(row)
        for folder in _folders(data_root):
            found = {} if folder in named else _opened(str(folder), data_root, messages)
            if found.get("state") == "here":  # what is no dataset was not asked for by name
                rows.append({"name": folder.name, "description": "a folder of photographs", **found})
    finally:
        messages.close()
    if not options.json:
        for row in rows:
            _print(row)
        print("Any folder or zip of photographs works too: --dataset PATH, arranged as PATH/CLASS/*.jpg")
    return {"datasets": rows}


def _folders(data_root: Path) -> list[Path]:
    """The folders under a data root that a person may have put there."""
    entries = sorted(data_root.iterdir()) if data_root.is_dir() else []
    return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(("fieldguide-", "."))]


def _field_guide(data_root: Path) -> dict[str, Any]:
    """The guide as it is drawn by default, without drawing it."""
    from sam_core.datasets.fieldguide import DEFAULT_HABITAT_BIAS, planned_fieldguide
    from sam_core.datasets.fieldguide.build import guide_folder

    folder = guide_folder(data_root, 0, DEFAULT_HABITAT_BIAS)
    state = "here" if folder.is_dir() else "drawn at its first use"
    return {"state": state, "path": str(folder), **_counts(planned_fieldguide()), "layout": "drawn by the program"}


def _opened(dataset: str, data_root: Path, messages: Any) -> dict[str, Any]:
    """A dataset that is there, or why it cannot be opened."""
    from sam_core.datasets.base import DatasetError
    from sam_core.datasets.catalog import open_dataset

    def opening(done: int, total: int) -> None:
        messages.progress(f"opening {Path(dataset).name}", done, total)

    try:
        opened = open_dataset(dataset, data_root=data_root, progress=opening)
    except DatasetError as error:
        return {"state": "cannot be used", "problem": str(error), "hint": error.hint}
    return {"state": "here", "path": str(opened.root), **_counts(opened)}


def _counts(dataset: Any) -> dict[str, Any]:
    images = {split: len(dataset.split(split)) for split in dataset.splits}
    return {"layout": dataset.layout, "classes": len(dataset.classes), "images": images}


def _command(name: str, data_root: Path) -> str:
    where = "" if data_root == DEFAULT_DATA_ROOT else f" --root {shlex.quote(str(data_root))}"
    return f"python -m sam_core data get {name}{where}"


def _print(row: dict[str, Any]) -> None:
    name, indent = f"{row['name']:16} ", " " * 17
    print(f"{name}{row['description']}")
    if "images" in row:
        counts = ", ".join(f"{count} {split}" for split, count in row["images"].items())
        print(f"{indent}{row['classes']} classes, {counts}; {row['layout']}")
        print(f"{indent}{row['path']}" + ("" if row["state"] == "here" else f" ({row['state']})"))
    elif "get" in row:
        print(f"{indent}{row['state']}; {row['get']}")
    else:
        print(f"{indent}{row['state']}: {row['problem']}")
