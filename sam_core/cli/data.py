"""`data`: what is in a dataset, which images are labelled at a ratio, what is broken or there twice."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from sam_core.cli import data_get
from sam_core.cli.options import given_options
from sam_core.config import CLASS_LEVELS, build_config

#: Of each kind of problem so many are printed; --json has all.
_SHOWN = 20


def add_parser(verbs: Any) -> argparse.ArgumentParser:
    """Describe the verb."""
    parser = verbs.add_parser(
        "data",
        help="look into a dataset",
        description="Say what a dataset holds: its layout, classes and counts, the images labelled at this ratio; "
        "and by content which files cannot be read or are cut off, and which pictures are there twice, or in training "
        "and in test. Problems are reported; they do not make the command fail. A file that has not changed since it "
        "was checked is not opened again.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("dataset", metavar="NAME|PATH", help="a dataset's name, or a folder or zip of photographs")
    parser.add_argument("--data-root", default=argparse.SUPPRESS, metavar="DIR", help="where named datasets are kept")
    parser.add_argument(
        "--label-ratio", type=float, default=argparse.SUPPRESS, metavar="PERCENT", help="percent labelled (10)"
    )
    parser.add_argument(
        "--num-classes", type=int, default=argparse.SUPPRESS, metavar="K", help="the first K classes only"
    )
    parser.add_argument(
        "--class-level",
        default=argparse.SUPPRESS,
        metavar="{" + ",".join(CLASS_LEVELS) + "}",
        help="aircraft only: what counts as a class (variant)",
    )
    parser.add_argument("--split-seed", type=int, default=argparse.SUPPRESS, metavar="N", help="seed of the subset (0)")
    parser.add_argument("--no-check", action="store_true", help="list only, and open no image")
    parser.add_argument("--list", action="store_true", help="also list the labelled images")
    data_get.add_to(parser)
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Open, check every file, count."""
    config = build_config(given_options(options))

    from sam_core.datasets.base import DatasetError, Problem
    from sam_core.datasets.cache import cache_folder
    from sam_core.datasets.checking import check_images
    from sam_core.datasets.run_data import choose_run_labels, open_whole_dataset
    from sam_core.training.messages import Messages

    messages = Messages(quiet=False)
    try:
        dataset = open_whole_dataset(config, messages.progress)
        problems = list(dataset.problems)
        try:
            subset = choose_run_labels(dataset, config)
        except DatasetError as error:
            # No run can use the data like this, but the person who looks into them wants to see what else there is.
            subset = None
            problems.append(Problem("no labelled subset", dataset.name, f"{error}; {error.hint}"))
        if not options.no_check:
            problems += check_images(
                dataset,
                cache_root=cache_folder(Path(config.data_root)),
                progress=lambda done, total: messages.progress("checking images", done, total),
            )
    finally:
        messages.close()

    result = _describe(dataset, subset, problems, config.label_ratio)
    result["checked"] = not options.no_check
    if options.list:
        result["labelled_images"] = [sample.id for sample in subset.labelled] if subset else []
    if not options.json:
        _print(result)
    return result


def _describe(dataset: Any, subset: Any, problems: list[Any], label_ratio: float) -> dict[str, Any]:
    train = Counter(sample.label for sample in dataset.split("train"))
    test = Counter(sample.label for sample in dataset.split("test"))
    labelled = Counter(sample.label for sample in subset.labelled) if subset else Counter()
    grouped: dict[str, list[dict[str, str]]] = {}
    for problem in problems:
        grouped.setdefault(problem.kind, []).append({"path": problem.path, "detail": problem.detail})
    return {
        "name": dataset.name,
        "path": str(dataset.root),
        "layout": dataset.layout,
        "classes": len(dataset.classes),
        "train": train.total(),
        "test": test.total(),
        "swapped": len(dataset.split("swapped")),
        "label_ratio": label_ratio,
        "labelled": labelled.total(),
        "labelled_by": subset.source if subset else None,
        "per_class": [
            {"class": name, "train": train[label], "labelled": labelled[label], "test": test[label]}
            for label, name in enumerate(dataset.classes)
        ],
        "problems": grouped,
    }


def _print(result: dict[str, Any]) -> None:
    print(f"{result['name']}: {result['layout']}\n{result['path']}")
    print(f"{result['classes']} classes, {result['train']} training and {result['test']} test images")
    if result["labelled_by"]:
        print(f"{result['labelled']} labelled at {result['label_ratio']:g} %, by the {result['labelled_by']}")
    width = max(len("class"), *(len(row["class"]) for row in result["per_class"]))
    print(f"\n{'class':{width}}  train  labelled  test")
    for row in result["per_class"]:
        print(f"{row['class']:{width}}  {row['train']:5}  {row['labelled']:8}  {row['test']:4}")
    for name in result.get("labelled_images", ()):
        print(name)
    for kind, found in result["problems"].items():
        print(f"\n{kind}: {len(found)}")
        for problem in found[:_SHOWN]:
            print(f"  {problem['path']}: {problem['detail']}")
        if len(found) > _SHOWN:
            print(f"  and {len(found) - _SHOWN} more (--json lists all)")
    if not result["checked"]:
        print("\nthe images themselves were not checked")
    elif not result["problems"]:
        print("\nno problems found")
