from __future__ import annotations

import json

import pytest

from explorer.figures import IMAGE_CHARTS, RUN_CHARTS, chart_definition, figure
from explorer.runs.live import STEP_VALUES, epoch_point

CHARTS = [*RUN_CHARTS, *IMAGE_CHARTS]


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_chart_is_plain_json_with_a_height_and_labelled_axes(chart):
    definition = json.loads(json.dumps(chart_definition(chart)))
    layout = definition["figure"]["layout"]
    assert layout["height"] > 100, "a figure without a height vanishes in some versions"
    assert layout["xaxis"]["title"]["text"]
    assert layout["yaxis"]["title"]["text"]
    assert layout["uirevision"], "without it a redraw loses the reader's zoom"
    assert len(definition["curves"]) == len(definition["figure"]["data"])


def test_the_curves_of_a_run_ask_for_values_that_runs_have(trained):
    known = set(epoch_point(trained.metrics("epoch")[-1]))
    # These made-up photographs have no object marked, no validation and no second test split.
    without = ("localisation.", "validation.", "swapped.")
    for chart in RUN_CHARTS:
        for curve in chart.curves:
            if curve.source == "steps":
                assert curve.value in STEP_VALUES
            elif not curve.value.startswith(without):
                for measure in chart.measures or (None,):
                    value = curve.value.format(measure=measure and measure.key)
                    assert value in known, f"no run has {value}"


def test_two_lines_of_one_figure_are_told_apart_without_colour_or_by_it():
    for chart in CHARTS:
        looks = [(curve.colour, curve.dash) for curve in chart.curves]
        assert len(set(looks)) == len(looks)


def test_losses_of_different_size_have_axes_of_their_own():
    loss = figure(next(chart for chart in RUN_CHARTS if chart.name == "loss"))
    assert [trace.yaxis for trace in loss.data] == ["y", "y2"]
