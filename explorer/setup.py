"""What the page needs once: names of maps, colour tables, the definitions of its charts."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from explorer.data.class_counts import counts_definition
from explorer.figures import IMAGE_CHARTS, RUN_CHARTS, chart_definition
from sam_core.overlay import COLOUR_MAPS, SUM_FULL_STRENGTH
from sam_core.pseudo_attention import PSEUDO_ATTENTION

OWN_MAPS = {
    "learned": ("Learned attention", "what the attention head has learned: the maximum over its K maps"),
    "energy": ("Feature energy", "the plain mean of the features: a control, it knows no class"),
}


@lru_cache(maxsize=1)
def page_setup() -> dict[str, Any]:
    """The same for every page and run."""
    return {
        "maps": _maps(),
        "colour_maps": {
            name: {"label": about.label, "diverging": about.diverging, "table": about.table.ravel().tolist()}
            for name, about in COLOUR_MAPS.items()
        },
        "full_strength": SUM_FULL_STRENGTH,
        "run_charts": [chart_definition(chart) for chart in RUN_CHARTS],
        "image_charts": [chart_definition(chart) for chart in IMAGE_CHARTS],
        "counts_chart": counts_definition(),
    }


def _maps() -> dict[str, dict[str, Any]]:
    """Every map that can be shown: its name for people, what it is, whether it can be asked of any photograph."""
    maps = {
        name: {"label": about.label, "description": about.description, "on_demand": True, "slow": not about.trains}
        for name, about in PSEUDO_ATTENTION.items()
    }
    for name, (label, description) in OWN_MAPS.items():
        maps[name] = {"label": label, "description": description, "on_demand": True, "slow": False}
    for name in ("cam", "gradcam"):
        label = f"{maps[name]['label']}, predicted class"
        maps[f"{name}_predicted"] = maps[name] | {"label": label, "on_demand": False}
    order = ("cam", "gradcam", "learned", "energy")
    return {name: maps[name] for name in (*order, *(name for name in maps if name not in order))}
