"""All routes of the explorer put together, each a fraction of a queued event, and how they refuse and fail.

Everything that a browser names is checked in `explorer.places`; whatever goes wrong is answered with one sentence and a
hint, as JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from explorer.attention.photographs import PhotographError
from explorer.context import Explorer
from explorer.routes import attention, data, page, runs
from explorer.routes.answers import PREFIX
from sam_core.config import ConfigError
from sam_core.datasets.base import DatasetError
from sam_core.recording.views import PictureError
from sam_core.recording.writer import RunError

log = logging.getLogger("explorer")


def add_routes(app: FastAPI, explorer: Explorer, *, guard: Callable[[Request], Awaitable[None]]) -> None:
    """Put every route under `/explorer`; `guard` lets a request through or raises."""
    router = APIRouter(prefix=PREFIX, dependencies=[Depends(guard), Depends(refuse_other_sites)])
    for build in (page.build, runs.build, attention.build, data.build):
        build(router, explorer)
    runs.add_pulse(app, explorer, guard)
    app.include_router(router)
    for kind in (ConfigError, RunError, DatasetError, PictureError, PhotographError, FileNotFoundError, OSError):
        app.add_exception_handler(kind, _answer_error)
    app.add_exception_handler(Exception, _answer_unforeseen)


async def refuse_other_sites(request: Request) -> None:
    """Let nothing be changed by a page of another site that the same browser has open."""
    if request.method != "GET" and request.headers.get("x-explorer") != "1":
        raise RunError("this request did not come from the explorer's own page", "use the page, or the named API")


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, FileNotFoundError):
        message, hint = "a file of this run is gone", "its folder may have been deleted; choose another run"
        return JSONResponse({"message": message, "hint": hint}, 404)
    if isinstance(error, OSError) and not isinstance(error, PictureError | PhotographError):
        message = f"the disk refused: {error.strerror or error}"
        return JSONResponse({"message": message, "hint": "free some space, or check the folder's permissions"}, 507)
    missing = isinstance(error, RunError) and "there is no run" in str(error)
    answer = {"message": str(error), "hint": getattr(error, "hint", "")}
    return JSONResponse(answer, 404 if missing or isinstance(error, PictureError) else 400)


async def _answer_unforeseen(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    message = f"this failed unexpectedly ({type(error).__name__}); the server's log says where"
    return JSONResponse({"message": message, "hint": "the server goes on; try again"}, 500)
