"""Command-line options made from the configuration's fields, so that neither can drift from the other."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam_core.config import DEFAULT_RUNS, PRESETS, RunConfig, build_config, options

_GROUPS = {
    "data": "data and labels",
    "model": "network",
    "attention": "attention loss",
    "training": "optimisation",
    "recording": "evaluation and recording",
    "machine": "machine",
}


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every verb has."""
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of standard output")
    parser.add_argument("--debug", action="store_true", help="show where in the program an error came from")


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Where run folders are."""
    parser.add_argument(
        "--runs", type=Path, default=DEFAULT_RUNS, metavar="DIR", help="folder of the run folders (checkpoints/runs)"
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """Every option of a run. What is not given is absent from the result, so the file and the preset show through."""
    parser.add_argument("--preset", choices=tuple(PRESETS), help="quick: the default run; paper: the released protocol")
    parser.add_argument("--config", type=Path, metavar="FILE.json", help="read options from a file; flags win over it")
    groups = {name: parser.add_argument_group(title) for name, title in _GROUPS.items()}
    for name, about in options().items():
        flag = "--" + name.replace("_", "-")
        text = _help(name, about)
        if about["type"] is bool:
            groups[about["group"]].add_argument(
                flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
            continue
        groups[about["group"]].add_argument(
            flag, type=_reader(str(about["type"])), default=argparse.SUPPRESS, help=text, metavar=_metavar(name, about)
        )


def given_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """The run options that were given on the command line."""
    return {name: getattr(parsed, name) for name in options() if hasattr(parsed, name)}


def config_from(parsed: argparse.Namespace) -> RunConfig:
    """The configuration that the command line, its file and its preset make together."""
    return build_config(given_options(parsed), file=parsed.config, preset=parsed.preset)


def _reader(kind: str) -> Any:
    if "tuple" in kind:
        return _numbers
    if "int" in kind:
        return _whole_number
    return float if "float" in kind else str


def _whole_number(text: str) -> int:
    return int(text)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(",") if part)


_whole_number.__name__ = "whole number"
_numbers.__name__ = "list of numbers"


_METAVARS = {
    "label_ratio": "PERCENT",
    "num_classes": "K",
    "validation": "FRACTION",
    "dataset": "NAME|PATH",
    "data_root": "DIR",
    "pseudo": "NAME",
}


def _metavar(name: str, about: Mapping[str, Any]) -> str:
    if about["choices"] and name not in _METAVARS:
        return "{" + ",".join(about["choices"]) + "}"
    return _METAVARS.get(name, "TEXT" if "str" in str(about["type"]) else "N")


def _help(name: str, about: Mapping[str, Any]) -> str:
    default = about["default"]
    shown = f" (default: {_plain(default)})" if isinstance(default, int | float | tuple | str) else ""
    if default is False or default == "" or "by default" in about["help"] or name == "data_root":
        shown = ""
    listed = f": {', '.join(about['choices'])}" if name == "pseudo" else ""
    return (about["help"] + listed + shown).replace("%", "%%")


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{part:g}" for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
