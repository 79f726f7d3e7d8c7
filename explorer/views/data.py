"""The Data view: which datasets there are, what is in them, what is wrong with them, and adding one's own."""

from __future__ import annotations

import gradio as gr

from explorer.context import Explorer
from explorer.views.component import web_component

NAME, TITLE = "data", "Data"


def build(explorer: Explorer, page: gr.Blocks) -> None:
    """Lay the view out; it is drawn in the browser (`web/data.js`)."""
    web_component("data.js", elem_id="data-view")
