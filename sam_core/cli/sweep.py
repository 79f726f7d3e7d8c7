"""`sweep`: many runs, every combination of some options over seeds, and a table of what came out."""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_core.cli.options import add_config, add_runs, given_options
from sam_core.config import ConfigError, known_options, options

DESCRIPTION = """\
Train every combination of the varied options, each in a process and a run folder of its own, and sum up over seeds.
The first seed of every combination comes before the second of any.

What is there already is not trained again: a finished run of the same configuration is reused, one that was stopped,
cut or failed is resumed, one that another process is training is left alone. So the same command, given again, goes on
where it was interrupted, tries again what failed, and with more seeds trains only the new ones. The baseline finetune
does not use the options of the attention: rows that differ in nothing else share its runs."""

EXAMPLES = """\
examples:
  python -m sam_core sweep --vary method=finetune,sam --seeds 3
  python -m sam_core sweep --vary label-ratio=5,10,30 --vary method=finetune,sam --seeds 5 --csv results.csv
  python -m sam_core sweep --vary temperature=0.2,0.4 --vary seed=0,1,2 --validation 0.1
  python -m sam_core sweep --vary num-classes=5,none --method sam --dry-run
"""


def add_parser(verbs: Any) -> argparse.ArgumentParser:
    """Describe the verb."""
    parser = verbs.add_parser(
        "sweep",
        usage="python -m sam_core sweep --vary NAME=VALUE,VALUE,... [--vary ...] [--seeds N] [any option of train]",
        help="train every combination of some options over seeds, and compare",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="an option of train and its values, separated by commas (the parts of a list by colons; "
        "none: not set); may be given several times",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train with the seeds 0 to N-1: sets both --seed and --split-seed, so that the spread includes which "
        "images are labelled; a --split-seed that is given stays as it is",
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="where the table of all runs goes, and beside it FILE-summary.csv "
        "(RUNS/sweep-HASH.csv, the hash of what is varied)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the runs, and what is there of them; train nothing"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="train so many runs at a time (one on each GPU that CUDA_VISIBLE_DEVICES leaves; one on a CPU)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    add_runs(parser)
    add_config(parser)
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Plan, train, and sum up."""
    vary = read_vary(options.vary)

    from sam_core.device import visible_gpus
    from sam_core.training import sweep

    jobs = sweep.plan_sweep(
        vary, seeds=options.seeds, flags=given_options(options), file=options.config, preset=options.preset
    )
    say = _silent if options.quiet else _say
    places = [sweep.HERE] if options.dry_run else sweep.places_for(jobs, options.jobs, visible_gpus())
    plan = sweep.Sweep(jobs, options.runs, say=say, quiet=options.quiet, places=places)
    if options.dry_run:
        return _preview(plan)
    sweep.refuse_unavailable(jobs)
    path = _csv_path(options.csv, plan)
    if plan.distinct < len(jobs):
        say(
            f"{len(jobs)} combinations come to {plan.distinct} runs: those that would train the same share one "
            "(finetune uses no option of the attention)"
        )

    if len(places) > 1:
        say(f"{len(places)} runs at a time")
    results = plan.execute()
    runs = sweep.list_runs(results)
    table = sweep.tabulate(runs)
    print(format_table(table))
    path.write_text(runs_as_csv(runs), encoding="utf-8", newline="")
    summary_path = path.with_name(f"{path.stem}-summary.csv")
    summary_path.write_text(table_as_csv(table), encoding="utf-8", newline="")
    say(f"every run: {path}\nthis table: {summary_path}")
    _report(results, interrupted=plan.interrupted)
    failed = any(outcome.state == "failed" for _, outcome in results)
    return {
        "runs": runs,
        "table": table,
        "csv": str(path),
        "summary_csv": str(summary_path),
        "exit_code": 130 if plan.interrupted else 1 if failed else 0,
    }


# --- what is asked for ----------------------------------------------------------------------------------------------


def read_vary(texts: Sequence[str]) -> dict[str, list[Any]]:
    """`["label-ratio=5,10", ...]` as option -> values of the option's type.

    Raises:
        ConfigError: naming the option that is unknown, given twice, or has a value of another type.
    """
    about = options()
    vary: dict[str, list[Any]] = {}
    for text in texts:
        given, equals, values = text.partition("=")
        if not equals or not given:
            raise ConfigError("vary", f"must be NAME=VALUE,VALUE,..., not {text!r}")
        (name,) = known_options({given.strip(): None})
        if name in vary:
            raise ConfigError(name, "is varied twice; give all its values in one --vary")
        vary[name] = [_value(name, part.strip(), str(about[name]["type"])) for part in values.split(",")]
    return vary


def _value(name: str, text: str, kind: str) -> Any:
    if not text:
        raise ConfigError(name, "has an empty value; separate values by single commas")
    if "None" in kind and text.lower() == "none":
        return None
    try:
        if "tuple" in kind:
            return tuple(float(part) for part in text.split(":"))
        if "bool" in kind:
            return {"true": True, "false": False}[text.lower()]
        if "int" in kind:
            return int(text)
        return float(text) if "float" in kind else text
    except (ValueError, KeyError):
        wanted = (
            "numbers separated by colons" if "tuple" in kind
            else "true or false" if "bool" in kind
            else "a whole number" if "int" in kind
            else "a number"
        )  # fmt: skip
        raise ConfigError(name, f"must be {wanted}, not {text!r}") from None


def _csv_path(given: Path | None, plan: Any) -> Path:
    """Where the table goes. A folder that cannot be written is known now, not after a night of training."""
    wanted = "\n".join(sorted(f"{job} {job.identity}" for job in plan.jobs))
    path = given or plan.runs / f"sweep-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}.csv"
    path = path.expanduser().absolute()
    if path.is_dir():
        raise ConfigError("csv", f"{path} is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise ConfigError("csv", f"cannot write {path}: {error.strerror}") from error
    return path


# --- what is said ---------------------------------------------------------------------------------------------------


def _preview(plan: Any) -> dict[str, Any]:
    """`--dry-run`: every run, and what is there of it."""
    words = {"to train": "to be trained", "to resume": "to be resumed", "reused": "finished", "left alone": "running"}
    runs = []
    for place, (job, outcome) in enumerate(plan.preview(), start=1):
        where = f", {outcome.run.id}" if outcome.run else ""
        print(f"{place:4} of {len(plan.jobs)}  {job}  {words.get(outcome.how, 'shared with a row above')}{where}")
        runs.append(
            {
                "options": dict(job.options),
                "seed": job.config.seed,
                "split_seed": job.config.split_seed,
                "run": str(outcome.run.folder) if outcome.run else None,
                "state": outcome.state,
                "how": outcome.how,
            }
        )
    counts = {how: sum(entry["how"] == how for entry in runs) for how in words}
    print(", ".join(f"{count} {words[how]}" for how, count in counts.items() if count))
    return {"runs": runs, "table": [], "csv": None}


def _report(results: Sequence[tuple[Any, Any]], *, interrupted: bool) -> None:
    """After the table: what is missing from it, and how to get it."""
    # By run, not by row: a baseline that failed is one failure, however many rows share it.
    by_run = {job.identity: (job, outcome) for job, outcome in reversed(results)}
    of_state: dict[str, list[tuple[Any, Any]]] = {}
    for job, outcome in reversed(by_run.values()):
        of_state.setdefault(outcome.state, []).append((job, outcome))
    if busy := of_state.get("busy"):
        _say(
            f"{len(busy)} of {len(by_run)} runs: another process is training them; the same command takes them in later"
        )
    if interrupted:
        done = len(of_state.get("finished", ()))
        _say(f"interrupted with {done} of {len(by_run)} runs finished; the same command goes on")
    elif stopped := of_state.get("stopped"):
        _say(f"{len(stopped)} of {len(by_run)} runs were stopped from outside; the same command goes on with them")
    if failed := of_state.get("failed"):
        job, outcome = failed[0]
        first = "first, " if len(failed) > 1 else ""
        _say(
            f"error: {len(failed)} of {len(by_run)} runs failed ({first}{job}: {outcome.error}); "
            "the same command tries again"
        )


def format_table(table: Sequence[Mapping[str, Any]]) -> str:
    """The rows as aligned plain text; a figure that no run has gets no column."""
    from sam_core.training.sweep import FIGURES, plain

    names = list(table[0]["options"])
    present = [name for name in FIGURES if any(row["figures"][name] for row in table)]
    lines = [[*names, "runs", *(FIGURES[name].label for name in present)]]
    for row in table:
        count = f"{row['runs']}" if row["runs"] == row["planned"] else f"{row['runs']} of {row['planned']}"
        figures = [_with_spread(row["figures"][name], FIGURES[name].decimals) for name in present]
        lines.append([*(plain(row["options"][name]) for name in names), count, *figures])
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    aligned = [
        "  ".join(
            cell.ljust(width) if place < len(names) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    aligned.insert(1, "  ".join("-" * width for width in widths))
    if not present:
        return "\n".join([*aligned, "no run has finished yet"])
    note = "last epoch: mean ± standard deviation (n - 1) over the runs; accuracy in percent"
    if any(name.endswith("inside") for name in present):
        note += "; inside: share of the map on the object, test images"
    return "\n".join([*aligned, note])


def _with_spread(figure: Mapping[str, Any] | None, decimals: int) -> str:
    if figure is None:
        return "-"
    spread = "-" if figure["sd"] is None else f"{figure['sd']:.{decimals}f}"
    return f"{figure['mean']:.{decimals}f} ± {spread}"


def runs_as_csv(runs: Sequence[Mapping[str, Any]]) -> str:
    """One line per combination and seed."""
    from sam_core.training.sweep import FIGURES, plain

    names = list(runs[0]["options"])
    rows = [
        [
            *(plain(entry["options"][name]) for name in names),
            entry["seed"], entry["split_seed"],
            Path(entry["run"]).name if entry["run"] else "", entry["state"], entry["how"],
            *(entry["figures"][name] for name in FIGURES),
            entry["error"] or "",
        ]
        for entry in runs
    ]  # fmt: skip
    return _as_csv([*names, "seed", "split_seed", "run", "state", "how", *FIGURES, "error"], rows)


def table_as_csv(table: Sequence[Mapping[str, Any]]) -> str:
    """One line per row of the table, mean and standard deviation in columns of their own."""
    from sam_core.training.sweep import FIGURES, plain

    names = list(table[0]["options"])
    header = [*names, "runs", *(f"{name}_{part}" for name in FIGURES for part in ("mean", "sd"))]
    rows = [
        [
            *(plain(row["options"][name]) for name in names),
            row["runs"],
            *((row["figures"][name] or {}).get(part) for name in FIGURES for part in ("mean", "sd")),
        ]
        for row in table
    ]
    return _as_csv(header, rows)


def _as_csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    """Progress that nobody asked for."""
