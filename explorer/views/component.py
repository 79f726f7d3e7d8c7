"""A part of the page that draws itself: an element of Gradio's, filled by a script of ours from `explorer/web`."""

from __future__ import annotations

import gradio as gr

from explorer.routes.page import static_version


def web_component(script: str, *, elem_id: str, waiting: str = "Loading…") -> gr.HTML:
    """An element that `script`'s `mount(root)` fills. It asks the plain routes for what it shows.

    Gradio runs the code when the element is mounted (a view's, when its tab is first opened).
    """
    address = f"explorer/web/{static_version()}/{script}"
    code = (
        f"const root = element.querySelector('.sx-root');"
        f"import(new URL('{address}', document.baseURI)).then((part) => part.mount(root))"
        f".catch((error) => {{ root.textContent = 'This part of the page could not be loaded: ' + error.message; }});"
    )
    return gr.HTML(
        html_template=f'<div class="sx-root">{waiting}</div>', js_on_load=code, apply_default_css=False, elem_id=elem_id
    )
