"""The web server: the page and its routes behind one door, on a port that is free."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from fastapi import FastAPI, HTTPException, Request
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from explorer import app as page_app
from explorer.context import Explorer
from explorer.routes.assembly import add_routes
from explorer.routes.attention import MAX_PHOTOGRAPH_BYTES
from explorer.theme import theme

#: A busy port is answered with the next free one, so many times.
PORTS_TRIED = 50
#: How long a queued event (a call of the named API) may wait until it is noticed.
QUEUE_LOOKS_EVERY_S = 0.05


def make_app(
    explorer: Explorer, *, host: str = "127.0.0.1", port: int = 7860, auth: tuple[str, str] | None = None
) -> FastAPI:
    """The application: plain routes first, then Gradio's page at the root.

    Args:
        explorer: the parts that the handlers share; closed when the server ends.
        host: the address that the server listens on; on a loopback address, requests under other names are refused.
        port: for the page's own links.
        auth: name and password that everybody has to give; None for an open door.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        explorer.close()

    app = FastAPI(title=page_app.TITLE, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    if is_loopback(host):
        # A page elsewhere may point a name of its own at this computer and then read what the browser reads.
        app.add_middleware(
            TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "testserver", "::1", "[::1]"]
        )
    app.add_middleware(GZipMiddleware, minimum_size=2000, compresslevel=5)
    door = _Door()
    add_routes(app, explorer, guard=door.guard)
    page = page_app.build_page(explorer)
    gr.mount_gradio_app(
        app,
        page,
        "/",
        server_name=host,
        server_port=port,
        auth=[auth] if auth else None,
        theme=theme(),
        head=page_app.head(),
        footer_links=[],
        run_history=False,
        max_file_size=MAX_PHOTOGRAPH_BYTES,
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
    )
    # Gradio's queue looks for events a thousand times a second, which costs a twentieth of a core while nobody asks.
    page._queue.sleep_when_free = page._queue.progress_update_sleep_when_free = QUEUE_LOOKS_EVERY_S
    door.gradio_app = next(route.app for route in app.routes if isinstance(getattr(route, "app", None), gr.routes.App))
    return app


class _Door:
    """Our own routes ask for the same login as Gradio's."""

    def __init__(self) -> None:
        self.gradio_app: Any = None

    async def guard(self, request: Request) -> None:
        """Let a request through if its login is good, or if none is asked for."""
        if self.gradio_app is None or self.gradio_app.auth is None:
            return
        for name in ("access-token", "access-token-unsecure"):
            token = request.cookies.get(f"{name}-{self.gradio_app.cookie_id}")
            if token and self.gradio_app.tokens.get(token) is not None:
                return
        raise HTTPException(401, "log in first")


def is_loopback(host: str) -> bool:
    """Whether only programs of this computer can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def free_port(host: str, wanted: int) -> int:
    """The port wanted, or the next one that is free.

    Raises:
        OSError: if none of them is, or the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last: OSError | None = None
    for port in [0] if wanted == 0 else range(wanted, min(wanted + PORTS_TRIED, 65_536)):
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host.strip("[]"), port))
                return int(trial.getsockname()[1])
            except OSError as error:
                last = error
    raise last or OSError(f"no free port from {wanted} on")
