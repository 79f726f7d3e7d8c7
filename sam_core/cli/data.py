"""`data`: what is in a dataset, which images are labelled at a ratio, what is broken."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sam_core.cli.options import given_options
from sam_core.config import build_config

_OPTIONS = ("label_ratio", "num_classes", "validation", "split_seed", "habitat_bias")


def add_parser(verbs: Any) -> argparse.ArgumentParser:
    """Describe the verb."""
    parser = verbs.add_parser(
        "data",
        help="look into a dataset",
        description="Say what a dataset holds: its layout, classes and counts, the images labelled at this ratio, "
        "and the files that cannot be read. Broken files are reported; they do not make the command fail.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("dataset", metavar="NAME|PATH", help="a dataset's name, or a folder of photographs")
    parser.add_argument("--data-root", default=argparse.SUPPRESS, metavar="DIR", help="where named datasets are kept")
    parser.add_argument(
        "--label-ratio", type=float, default=argparse.SUPPRESS, metavar="PERCENT", help="percent labelled (10)"
    )
    parser.add_argument(
        "--num-classes", type=int, default=argparse.SUPPRESS, metavar="K", help="the first K classes only"
    )
    parser.add_argument("--split-seed", type=int, default=argparse.SUPPRESS, metavar="N", help="seed of the subset (0)")
    parser.add_argument("--list", action="store_true", help="also list the labelled images")
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Open, check every file, count."""
    config = build_config(given_options(options))

    from sam_core.datasets.base import Problem
    from sam_core.datasets.images import ImageError, read_image
    from sam_core.datasets.run_data import open_run_dataset
    from sam_core.training.messages import Messages

    messages = Messages(quiet=False)
    dataset, subset = open_run_dataset(config, messages.progress)

    def check(sample: Any) -> Problem | None:
        try:
            read_image(sample.path, at_least=64)
        except ImageError as error:
            return Problem("unreadable image", sample.id, str(error))
        return None

    problems = list(dataset.problems)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for done, problem in enumerate(pool.map(check, dataset.samples), start=1):
            problems += [problem] if problem else []
            messages.progress("checking images", done, len(dataset.samples))
    messages.close()

    result = _describe(dataset, subset, problems, config.label_ratio, options.list)
    if not options.json:
        _print(result)
    return result


def _describe(
    dataset: Any, subset: Any, problems: list[Any], label_ratio: float, list_labelled: bool
) -> dict[str, Any]:
    train = Counter(sample.label for sample in dataset.split("train"))
    test = Counter(sample.label for sample in dataset.split("test"))
    labelled = Counter(sample.label for sample in subset.labelled)
    grouped: dict[str, list[dict[str, str]]] = {}
    for problem in problems:
        grouped.setdefault(problem.kind, []).append({"path": problem.path, "detail": problem.detail})
    result = {
        "name": dataset.name,
        "path": str(dataset.root),
        "layout": dataset.layout,
        "classes": len(dataset.classes),
        "train": sum(train.values()),
        "test": sum(test.values()),
        "swapped": len(dataset.split("swapped")),
        "label_ratio": label_ratio,
        "labelled": sum(labelled.values()),
        "per_class": [
            {"class": name, "train": train[label], "labelled": labelled[label], "test": test[label]}
            for label, name in enumerate(dataset.classes)
        ],
        "problems": grouped,
    }
    if list_labelled:
        result["labelled_images"] = [sample.id for sample in subset.labelled]
    return result


def _print(result: dict[str, Any]) -> None:
    print(f"{result['name']}: {result['layout']}\n{result['path']}")
    print(f"{result['classes']} classes, {result['train']} training and {result['test']} test images")
    print(f"{result['labelled']} labelled at {result['label_ratio']:g} %\n")
    width = max(len(row["class"]) for row in result["per_class"])
    print(f"{'class':{width}}  train  labelled  test")
    for row in result["per_class"]:
        print(f"{row['class']:{width}}  {row['train']:5}  {row['labelled']:8}  {row['test']:4}")
    for name in result.get("labelled_images", ()):
        print(name)
    if not result["problems"]:
        print("\nno problems found")
    for kind, found in result["problems"].items():
        print(f"\n{kind}: {len(found)}", file=sys.stdout)
        for problem in found[:20]:
            print(f"  {problem['path']}: {problem['detail']}")
        if len(found) > 20:
            print(f"  and {len(found) - 20} more (--json lists all)")
