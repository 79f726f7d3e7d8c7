"""The curves of a run as Plotly figures: what is drawn, in which colours and words. The page fills in the points.

A figure is made once and sent once; the page keeps its element for good and only adds points, so zoom and hover
survive every update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import plotly.graph_objects as go

#: Told apart by colour-blind eyes and on both backgrounds (after Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, PURPLE, GREY = "#3b82c4", "#d97706", "#159a74", "#b0609f", "#8a8f98"

HEIGHT = 230


@dataclass(frozen=True)
class Curve:
    """One line of a figure: the value of a point that it shows, its name, and how it looks.

    `source` is `steps` or `epochs`; `value` a key of the points of `explorer.runs.live`.
    """

    value: str
    name: str
    colour: str
    source: str = "epochs"
    dash: str = "solid"
    axis: str = "y"


@dataclass(frozen=True)
class Measure:
    """One of several measures that a figure can show: its key in the points, its name, and the axis it needs."""

    key: str
    name: str
    unit: str


@dataclass(frozen=True)
class Chart:
    """A figure: its name for the page, title, axis, and curves. Curves without a point stay out of the legend.

    With `measures` the reader chooses one; its key takes the place of `{measure}` in the curves' values.
    """

    name: str
    title: str
    unit: str
    curves: tuple[Curve, ...]
    help: str
    low: float | None = None
    right_unit: str = ""
    measures: tuple[Measure, ...] = ()


#: As in `sam_core.evaluation.agreement` and `sam_core.evaluation.localisation`.
AGREEMENT = (
    Measure("kl", "KL divergence", "KL, nats (0: the same)"),
    Measure("cosine", "Cosine", "cosine (1: the same)"),
    Measure("iou", "IoU of strongest fifth", "IoU (1: the same cells)"),
)
LOCALISATION = (
    Measure("inside", "Share of the raw map", "share of the map"),
    Measure("inside_distribution", "Share of the distribution", "share of the map"),
    Measure("pointing", "Strongest cell hits", "hits, share of images"),
    Measure("parts", "Marked parts in the strongest fifth", "share of the visible parts"),
)


def _agreement_curves() -> tuple[Curve, ...]:
    return (
        Curve("agreement.cam-learned.{measure}", "CAM and learned", BLUE),
        Curve("agreement.gradcam-learned.{measure}", "Grad-CAM and learned", ORANGE, dash="dash"),
        Curve("agreement.cam-gradcam.{measure}", "CAM and Grad-CAM", GREY, dash="dot"),
    )


def _localisation_curves() -> tuple[Curve, ...]:
    return (
        Curve("localisation.cam.{measure}", "CAM", BLUE),
        Curve("localisation.gradcam.{measure}", "Grad-CAM", ORANGE, dash="dash"),
        Curve("localisation.learned.{measure}", "learned attention", GREEN),
        Curve("localisation.energy.{measure}", "feature energy (control)", GREY, dash="dot"),
        Curve("localisation.uniform.{measure}", "uniform map (control)", GREY, dash="dash"),
    )


RUN_CHARTS = (
    Chart(
        "loss",
        "Loss",
        "classification",
        (
            Curve("classification", "classification (cross-entropy)", BLUE, "steps"),
            Curve("attention", "attention (KL), right axis", ORANGE, "steps", axis="y2"),
        ),
        "What each step minimises. The two losses have scales of their own.",
        low=0,
        right_unit="attention",
    ),
    Chart(
        "accuracy",
        "Accuracy",
        "top-1, %",
        (
            Curve("train.top1", "labelled images", GREY, dash="dot"),
            Curve("validation.top1", "validation", PURPLE),
            Curve("test.top1", "test", BLUE),
            Curve("swapped.top1", "test, habitats swapped", ORANGE),
        ),
        "A gap between test and swapped habitats says that the network uses the background.",
        low=0,
    ),
    Chart(
        "agreement",
        "Agreement of the maps",
        AGREEMENT[0].unit,
        _agreement_curves(),
        "How far two maps of an image say the same, mean over the test images.",
        low=0,
        measures=AGREEMENT,
    ),
    Chart(
        "localisation",
        "On the object",
        LOCALISATION[0].unit,
        _localisation_curves(),
        "Whether the maps point at the true object, mean over the test images. Read it against the controls.",
        low=0,
        measures=LOCALISATION,
    ),
    Chart("lr", "Learning rate", "backbone", (Curve("lr", "learning rate", BLUE, "steps"),), "Of the backbone.", low=0),
)

IMAGE_CHARTS = (
    Chart(
        "image-agreement",
        "Agreement of the maps, this image",
        AGREEMENT[0].unit,
        _agreement_curves(),
        "How far the maps of this image say the same.",
        low=0,
        measures=AGREEMENT,
    ),
    Chart(
        "image-localisation",
        "On the object, this image",
        LOCALISATION[0].unit,
        _localisation_curves(),
        "Whether the maps point at the true object.",
        low=0,
        measures=LOCALISATION,
    ),
)


def figure(chart: Chart) -> go.Figure:
    """The figure of a chart without points. Colours of text and grid are the page's, which knows light from dark."""
    traces = [
        go.Scatter(
            x=[],
            y=[],
            name=curve.name,
            mode="lines" if curve.source == "steps" else "lines+markers",
            marker={"size": 5},
            line={"color": curve.colour, "width": 2, "dash": curve.dash},
            yaxis=curve.axis,
            hovertemplate="%{y:.4g}",
        )
        for curve in chart.curves
    ]
    drawn = go.Figure(traces)
    drawn.update_layout(
        template="none",
        height=HEIGHT,
        margin={"l": 60, "r": 56 if chart.right_unit else 14, "t": 8, "b": 38},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="x unified",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}, "itemwidth": 30},
        xaxis={"title": {"text": "epoch", "standoff": 6}, "zeroline": False, "rangemode": "tozero", "nticks": 8},
        yaxis=_axis(chart.unit, chart.low),
        uirevision="the reader's zoom stays",
        showlegend=True,
    )
    if chart.right_unit:
        drawn.update_layout(yaxis2={**_axis(chart.right_unit, chart.low), "overlaying": "y", "side": "right"})
        drawn.update_layout(yaxis2={"showgrid": False})
    return drawn


def chart_definition(chart: Chart) -> dict[str, Any]:
    """What the page needs of a chart: the figure as JSON, and which value of which points fills each curve."""
    return {
        "name": chart.name,
        "title": chart.title,
        "help": chart.help,
        "figure": figure(chart).to_plotly_json(),
        "curves": [{"value": curve.value, "source": curve.source} for curve in chart.curves],
        "measures": [asdict(measure) for measure in chart.measures],
    }


def _axis(title: str, low: float | None) -> Mapping[str, Any]:
    return {
        "title": {"text": title, "standoff": 6},
        "zeroline": False,
        "rangemode": "tozero" if low == 0 else "normal",
        "nticks": 5,
    }
