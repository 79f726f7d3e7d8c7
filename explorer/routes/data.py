"""The routes behind the Data view: which datasets there are, what is in them, their pictures, and adding one's own.

A dataset is named as a run's configuration names it, and checked in `explorer.places`. Whatever takes longer than a
moment is answered with status 202 and how far it is; the page asks again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from explorer.context import Explorer
from explorer.data.contents import chosen_labels, contents, source_of
from explorer.data.sample_pictures import facts, large_picture, mask_picture, readable, thumbnail
from explorer.data.shelf import Reading, Selection
from explorer.form import config_of
from explorer.places import Places
from explorer.routes.answers import MAX_ARCHIVE_BYTES, json_answer, received
from sam_core.config import RunConfig
from sam_core.datasets.base import Sample
from sam_core.recording.views import PictureError

#: How long a question about a dataset may take before it is answered with how far its reading is.
PATIENCE_S = 1.0
#: The address of a picture changes with the state of its dataset's files, and its tag with its own file.
PICTURE_LIVES = "private, max-age=86400"


def build(router: APIRouter, explorer: Explorer) -> None:
    """Put the routes into the explorer's own."""
    for part in (_lists, _pictures, _checking, _changing):
        part(router, explorer)


#: What a request says of how a dataset is looked at, by the option of a run that it is.
_CHOICES = {"dataset": "set", "label_ratio": "ratio", "num_classes": "classes", "split_seed": "seed",
            "class_level": "level"}  # fmt: skip


def _asked(request: Request, places: Places) -> RunConfig:
    """The dataset that a request names, and how it is looked at: the choices of a run, checked like a run's."""
    return config_of({option: request.query_params.get(name) for option, name in _CHOICES.items()}, places)


def _lists(router: APIRouter, explorer: Explorer) -> None:
    places, shelf, datasets = explorer.places, explorer.shelf, explorer.datasets

    @router.get("/data/sets")
    def sets() -> Response:
        """The datasets there are; `reading` while some of them are only known by name."""
        rows = datasets.rows()
        is_reading = any(row["state"] == "unread" for row in rows)
        roots = [str(root) for root in places.data_roots]
        return json_answer({"sets": rows, "absent": datasets.absent(), "reading": is_reading, "roots": roots})

    @router.get("/data/contents")
    def read(request: Request) -> Response:
        """Every image of a dataset, in columns."""
        found = shelf.look(shelf.select(_asked(request, places)), wait_s=PATIENCE_S)
        if isinstance(found, Reading):
            return json_answer({"words": found.words, "done": found.done, "total": found.total}, 202)
        return json_answer(contents(found))

    @router.get("/data/labels")
    def labels(request: Request) -> Response:
        """Which images are labelled at a ratio, by their rows, and where that subset comes from."""
        config = _asked(request, places)
        opened = shelf.open(shelf.select(config))
        _, subset = chosen_labels(opened.dataset, config)
        rows = [opened.row_of[sample.id] for sample in subset.labelled]
        return json_answer({"version": opened.version, "rows": rows, "source": source_of(subset)})


def _pictures(router: APIRouter, explorer: Explorer) -> None:
    places = explorer.places

    def sample_of(request: Request) -> Sample:
        opened = explorer.shelf.any_of(_asked(request, places).dataset)
        row = opened.row_of.get(request.query_params.get("image", ""))
        if row is None:
            raise PictureError("there is no such image in this dataset", "its files may have changed; open it again")
        return opened.dataset.samples[row]

    def answer(request: Request, path: Path, draw: Callable[[Path, str], bytes], kind: str = "jpeg") -> Response:
        real, tag = readable(places, path)
        headers = {"Cache-Control": PICTURE_LIVES, "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(draw(real, tag), media_type=f"image/{kind}", headers=headers)

    @router.get("/data/thumb")
    def thumb(request: Request) -> Response:
        return answer(request, sample_of(request).path, thumbnail)

    @router.get("/data/large")
    def large(request: Request) -> Response:
        return answer(request, sample_of(request).path, lambda path, _: large_picture(path))

    @router.get("/data/mask")
    def mask(request: Request) -> Response:
        sample = sample_of(request)
        if sample.mask_path is None:
            raise PictureError("this image has no mask")
        return answer(request, sample.mask_path, lambda path, _: mask_picture(path, sample.mask_on), "png")

    @router.get("/data/image")
    def image(request: Request) -> Response:
        """What is known of one image: its size, box, parts, and whether there is a mask."""
        return json_answer(facts(places, sample_of(request)))


def _checking(router: APIRouter, explorer: Explorer) -> None:
    def wanted(request: Request) -> Selection:
        return explorer.shelf.select(_asked(request, explorer.places))

    @router.get("/data/check")
    def state(request: Request) -> Response:
        """How far the check of a dataset's images is, and what it has found."""
        return json_answer(explorer.checks.state(wanted(request)))

    @router.post("/data/check")
    def start(request: Request) -> Response:
        """Begin it, if nobody has."""
        return json_answer(explorer.checks.start(wanted(request)))


def _changing(router: APIRouter, explorer: Explorer) -> None:
    places, datasets = explorer.places, explorer.datasets

    @router.post("/data/add")
    async def add(request: Request, name: Annotated[str, Query(max_length=300)] = "photographs.zip") -> Response:
        """Take a zip of photographs, sent as the body, into the first data root."""
        root = places.data_roots[0]
        root.mkdir(parents=True, exist_ok=True)
        archive = await received(request, MAX_ARCHIVE_BYTES, "the zip", folder=root)
        with archive:
            folder = await run_in_threadpool(explorer.additions.add, Path(archive.name), name)
        datasets.look_again()
        return json_answer({"key": places.short_name(str(folder)), "label": folder.name})

    @router.post("/data/find")
    def find(path: Annotated[str, Query(max_length=4000)]) -> Response:
        """Take up a folder or zip below a data root that somebody named by its path."""
        name = places.dataset(path)
        datasets.remember(name)
        return json_answer({"key": places.short_name(name), "label": Path(name).name})

    @router.post("/data/delete")
    def delete(name: Annotated[str, Query(alias="set")]) -> Response:
        """Remove a dataset that was added from the page."""
        dataset = places.dataset(name)
        explorer.additions.delete(places.named_folder(dataset) or Path(dataset))
        explorer.shelf.forget(dataset)
        datasets.look_again()
        return json_answer({"deleted": name})
