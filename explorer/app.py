"""The page: its head, its views, and the named endpoints, put together."""

from __future__ import annotations

import gradio as gr

from explorer import api
from explorer.context import Explorer
from explorer.routes.page import static_version
from explorer.views import attention, data, train

#: The tabs in their order. A view is a module with `NAME`, `TITLE` and `build(explorer, page)`.
VIEWS = (train, attention, data)

TITLE = "SAM Explorer"

_HEAD = """\
<div class="sx-top-bar"><div><h1>SAM Explorer</h1>
<p>Train on few labels, and see where the network looks, in every image and at every epoch.</p></div>
<div class="sx-row"><a class="sx-button" href="?view=api" target="_blank" rel="noopener">API</a>
<button class="sx-button sx-theme" type="button">Dark</button></div></div>"""

#: The switch from light to dark keeps the reader's choice in this browser.
_HEAD_CODE = """\
const button = element.querySelector('.sx-theme');
const show = () => { button.textContent = document.body.classList.contains('dark') ? 'Light' : 'Dark';
  button.setAttribute('aria-label', `Change to ${button.textContent.toLowerCase()} colours`); };
const kept = localStorage.getItem('sam-explorer-theme');
if (kept) document.body.classList.toggle('dark', kept === 'dark');
button.addEventListener('click', () => { document.body.classList.toggle('dark');
  localStorage.setItem('sam-explorer-theme', document.body.classList.contains('dark') ? 'dark' : 'light'); show(); });
show();"""


def build_page(explorer: Explorer) -> gr.Blocks:
    """The whole page as Gradio has it."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(html_template=_HEAD, js_on_load=_HEAD_CODE, apply_default_css=False, elem_id="page-head")
        with gr.Tabs(selected=VIEWS[0].NAME) as tabs:
            for view in VIEWS:
                with gr.Tab(view.TITLE, id=view.NAME) as tab:
                    view.build(explorer, page)
                tab.select(None, js=f"() => {{ window.samExplorer?.noteView('{view.NAME}'); }}")
        page.load(_view_of_link, None, tabs, queue=False, show_progress="hidden", api_visibility="private")
        api.add_endpoints(explorer)
    return page


def _view_of_link(request: gr.Request) -> gr.Tabs:
    """Open the view that a link names; a link to an image means the Attention view."""
    query = request.query_params
    wanted = query.get("tab") or ("attention" if "image" in query else "")
    return gr.Tabs(selected=wanted) if wanted in [view.NAME for view in VIEWS] else gr.skip()


def head() -> str:
    """What goes into the document's head: our styles, under an address that changes with them."""
    return (
        f'<link rel="stylesheet" href="explorer/web/{static_version()}/page.css">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
    )
