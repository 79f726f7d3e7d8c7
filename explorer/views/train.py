"""The Train view: the form that starts a run, and the runs, live."""

from __future__ import annotations

import html
import json
from typing import Any

import gradio as gr

from explorer import form
from explorer.context import Explorer
from explorer.runs.jobs import possible_processes
from explorer.views.component import web_component
from sam_core.config import PRESETS, ConfigError
from sam_core.datasets.base import DatasetError
from sam_core.models.backbones import WeightsError
from sam_core.recording.writer import RunError

NAME, TITLE = "train", "Train"

#: Events that answer at once: not queued, so that they neither wait behind each other nor hold a stream open.
PROMPT = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

#: Hands what `store.proposeRun` was told to the server, now and whenever it is told something.
_PROPOSED_CODE = """\
const take = () => {
  const proposal = window.samExplorer?.takeProposal();
  if (!proposal) return;
  props.value = JSON.stringify(proposal);
  trigger('submit');
};
window.addEventListener('sam-explorer-proposal', take);
take();"""


def build(explorer: Explorer, page: gr.Blocks) -> None:
    """Lay the view out and connect its events."""
    with gr.Row(elem_classes="sx-train"):
        with gr.Column(scale=1, min_width=320, elem_classes="sx-form"):
            gr.HTML("<h3>New run</h3>", apply_default_css=False)
            datasets = explorer.datasets.choices(wait_s=0)
            fields = {name: form.field_for(name, datasets) for name in form.MAIN}
            with gr.Accordion("Advanced", open=False, elem_classes="sx-advanced"):
                preset = gr.Radio(
                    [("The default run", "quick"), ("The released protocol (paper)", "paper")],
                    value="quick",
                    label="Preset",
                    info="Fills the whole form. The released protocol wants a GPU.",
                )
                for group, title in form.GROUPS.items():
                    names = [name for name in form.FIELDS if _group(name) == group and name not in form.MAIN]
                    with gr.Accordion(title, open=False):
                        fields |= {name: form.field_for(name, []) for name in names}
            processes = _choice_of_processes()
            outlook = gr.HTML(_said("Counting the labelled images…"), elem_id="outlook", apply_default_css=False)
            start = gr.Button("Start", variant="primary", elem_id="start-run")
            started = gr.HTML(
                "",
                html_template="",
                js_on_load="watch('value', () => { if (props.value) window.samExplorer.openRun("
                "JSON.parse(props.value).run); });",
                elem_classes="sx-hidden",
            )
            proposed = gr.HTML("", html_template="", js_on_load=_PROPOSED_CODE, elem_classes="sx-hidden")
        with gr.Column(scale=3, min_width=480):
            web_component("train.js", elem_id="train-view")
    _connect(explorer, page, fields, preset, processes, outlook, start, started)
    _connect_proposals(explorer, fields, proposed)


def _choice_of_processes() -> gr.Radio:
    """On how many GPUs a run is trained; where there are not several there is nothing to choose, and to see."""
    gpus = possible_processes("auto")
    return gr.Radio(
        [("One GPU", 1), (f"All {gpus} GPUs", gpus)],
        value=1,
        label="Train on",
        info="Several GPUs share each batch: the run is the same, and sooner done.",
        visible=gpus > 1,
        elem_id="field-processes",
    )


def _group(name: str) -> str:
    return str(form.options()[name]["group"])


def _connect(
    explorer: Explorer,
    page: gr.Blocks,
    fields: dict[str, gr.components.Component],
    preset: gr.Radio,
    processes: gr.Radio,
    outlook: gr.HTML,
    start: gr.Button,
    started: gr.HTML,
) -> None:
    names, components = list(fields), list(fields.values())

    def values_of(values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(names, values, strict=True))

    def look_ahead(*values: Any) -> tuple[str, gr.Button]:
        said, possible = foretell(explorer, values_of(values))
        return said, gr.Button(interactive=possible)

    def fit_to_method(method: str, pseudo: str | None, pooling: str | None) -> tuple[gr.Dropdown, gr.Dropdown]:
        """The choices of pseudo-attention and pooling that the method leaves."""
        pooling = form.fitting("pooling", pooling, {"method": method})
        chosen = {"method": method, "pooling": pooling}
        choices = form.possible("pseudo", chosen)
        return (
            gr.Dropdown(choices=choices, value=form.fitting("pseudo", pseudo, chosen), interactive=bool(choices)),
            gr.Dropdown(choices=form.possible("pooling", chosen), value=pooling),
        )

    def fill(chosen: str) -> list[Any]:
        """A preset's values in every field."""
        values = form.default_values() | PRESETS[chosen]
        if "iterations" in PRESETS[chosen]:
            values["epochs"] = None
        for name in ("pooling", "pseudo"):
            values[name] = form.fitting(name, values[name], values)
        return [form.shown_value(name, values[name]) for name in names]

    def begin(on: int | None, *values: Any) -> tuple[str, str]:
        said, run_id = start_run(explorer, values_of(values), processes=on or 1)
        return said, json.dumps({"run": run_id}) if run_id else gr.skip()

    gr.on(
        [component.change for component in components],
        look_ahead,
        components,
        [outlook, start],
        trigger_mode="always_last",
        **PROMPT,
    )
    method, pseudo, pooling = fields["method"], fields["pseudo"], fields["pooling"]
    gr.on([method.change, pooling.input], fit_to_method, [method, pseudo, pooling], [pseudo, pooling], **PROMPT)
    preset.input(fill, preset, components, **PROMPT)
    start.click(begin, [processes, *components], [outlook, started], trigger_mode="once", **PROMPT)
    # The form's own first sentence, when a page is opened; dataset folders may have come since.
    page.load(
        lambda *values: (*look_ahead(*values), gr.Dropdown(choices=explorer.datasets.choices())),
        components,
        [outlook, start, fields["dataset"]],
        **PROMPT,
    )


def _connect_proposals(explorer: Explorer, fields: dict[str, gr.components.Component], proposed: gr.HTML) -> None:
    def take(proposal: str | None) -> list[Any]:
        """What another view proposes for the next run, put into the fields that it names."""
        values = form.proposed_values(proposal, explorer.places)
        updates = {name: gr.update(value=form.shown_value(name, value)) for name, value in values.items()}
        if "dataset" in values:
            updates["dataset"] = gr.Dropdown(choices=explorer.datasets.choices(), value=values["dataset"])
        return [updates.get(name, gr.skip()) for name in fields]

    proposed.submit(take, proposed, list(fields.values()), **PROMPT)


def foretell(explorer: Explorer, values: dict[str, Any]) -> tuple[str, bool]:
    """What a run with these choices will do, in words, and whether it can be started."""
    try:
        outlook = explorer.forecaster.outlook(form.config_of(values, explorer.places))
    except (ConfigError, DatasetError) as error:
        return _refused(error), False
    waiting = len(explorer.jobs.queue())
    queue = f" {waiting} run{'s wait' if waiting > 1 else ' waits'} before it." if waiting else ""
    return _said(outlook.in_words() + queue), True


def start_run(explorer: Explorer, values: dict[str, Any], *, processes: int = 1) -> tuple[str, str | None]:
    """Start a run; what to say, and the run's id, or None where it was refused."""
    try:
        run_id = explorer.start(form.config_of(values, explorer.places), processes=processes)
    except (ConfigError, DatasetError, WeightsError, RunError) as error:
        return _refused(error), None
    return _said("Started. It goes on if this page is closed."), run_id


def _said(text: str) -> str:
    return f'<p class="sx-outlook">{html.escape(text)}</p>'


def _refused(error: Exception) -> str:
    hint = str(getattr(error, "hint", ""))
    parts = [f"<strong>{html.escape(str(error))}</strong>", html.escape(hint)]
    return f'<p class="sx-outlook sx-error" role="alert">{" ".join(part for part in parts if part)}</p>'
