"""What the explorer's tests need: a server over a finished tiny run, and a real browser."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from explorer.context import Explorer
from explorer.places import Places
from explorer.server import free_port, make_app
from tests.datasets.miniatures import write_cub200


@pytest.fixture
def places(tmp_path: Path, shared_photographs: Path) -> Places:
    """Folders of a server of its own: no runs yet, the made-up photographs as data."""
    return Places(tmp_path / "runs", demo=tmp_path / "demo", data_roots=(shared_photographs.parent,))


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root for tests that only read it: a miniature of CUB-200-2011 with masks, two pictures damaged."""
    root = tmp_path_factory.mktemp("sets")
    folder = root / "CUB_200_2011"
    return write_cub200(folder, train=4, test=3, masks=folder, kinds={1: "truncated", 9: "text"}).parent


@pytest.fixture
def explorer(places: Places) -> Iterator[Explorer]:
    explorer = Explorer(places)
    yield explorer
    explorer.close()


@pytest.fixture
def own_run(trained, places: Places) -> Path:
    """A copy of the finished tiny run, in the server's own folder."""
    folder = places.runs / trained.id
    shutil.copytree(trained.folder, folder)
    return folder


@pytest.fixture(scope="session")
def serving():
    """Runs a server over some places in a thread: `with serving(places) as address`."""

    @contextlib.contextmanager
    def serve(places: Places, **options: object) -> Iterator[str]:
        explorer = Explorer(places)
        port = free_port("127.0.0.1", 0)
        app = make_app(explorer, port=port, **options)
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(timeout=15)

    return serve


@pytest.fixture(scope="session")
def decode():
    """Reads a timeline message as the page's wire.js does: header, and per kind None or {"raw", "distribution"}."""
    return decode_message


def decode_message(message: bytes) -> tuple[dict, dict]:
    """What the page's wire.js does."""
    (length,) = struct.unpack("<I", message[:4])
    header = json.loads(message[4 : 4 + length])
    words = np.frombuffer(message, dtype="<f2", offset=4 + length)
    maps = {}
    for kind, place in header["arrays"].items():
        if place is None:
            maps[kind] = None
            continue
        shape = (len(header["epochs"]), *place["grid"])
        size = int(np.prod(shape))
        maps[kind] = {name: words[place[name] : place[name] + size].reshape(shape) for name in ("raw", "distribution")}
    return header, maps
