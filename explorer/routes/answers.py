"""How plain routes receive and answer: bodies counted while they come in, JSON that nobody keeps."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from explorer.attention.photographs import PhotographError
from sam_core.recording import layout

#: Where all of them are.
PREFIX = "/explorer"
NOT_KEPT = {"Cache-Control": "no-store"}
#: The largest zip that is received: a run with its pictures, or a dataset.
MAX_ARCHIVE_BYTES = 20 * 2**30
#: Files are sent in pieces of this size.
CHUNK = 1 << 20


def json_answer(value: Any, status: int = 200) -> Response:
    """A value as JSON; what is not finite becomes null."""
    return Response(layout.dump_json(value), status, media_type="application/json", headers=NOT_KEPT)


async def received(request: Request, limit: int, what: str, *, folder: Path | None = None) -> Any:
    """The request's body as a temporary file, counted while it comes in.

    Raises:
        PhotographError: if it is larger than `limit` bytes, or does not fit on the disk.
    """
    declared = request.headers.get("content-length", "0")
    space = shutil.disk_usage(folder or tempfile.gettempdir()).free
    too_large = PhotographError(f"{what} is larger than the limit of {limit // 10**6:,} MB", "make it smaller")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    if declared.isdecimal() and int(declared) > space:
        raise PhotographError(f"{what} does not fit on the server's disk", "free some space there")
    file = tempfile.NamedTemporaryFile(dir=folder, prefix=".upload-")  # noqa: SIM115 (closed by the caller)
    try:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large
            file.write(chunk)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file
