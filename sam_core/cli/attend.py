"""`attend`: where a trained run looks in any photograph, under any map, for any class."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sam_core.cli.options import add_runs
from sam_core.config import PSEUDO_ATTENTIONS, ConfigError

MAPS = ("learned", "energy", *PSEUDO_ATTENTIONS, "scorecam", "fullgrad")


def add_parser(verbs: Any) -> argparse.ArgumentParser:
    """Describe the verb."""
    parser = verbs.add_parser(
        "attend",
        help="overlays of any photograph",
        description="Draw where a trained run looks in photographs: one sheet per photograph, with every map asked for "
        "over the view that the network sees.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("target", metavar="RUN", help="a run folder, or an id under --runs")
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="photographs")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the sheets; made if needed")
    parser.add_argument("--maps", default="cam,gradcam,learned", metavar="NAMES", help=f"any of {', '.join(MAPS)}")
    parser.add_argument(
        "--class", dest="class_name", metavar="NAME", help="whose evidence is shown (the predicted class)"
    )
    parser.add_argument("--epoch", type=int, metavar="N", help="weights of a kept epoch (by default the last)")
    parser.add_argument("--opacity", type=float, default=0.6, metavar="0..1", help="strength of the overlay (0.6)")
    parser.add_argument("--colour-map", default="viridis", metavar="NAME", help="viridis, magma, grey, ... (viridis)")
    parser.add_argument("--cells", action="store_true", help="show the map's cells as they are, not smoothed")
    parser.add_argument("--npz", action="store_true", help="also save the raw maps as IMAGE.npz")
    add_runs(parser)
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Refuse what cannot be, then draw; nothing is written before every photograph has been read."""
    names = [name.strip() for name in options.maps.split(",") if name.strip()]
    unknown = [name for name in names if name not in MAPS]
    if unknown or not names:
        raise ConfigError("maps", f"{', '.join(unknown) or 'nothing'} is no map; use any of {', '.join(MAPS)}")
    if not 0 <= options.opacity <= 1:
        raise ConfigError("opacity", f"must be between 0 and 1, not {options.opacity:g}")

    from sam_core.evaluation.inspection import AttendedImage, Inspector, draw_sheet, read_photographs
    from sam_core.overlay import COLOUR_MAPS
    from sam_core.recording.reader import open_run
    from sam_core.training.messages import Messages

    if options.colour_map not in COLOUR_MAPS:
        raise ConfigError("colour_map", f"must be one of {', '.join(COLOUR_MAPS)}, not {options.colour_map!r}")
    inspector = Inspector(open_run(options.target, options.runs), epoch=options.epoch)
    label = inspector.label_of(options.class_name) if options.class_name else None
    photographs = read_photographs(options.images)
    options.out.mkdir(parents=True, exist_ok=True)
    messages, results = Messages(), []
    for done, (path, photograph) in enumerate(zip(options.images, photographs, strict=True), start=1):
        attended: AttendedImage = inspector.attend(photograph, names, label=label)
        stem = options.out / _free_name(path.stem, results)
        sheet = draw_sheet(attended, smooth=not options.cells, opacity=options.opacity, colour_map=options.colour_map)
        sheet.save(f"{stem}.png")
        if options.npz:
            attended.save_maps(Path(f"{stem}.npz"))
        results.append({"image": str(path), "sheet": f"{stem}.png", **attended.as_json()})
        messages.progress("photographs", done, len(photographs))
    messages.close()
    if not options.json:
        for result in results:
            top = result["top"][0]
            print(f"{result['sheet']}: {top[0]} ({top[1]:.0%}), maps for {result['shown_class']}")
            for name in result["empty"]:
                print(f"  {name} is empty: no part of the image speaks for {result['shown_class']}")
    return {"run": str(inspector.run.folder), "images": results}


def _free_name(stem: str, results: list[dict[str, Any]]) -> str:
    """`bird`, and for a second photograph of that name from another folder `bird-2`."""
    taken = {Path(result["sheet"]).stem for result in results}
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    return name
