"""Images per class as a Plotly figure: a bar for each class, divided into labelled, unlabelled and test images."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from explorer.figures import GREY, ORANGE, PURPLE

#: Of the labelled images: the page's own accent, in which its thumbnails are marked too.
TEAL = "#1f9384"
#: What a bar is made of, in its order: the name that the page has for it, what it says, its colour and pattern. The
#: patterns tell them apart where colours do not.
GROUPS = (
    ("labelled", "labelled", TEAL, ""),
    ("train", "training, label not used", GREY, ""),
    ("test", "test", ORANGE, "/"),
    ("swapped", "test, habitats swapped", PURPLE, "x"),
)

#: Axes that show nothing but their labels, and stay where they are.
BARE = {"showline": False, "showgrid": False, "zeroline": False, "fixedrange": True}


def counts_figure() -> go.Figure:
    """The figure without a class. Colours of text and grid are the page's, which knows light from dark."""
    bars = [
        go.Bar(
            x=[], y=[], name=name, orientation="h",
            marker={"color": colour, "line": {"width": 0}, "pattern": {"shape": pattern, "size": 5, "solidity": 0.25}},
            hovertemplate="%{text}: %{x} " + name + "<extra></extra>", textposition="none",
        )
        for _, name, colour, pattern in GROUPS
    ]  # fmt: skip
    sums = go.Scatter(x=[], y=[], mode="text", textposition="middle right", hoverinfo="skip", cliponaxis=False)
    drawn = go.Figure([*bars, sums])
    drawn.update_layout(
        template="none",
        barmode="stack",
        bargap=0.3,
        margin={"l": 10, "r": 8, "t": 2, "b": 6},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        xaxis={**BARE, "showticklabels": False, "ticks": ""},
        yaxis={**BARE, "automargin": True, "ticks": "outside", "ticklen": 5, "tickfont": {"size": 11.5}},
        dragmode=False,
        showlegend=False,
    )  # fmt: skip
    return drawn


def counts_definition() -> dict[str, Any]:
    """What the page needs: the figure as JSON, and which group of images each bar shows, in which words and look."""
    groups = [
        {"group": group, "name": name, "colour": colour, "pattern": pattern} for group, name, colour, pattern in GROUPS
    ]
    return {"figure": counts_figure().to_plotly_json(), "groups": groups}
