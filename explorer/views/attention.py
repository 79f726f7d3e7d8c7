"""The Attention view: the same image through all epochs under all maps, with the truth beside it."""

from __future__ import annotations

import gradio as gr

from explorer.context import Explorer
from explorer.views.component import web_component

NAME, TITLE = "attention", "Attention"


def build(explorer: Explorer, page: gr.Blocks) -> None:
    """Lay the view out; it is drawn in the browser (`web/attention.js`)."""
    web_component("attention.js", elem_id="attention-view")
