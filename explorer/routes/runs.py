"""The routes behind the list of runs: polling, and what changes a run, brings one here or takes it away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from explorer.context import Explorer
from explorer.routes.answers import CHUNK, MAX_ARCHIVE_BYTES, NOT_KEPT, PREFIX, json_answer, received
from explorer.runs.pruning import disk_size, prune
from sam_core.recording.archive import pack_run, unpack_run
from sam_core.recording.content import parse_json
from sam_core.recording.notes import LONGEST_NAME, LONGEST_NOTES, Notes, write_notes
from sam_core.recording.writer import RunError

#: How often a page asks about a run that is going on. All pages ask in the same moment of each such time: a server that
#: wakes once for twenty of them takes far less from the run than one that wakes twenty times.
ASK_EVERY_S = 0.9
#: A page that is so much too early has hit the moment, and is told the next one.
EARLY_S = 0.05

MAX_NOTES_BYTES = 200_000


def ask_again_in(now: float) -> float:
    """Seconds from `now` until pages ask together."""
    left = ASK_EVERY_S - now % ASK_EVERY_S
    return left if left > EARLY_S else left + ASK_EVERY_S


def add_pulse(app: FastAPI, explorer: Explorer, guard: Callable[[Request], Awaitable[None]]) -> None:
    """The route that every page asks about once a second: plain, in the event loop, without a thread or a schema.

    It looks at a few file dates, and that only as often as `Library` and `RunFeed` allow for all pages together.
    """

    async def pulse(request: Request) -> Response:
        """What changed: in the list of runs since version `list`, and in one run since `cursor`."""
        await guard(request)
        query = request.query_params
        version, run, cursor = query.get("list", "0"), query.get("run", ""), query.get("cursor", "")
        news = []
        changes = explorer.library.changes_json(int(version) if version.isdecimal() else 0)
        if changes:
            news.append(b'"list": ' + changes)
        if run:
            try:
                run_news = explorer.feeds.of(explorer.places.run_folder(run)).news_json(cursor)
            except (RunError, FileNotFoundError):
                run_news = None if cursor == "gone" else b'{"gone": true, "cursor": "gone"}'
            if run_news:
                news.append(b'"run": ' + run_news)
        headers = NOT_KEPT | {"X-Explorer-Ask-In": str(round(1000 * ask_again_in(time.monotonic())))}
        if not news:
            return Response(status_code=204, headers=headers)
        return Response(b"{" + b", ".join(news) + b"}", media_type="application/json", headers=headers)

    app.add_route(f"{PREFIX}/pulse", pulse)


def build(router: APIRouter, explorer: Explorer) -> None:
    """Put the routes into the explorer's own."""
    for part in (_archives, _changing):
        part(router, explorer)


def _archives(router: APIRouter, explorer: Explorer) -> None:
    open_run, may_read = explorer.runs.get, explorer.places.may_read

    @router.get("/runs/{run_id}/archive.zip")
    def archive(run_id: str) -> StreamingResponse:
        run = open_run(run_id)
        file = tempfile.TemporaryFile()  # noqa: SIM115 (closed when it has been sent)
        try:
            pack_run(run, file, allowed=may_read)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        headers = {"Content-Disposition": f'attachment; filename="{run.id}.zip"'}
        return StreamingResponse(_chunks(file), media_type="application/zip", headers=headers)


def _chunks(file: Any) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


def _changing(router: APIRouter, explorer: Explorer) -> None:
    places, library = explorer.places, explorer.library

    def changed(answer: dict[str, Any]) -> Response:
        library.look_again()
        return json_answer(answer)

    @router.post("/runs/{run_id}/stop")
    def stop(run_id: str) -> Response:
        return json_answer({"state": explorer.stop(run_id)})

    @router.post("/runs/{run_id}/resume")
    def resume(run_id: str) -> Response:
        return json_answer({"state": explorer.resume(run_id)})

    @router.post("/runs/{run_id}/delete")
    def delete(run_id: str) -> Response:
        explorer.delete(run_id)
        return json_answer({"deleted": run_id})

    @router.post("/runs/{run_id}/prune")
    def free_space(run_id: str) -> Response:
        return changed({"freed": prune(explorer.runs.get(places.own_run_folder(run_id).name))})

    @router.get("/runs/{run_id}/size")
    def size(run_id: str) -> Response:
        return json_answer({"bytes": disk_size(places.run_folder(run_id))})

    @router.post("/runs/{run_id}/notes")
    async def notes(request: Request, run_id: str) -> Response:
        folder = places.own_run_folder(run_id)
        body = await received(request, MAX_NOTES_BYTES, "the notes")
        with body:
            try:
                written = Notes.from_json(parse_json(Path(body.name).read_bytes()))
            except ValueError as error:
                limits = f"a name has at most {LONGEST_NAME} characters, notes have {LONGEST_NOTES:,}"
                raise RunError(str(error), limits) from error
        write_notes(folder, written)
        return changed({"saved": True})

    @router.post("/import")
    async def bring(request: Request) -> Response:
        archive = await received(request, MAX_ARCHIVE_BYTES, "the zip", folder=places.runs)
        with archive:
            run_id = await run_in_threadpool(unpack_run, Path(archive.name), places.runs)
        return changed({"run": run_id})
