"""`datasets`: what is available, where, how many images."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from sam_core.config import DEFAULT_DATA_ROOT


def add_parser(verbs: Any) -> argparse.ArgumentParser:
    """Describe the verb."""
    parser = verbs.add_parser(
        "datasets",
        help="the datasets that have a name",
        description="List the datasets that have a name, and the folders of photographs under --data-root.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--data-root", type=Path, default=DEFAULT_DATA_ROOT, metavar="DIR", help="where datasets are kept"
    )
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """List and count."""
    from sam_core.datasets.base import DatasetError
    from sam_core.datasets.catalog import DATASETS, open_dataset
    from sam_core.training.messages import Messages

    rows, messages = [], Messages()
    for name, info in DATASETS.items():
        drawing = partial(messages.progress, f"drawing {name}")
        dataset = open_dataset(name, data_root=options.data_root, progress=drawing)
        rows.append(_row(name, info.description, dataset))
    folders = sorted(options.data_root.iterdir()) if options.data_root.is_dir() else []
    for folder in folders:
        if not folder.is_dir() or folder.name.startswith(("fieldguide-", ".")):
            continue
        try:
            rows.append(
                _row(folder.name, "a folder of photographs", open_dataset(str(folder), data_root=options.data_root))
            )
        except DatasetError:
            continue  # not a dataset, and nobody asked for it by name
    if not options.json:
        for row in rows:
            counts = ", ".join(f"{count} {split}" for split, count in row["images"].items())
            print(f"{row['name']:16} {row['classes']:4} classes  {counts}")
            print(f"{'':16} {row['description']}\n{'':16} {row['path']}")
        print("Any folder of photographs works too: --dataset PATH, arranged as PATH/CLASS/*.jpg")
    return {"datasets": rows}


def _row(name: str, description: str, dataset: Any) -> dict[str, Any]:
    images = {split: len(dataset.split(split)) for split in dataset.splits}
    return {
        "name": name,
        "description": description,
        "path": str(dataset.root),
        "classes": len(dataset.classes),
        "images": images,
    }
