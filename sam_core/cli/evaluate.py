"""`evaluate`: what a trained run can, and where its maps point."""

from __future__ import annotations

import argparse
from typing import Any

from sam_core.cli.options import add_runs
from sam_core.config import DEVICES

EVALUATION = "evaluation.json"


def add_parser(verbs: Any) -> argparse.ArgumentParser:
    """Describe the verb."""
    parser = verbs.add_parser(
        "evaluate",
        help="accuracy and attention of a trained run",
        description="Accuracy (top-1, top-5, per class, confusion matrix), and with --attention how CAM, Grad-CAM and "
        "the learned attention agree, how much of each lies on the object where boxes or masks are known, and how "
        f"faithful they are (deletion and insertion). The result is also kept as {EVALUATION} in the run folder.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("target", metavar="RUN", help="a run folder, or an id under --runs")
    parser.add_argument("--attention", action="store_true", help="also measure the maps (minutes on a CPU)")
    parser.add_argument("--test-crops", type=int, choices=(1, 10), help="views per test image (as in training)")
    parser.add_argument("--epoch", type=int, metavar="N", help="weights of a kept epoch (by default the last)")
    parser.add_argument(
        "--images", type=int, default=64, metavar="N", help="test images for deletion and insertion (64)"
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where to compute")
    add_runs(parser)
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate, keep, print."""
    from sam_core.evaluation.report import evaluate_run
    from sam_core.recording.layout import write_json
    from sam_core.recording.reader import open_run
    from sam_core.training.messages import Messages

    target, messages = open_run(options.target, options.runs), Messages()
    try:
        result = evaluate_run(
            target,
            epoch=options.epoch,
            test_crops=options.test_crops,
            attention=options.attention,
            faithfulness_images=options.images,
            device=options.device,
            progress=messages.progress,
        )
    finally:
        messages.close()
    write_json(target.folder / EVALUATION, result)
    if not options.json:
        _print(result)
    return result


def _print(result: dict[str, Any]) -> None:
    print(f"{result['run']}\nepoch {result['epoch']}, {result['test_crops']} crop(s) per image\n")
    print(f"{'images':12} {'top-1 %':>8} {'top-5 %':>8} {'loss':>8}")
    for name in ("train", "validation", "test", "swapped"):
        if name in result:
            row = result[name]
            print(f"{name:12} {row['top1']:8.1f} {row['top5']:8.1f} {row['loss']:8.3f}")
    print("\ntest top-1 by class, weakest first")
    for name, accuracy in sorted(result["per_class"].items(), key=lambda item: item[1])[:20]:
        print(f"  {accuracy:5.1f} %  {name}")
    for name, measures in result.get("attention", {}).items():
        print(f"\nattention of the {name} images")
        for pair, values in measures.get("agreement", {}).items():
            kl, cosine, iou = (_n(values[name]) for name in ("kl", "cosine", "iou"))
            print(f"  agreement {pair:16} KL {kl}  cosine {cosine}  IoU {iou}")
        for kind, values in measures.get("localisation", {}).items():
            parts = f"  parts {_n(values['parts'])}" if "parts" in values else ""
            inside, pointing = _n(values["inside"]), _n(values["pointing"])
            print(f"  on the object: {kind:11} {inside} of the map  pointing {pointing}{parts}")
        for kind, values in measures.get("faithfulness", {}).items():
            if isinstance(values, dict):
                deletion, insertion = _n(values["deletion"]), _n(values["insertion"])
                print(f"  {kind:8} deletion {deletion} (low is faithful)  insertion {insertion} (high is faithful)")


def _n(value: float | None) -> str:
    return "    -" if value is None else f"{value:5.3f}"
