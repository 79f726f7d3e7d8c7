"""`train`: one run, from start to end or from where it was stopped."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sam_core.cli.options import add_config, add_runs, config_from, given_options
from sam_core.config import ConfigError, RunConfig
from sam_core.process import follows, is_restarted_after_errors

VERB = "train"

EXAMPLES = """\
examples:
  python -m sam_core train                                            drawn birds, 10 % labels, sam
  python -m sam_core train --dataset photos/ --label-ratio 10 --method sam-bilinear
  python -m sam_core train --preset paper --dataset photos/           the released protocol (needs a GPU's patience)
  python -m sam_core train --resume 20261124-101502-fieldguide-10pct-sam-3f2a
  torchrun --standalone --nproc-per-node=8 -m sam_core train --preset paper --dataset photos/       on 8 GPUs, one run
"""


def add_parser(verbs: Any) -> argparse.ArgumentParser:
    """Describe the verb."""
    parser = verbs.add_parser(
        VERB,
        usage="python -m sam_core train [options]",
        help="train and record one run",
        description="Train one run and record the attention of every labelled and test image at every epoch. "
        "Ctrl-C stops after the step at hand and leaves a run that --resume goes on with. Started by torchrun, the "
        "processes share each batch of --batch-size images, and the run is the same as by one of them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--resume", metavar="RUN", help="go on with this run (path, or id under --runs)")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    add_runs(parser)
    add_config(parser)
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train and sum up; of several processes the first one sums up."""
    if options.resume and (given_options(options) or options.preset or options.config):
        given = ", ".join(f"--{name.replace('_', '-')}" for name in given_options(options)) or "--preset or --config"
        raise ConfigError("resume", f"a run goes on with its own configuration; leave out {given}")
    config = None if options.resume else config_from(options)

    with _drawing_meanwhile(config):
        from sam_core.training.lifecycle import train

    finished = train(config, runs=options.runs, resume=options.resume, quiet=options.quiet)
    if follows():
        options.json = False
        return {}
    summary = summarise(finished)
    if not options.quiet:
        print(_sentence(summary), file=sys.stderr)
    # torchrun would start a run again that ends in any other way, and who stopped it did not mean that.
    interrupted = summary["state"] == "stopped" and not is_restarted_after_errors()
    return summary | {"exit_code": 130 if interrupted else 0}


@contextmanager
def _drawing_meanwhile(config: RunConfig | None) -> Iterator[None]:
    """Draw the field guide, if it is what the run needs, in its own processes while this one imports torch.

    What goes wrong here is not reported: it goes wrong again, with its sentence, when the run opens its data.
    """
    if config is None or config.dataset != "fieldguide" or follows():
        yield
        return
    from sam_core.datasets.catalog import open_dataset

    with ThreadPoolExecutor(1) as pool:
        pool.submit(open_dataset, config.dataset, data_root=Path(config.data_root), habitat_bias=config.habitat_bias)
        yield


def summarise(run: Any) -> dict[str, Any]:
    """A run in one object: what became of it, with the accuracy of its last epoch."""
    status, epochs = run.status, run.metrics("epoch")
    measured = [entry for entry in epochs if "test" in entry]
    summary = {
        "run": str(run.folder),
        "state": status["state"],
        "method": run.config.method,
        "epochs": status["epoch"],
        "labelled": sum(sample["labelled"] for sample in run.samples) if run.has_samples else None,
        "test": None,
        "seconds": round(sum(entry["seconds"] for entry in epochs), 1),
    }
    if measured:
        summary["test"] = measured[-1]["test"]
        summary["swapped"] = measured[-1].get("swapped")
        summary["attention"] = measured[-1]["attention"]
        validated = [entry for entry in measured if "validation" in entry]
        if validated:
            best = max(validated, key=lambda entry: entry["validation"]["top1"])
            summary["best_by_validation"] = {name: best[name] for name in ("epoch", "validation", "test")}
    return summary


def _sentence(summary: dict[str, Any]) -> str:
    test = summary["test"]
    accuracy = f"test top-1 {test['top1']:.1f} %, top-5 {test['top5']:.1f} %" if test else "nothing measured yet"
    return (
        f"{summary['state']} after epoch {summary['epochs']}, {summary['seconds']:.0f} s: {accuracy}\n"
        f"run folder: {summary['run']}"
    )
