"""`python -m explorer benchmark`: the explorer's figures on this machine, beside their budgets."""

from __future__ import annotations

import argparse
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from explorer.benchmark.rows import BUDGETS
from sam_core.cli.benchmark import add_options, judge, refuse_contradictions, rows_in_words, say
from sam_core.cli.options import add_common
from sam_core.config import ConfigError

INTERRUPTED = 130
#: What the explorer's figures depend on, beside the engine's packages.
PACKAGES = ("gradio", "fastapi", "uvicorn")

EXAMPLES = """\
examples:
  python -m explorer benchmark                          everything; about ten minutes on two idle cores
  python -m explorer benchmark --quick                  a rough first look, about two minutes
  python -m explorer benchmark --only slider_work_ms runs_1000_s
  python -m explorer benchmark --save                   keep the figures in benchmarks/history.jsonl

Exit code 0: all was measured, whether or not every budget holds (--strict: 1 if one does not); 1: a row could not be
measured. Measure on an idle machine: ratios are robust against other work, times are not.
"""


def build_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m explorer benchmark",
        description="Measure what the server, the page and its viewers cost on this machine.\n\n"
        + rows_in_words(BUDGETS),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser, quick="a rough look: fewer starts, moves and pairs")
    add_common(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    options = build_parser().parse_args(arguments)
    try:
        with _interrupted_by_sigterm():
            result = _run(options)
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except Exception as error:  # every failure ends the same way; what kind it was decides the exit code
        if options.debug:
            traceback.print_exc()
        say(f"error: {error}")
        return 2 if isinstance(error, ConfigError) else 1
    exit_code = int(result.pop("exit_code"))
    if options.json:
        from sam_core.recording.layout import dump_json

        print(dump_json(result), flush=True)
    return exit_code


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Take a request to end as Ctrl-C: servers, a run and a browser were started, and none of them may stay behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    refuse_contradictions(options, rough=options.quick, budgets=BUDGETS)

    import torch

    from explorer.benchmark import suite
    from sam_core.benchmark.machine import describe_machine
    from sam_core.benchmark.rows import PAIRS
    from sam_core.benchmark.suite import ROUGH_PAIRS, Effort, measure
    from sam_core.device import Machine

    # The budget's machine has no GPU, and what viewers take from a training step they take from the processor.
    machine = Machine(torch.device("cpu"), bfloat16=False)
    effort = Effort(machine, pairs=ROUGH_PAIRS if options.quick else PAIRS, rough=options.quick)
    about = describe_machine(machine.device)
    about["packages"] |= {name: metadata.version(name) for name in PACKAGES}
    rows = measure(effort, options.only, say=say, measurements=suite.MEASUREMENTS, budgets=BUDGETS)
    return judge(options, about, rows, rough=options.quick, budgets=BUDGETS)
