"""The verbs of the command line, and how every one of them ends.

Exit codes: 0 done; 1 failed; 2 wrong usage; 130 interrupted, with the run resumable. A failure is one sentence and a
hint on standard error; `--debug` adds where in the program it came from.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from sam_core.cli import attend, benchmark, data, datasets, evaluate, sweep, train
from sam_core.cli.options import add_common
from sam_core.config import ConfigError
from sam_core.process import follows, started_together

VERBS = (train, evaluate, attend, sweep, datasets, data, benchmark)

INTERRUPTED = 130

DESCRIPTION = """\
Train with the Self-Boosting Attention Mechanism (SAM) on few labels per class, and record for every image and every
epoch where CAM, Grad-CAM and the learned attention look."""

EXAMPLES = """\
examples:
  python -m sam_core train                                        the default run: drawn birds, 10 % labels, 2 minutes
  python -m sam_core train --dataset photos/ --label-ratio 10     your own photographs, in photos/CLASS/*.jpg
  python -m sam_core train --resume RUN                           go on with a run that was stopped or killed
  python -m sam_core evaluate RUN --attention                     accuracy, and how the maps agree and point
  python -m sam_core attend RUN bird.jpg --out overlays/          where the network looks in any photograph
  python -m sam_core sweep --vary method=finetune,sam --seeds 3   compare, with a spread over seeds
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="python -m sam_core",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for module in VERBS:
        add_common(module.add_parser(verbs))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Of several processes that torchrun has started, the first says what all have to say.
    """
    options = argparse.Namespace(debug=False)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere if follows() else sys.stderr):
            build_parser().parse_args(arguments, options)
        if started_together() and options.verb != train.VERB:
            raise ConfigError(options.verb, f"one process does this; leave out torchrun, which is for {train.VERB}")
        result: dict[str, Any] = options.run(options)
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except Exception as error:  # every failure ends the same way; what kind it was decides the exit code
        if options.debug:
            traceback.print_exc()
        if not _is_said_elsewhere(error):
            _say(f"error: {_sentence(error)}")
            hint = getattr(error, "hint", "")
            if hint:
                _say(f"hint: {hint}")
        return 2 if isinstance(error, ConfigError) else 1
    exit_code = int(result.pop("exit_code", 0))
    if options.json:
        from sam_core.recording.layout import dump_json

        print(dump_json(result), flush=True)
    return exit_code


def _is_said_elsewhere(error: Exception) -> bool:
    """Whether another process says it: one that has heard of it, or comes to the same by itself."""
    return follows() and (isinstance(error, ConfigError) or getattr(error, "said_elsewhere", False))


def _sentence(error: Exception) -> str:
    text = str(error) or type(error).__name__
    known = isinstance(error, ConfigError) or hasattr(error, "hint")
    return text if known else f"{type(error).__name__}: {text} (--debug shows where)"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
