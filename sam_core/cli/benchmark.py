"""`benchmark`: the engine's figures on this machine, beside their budgets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_core.benchmark.rows import BUDGETS, PAIRS, Budget
from sam_core.config import DEVICES, ConfigError

EXAMPLES = """\
examples:
  python -m sam_core benchmark                          everything; about a quarter of an hour on two idle cores
  python -m sam_core benchmark --quick                  a rough first look, without the default run
  python -m sam_core benchmark --only timeline_ms recording_ratio
  python -m sam_core benchmark --save                   keep the figures in benchmarks/history.jsonl

Exit code 0: all was measured, whether or not every budget holds (--strict: 1 if one does not); 1: a row could not be
measured. Measure on an idle machine: ratios are robust against other work, times are not.
"""


def add_parser(verbs: Any) -> argparse.ArgumentParser:
    """Describe the verb."""
    parser = verbs.add_parser(
        "benchmark",
        usage="python -m sam_core benchmark [options]",
        help="measure this program's budgets on this machine",
        description=f"Measure what the methods, the input pipeline, the recording and the default run cost on this "
        f"machine.\n\n{rows_in_words()}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_options(parser, quick="a rough look: few pairs, and not the default run (unless --only names it)")
    parser.add_argument(
        "--pairs", type=int, metavar="N", help=f"interleaved pairs of every ratio ({PAIRS}; fewer is less certain)"
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="auto takes a GPU if there is one")
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, show, compare with earlier figures."""
    if options.pairs is not None and options.pairs < 2:
        raise ConfigError("pairs", f"must be at least 2, not {options.pairs}")
    rough = options.quick or (options.pairs or PAIRS) < PAIRS
    refuse_contradictions(options, rough=rough)

    from sam_core.benchmark.machine import describe_machine
    from sam_core.benchmark.suite import ROUGH_PAIRS, Effort, measure
    from sam_core.device import choose_machine

    machine = choose_machine(options.device)
    pairs = options.pairs or (ROUGH_PAIRS if options.quick else PAIRS)
    effort = Effort(machine, pairs=pairs, rough=options.quick)
    about = describe_machine(machine.device)
    return judge(options, about, measure(effort, options.only, say=say), rough=rough)


# --- What any such command shares: the explorer measures rows of its own ------------------------------------------


def rows_in_words(budgets: Mapping[str, Budget] = BUDGETS) -> str:
    """Every row with its budget, for a parser's description."""
    lines = [f"  {name:20} {_budget_in_words(budget):>22}   {budget.what}" for name, budget in budgets.items()]
    return "\n".join(["rows:", *lines]).replace("%", "%%")


def add_options(parser: argparse.ArgumentParser, *, quick: str) -> None:
    """The options of every benchmark; `quick` says what that one does."""
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="measure these rows only")
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--save", action="store_true", help="append the figures to the history")
    parser.add_argument("--history", type=Path, metavar="FILE", help="the history (benchmarks/history.jsonl)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a budget does not hold")


def refuse_contradictions(options: argparse.Namespace, *, rough: bool, budgets: Mapping[str, Budget] = BUDGETS) -> None:
    """Refuse rows that do not exist, and to keep figures that are only good for a first look.

    Raises:
        ConfigError: naming the option.
    """
    for name in options.only:
        if name not in budgets:
            raise ConfigError("only", f"there is no row {name!r}; use some of: {', '.join(budgets)}")
    if options.save and rough:
        raise ConfigError("save", f"keeps figures of at least {PAIRS} pairs; leave out what asks for fewer")


def judge(
    options: argparse.Namespace,
    machine: Mapping[str, Any],
    measured: Iterable[Mapping[str, Any]],
    *,
    rough: bool,
    budgets: Mapping[str, Budget] = BUDGETS,
) -> dict[str, Any]:
    """Show each row as soon as it is measured, then all of them, compare with earlier figures, and keep them if asked.

    Args:
        options: those of `add_options`, and `json`.
        machine: what `describe_machine` found before anything was measured.
        measured: the rows, measured while they are asked for.
        rough: whether the figures are only good for a first look.
        budgets: every row that there can be.

    Returns:
        The object that `--json` prints, with the `exit_code`.
    """
    from sam_core.benchmark import history
    from sam_core.benchmark.machine import in_words

    say(in_words(machine))
    rows = []
    for row in measured:
        say(f"  {table([row], budgets)}")
        rows.append(row)

    path = options.history or history.HISTORY
    worse = history.compare(machine, rows, history.load(path), budgets)
    if not options.json:
        print(table(rows, budgets))
    for line in _verdict(rows, worse):
        say(line)
    if options.save:
        history.save(machine, rows, path)
        say(f"saved to {path}")
    result: dict[str, Any] = {"machine": machine, "rows": rows, "worse_than_before": worse}
    if rough:
        result["rough"] = True
    unmeasured = any(row["value"] is None for row in rows)
    broken = any(row["holds"] is False for row in rows)
    return result | {"exit_code": int(unmeasured or (options.strict and broken))}


def table(rows: Sequence[Mapping[str, Any]], budgets: Mapping[str, Budget] = BUDGETS) -> str:
    """Name, value with its noise, budget, and whether it holds, in columns."""
    holds = {True: "holds", False: "DOES NOT HOLD", None: ""}
    lines = []
    for row in rows:
        value = "not measured" if row["value"] is None else f"{row['value']:.4g}"
        noise = f"+- {row['noise']:.2g}" if row.get("noise") else ""
        budget = _budget_in_words(budgets[row["name"]], row["budget"])
        verdict = holds[row["holds"]] if row["value"] is not None else "NOT MEASURED"
        lines.append(f"{row['name']:20} {value:>12} {noise:12} {budget:>9}  {verdict}".rstrip())
    return "\n".join(lines)


def _budget_in_words(budget: Budget, limit: float | None = None) -> str:
    sign = ">=" if budget.at_least else "<="
    if limit is not None:
        return f"{sign} {limit:g}"
    if budget.limit is None:
        return ""
    on_gpu = f" ({budget.limit_on_gpu:g} on a GPU)" if budget.limit_on_gpu is not None else ""
    return f"{sign} {budget.limit:g}{on_gpu}"


def _verdict(rows: Sequence[Mapping[str, Any]], worse: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a person should take away, a sentence each."""
    judged = [row for row in rows if row["holds"] is not None]
    broken = [row["name"] for row in judged if not row["holds"]]
    lines = [
        f"{len(judged) - len(broken)} of {len(judged)} budgets hold" + (f"; not: {', '.join(broken)}" if broken else "")
    ]
    for change in worse:
        lines.append(
            f"worse than on {change['date']} ({change['revision'] or 'no revision'}): {change['name']} was "
            f"{change['before']:g}, is {change['value']:g}, noise {change['noise']:g}"
        )
    return lines


def say(text: str) -> None:
    """One line for whoever waits."""
    print(text, file=sys.stderr, flush=True)
