"""A client of the routes alone, without Gradio's page, and a finished run to ask about."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from explorer.routes.assembly import add_routes

OURS = {"X-Explorer": "1"}


async def open_door(request: Request) -> None:
    """Nobody is asked for a login."""


@pytest.fixture
def client(explorer) -> TestClient:
    app = FastAPI()
    add_routes(app, explorer, guard=open_door)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def run_id(own_run) -> str:
    return own_run.name


@pytest.fixture
def image(trained) -> str:
    return trained.samples[-1]["id"]
