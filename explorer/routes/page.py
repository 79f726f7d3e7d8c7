"""The page's own files, and what it needs once."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import plotly
from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from explorer.context import Explorer
from explorer.routes.answers import json_answer
from explorer.setup import page_setup

WEB = Path(__file__).parents[1] / "web"
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def build(router: APIRouter, explorer: Explorer) -> None:
    """Put the routes into the explorer's own."""

    @router.get("/setup")
    def setup() -> Response:
        return json_answer(page_setup())

    @router.get("/plotly.js")
    def plotly_script() -> FileResponse:
        return FileResponse(PLOTLY, media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})

    @router.get("/web/{version}/{name}")
    def web_file(version: str, name: str) -> Response:
        path = WEB / name
        if path.parent != WEB or path.suffix not in (".js", ".css") or not path.is_file():
            return Response(status_code=404)
        kind = "text/javascript" if path.suffix == ".js" else "text/css"
        # The version in the address changes with the files, so a browser may keep them for good.
        return FileResponse(path, media_type=kind, headers={"Cache-Control": "max-age=31536000, immutable"})


@lru_cache(maxsize=1)
def static_version() -> str:
    """A name for the present state of the page's files, in their addresses; fixed while the server runs."""
    digest = hashlib.sha256()
    for path in sorted(WEB.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
