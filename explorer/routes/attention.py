"""The routes behind the Attention view: recorded images, pictures to take away, a photograph through the weights."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from PIL import Image
from starlette.concurrency import run_in_threadpool

from explorer.attention import gallery
from explorer.attention.photographs import (
    attend_message,
    chosen_epochs,
    chosen_label,
    chosen_maps,
    read_photograph,
    weights_of,
)
from explorer.attention.sheets import SheetSettings, draw_animation, draw_frame, maps_as_npz
from explorer.context import Explorer
from explorer.routes.answers import NOT_KEPT, json_answer, received
from sam_core.evaluation.history import loss_distributions
from sam_core.recording.reader import Run
from sam_core.recording.views import PictureError, view_mask, view_picture
from sam_core.recording.writer import RunError

VIEW_SIDE, THUMB_SIDE = 448, 96
#: Pictures of a recorded image do not change while its run is there.
PICTURE_LIVES = "private, max-age=86400"
MAX_PHOTOGRAPH_BYTES = 50_000_000
MAX_ANIMATED_EPOCHS = 120


def build(router: APIRouter, explorer: Explorer) -> None:
    """Put the routes into the explorer's own."""
    for part in (_images, _saving, _inspecting):
        part(router, explorer)


# --- Recorded images -----------------------------------------------------------------------------------------------


def _images(router: APIRouter, explorer: Explorer) -> None:
    open_run, may_read = explorer.runs.get, explorer.places.may_read

    @router.get("/runs/{run_id}/samples")
    def samples(run_id: str) -> Response:
        return json_answer(gallery.columns(open_run(run_id)))

    @router.get("/runs/{run_id}/strip")
    def strip(run_id: str, images: Annotated[int, Query(ge=1, le=12)] = 4) -> Response:
        return json_answer(gallery.strip(open_run(run_id), images))

    @router.get("/runs/{run_id}/rankings")
    def rankings(run_id: str) -> Response:
        return json_answer(explorer.rankings.of(open_run(run_id)))

    @router.get("/runs/{run_id}/timeline")
    def timeline(run_id: str, image: str, after: int = -1) -> Response:
        message = explorer.messages.of(open_run(run_id), image, after=after, allowed=may_read)
        return Response(message, media_type="application/octet-stream", headers=NOT_KEPT)

    @router.get("/runs/{run_id}/view/{row}")
    def view(run_id: str, row: int) -> Response:
        return _picture(view_picture(open_run(run_id), row, side=VIEW_SIDE, allowed=may_read))

    @router.get("/runs/{run_id}/thumb/{row}")
    def thumb(run_id: str, row: int) -> Response:
        return _picture(view_picture(open_run(run_id), row, side=THUMB_SIDE, allowed=may_read), quality=80)

    @router.get("/runs/{run_id}/mask/{row}")
    def mask(run_id: str, row: int) -> Response:
        found = view_mask(open_run(run_id), row, side=VIEW_SIDE, allowed=may_read)
        if found is None:
            raise PictureError("this image has no mask")
        return _picture(found, kind="PNG")


def _picture(picture: Image.Image, *, kind: str = "JPEG", quality: int = 90) -> Response:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=quality)
    return Response(buffer.getvalue(), media_type=f"image/{kind.lower()}", headers={"Cache-Control": PICTURE_LIVES})


# --- To take away --------------------------------------------------------------------------------------------------


def _saving(router: APIRouter, explorer: Explorer) -> None:
    open_run, may_read = explorer.runs.get, explorer.places.may_read

    def parts_of_sheet(run: Run, image: str) -> tuple[Image.Image, dict[str, Any], dict[str, Any]]:
        timeline = run.timeline(image)
        if len(timeline["epochs"]) == 0:
            raise RunError(f"run {run.id} has recorded no epoch yet", "wait for the first epoch")
        picture = view_picture(run, run.row(image), side=VIEW_SIDE, allowed=may_read)
        return picture, timeline, loss_distributions(timeline, run.config)

    @router.get("/runs/{run_id}/frame.png")
    def frame(
        run_id: str, image: str, settings: Annotated[SheetSettings, Depends(_sheet_settings)], epoch: int = -1
    ) -> Response:
        run = open_run(run_id)
        picture, timeline, distributions = parts_of_sheet(run, image)
        points = [at for at, value in enumerate(timeline["epochs"]) if value == epoch] or [len(timeline["epochs"]) - 1]
        title, caption = _sheet_title(run, image), _sheet_caption(run, image, timeline, points[0])
        sheet = draw_frame(picture, timeline, distributions, points[0], settings, title=title, caption=caption)
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG")
        return _file(buffer.getvalue(), "image/png", f"{_stem(run, image)}-epoch-{timeline['epochs'][points[0]]}.png")

    @router.get("/runs/{run_id}/animation.gif")
    def animation(run_id: str, image: str, settings: Annotated[SheetSettings, Depends(_sheet_settings)]) -> Response:
        run = open_run(run_id)
        picture, timeline, distributions = parts_of_sheet(run, image)
        if len(timeline["epochs"]) > MAX_ANIMATED_EPOCHS:
            timeline, distributions = thinned(timeline), thinned(distributions)
        content = draw_animation(
            picture, timeline, distributions, settings, title=_sheet_title(run, image),
            caption=lambda point: _sheet_caption(run, image, timeline, point),
        )  # fmt: skip
        return _file(content, "image/gif", f"{_stem(run, image)}.gif")

    def thinned(arrays: dict[str, Any]) -> dict[str, Any]:
        """Epochs at even distances, the first and the last among them: an animation of thousands helps nobody."""
        count = max(len(values) for values in arrays.values() if values is not None)
        kept = sorted({round(at * (count - 1) / (MAX_ANIMATED_EPOCHS - 1)) for at in range(MAX_ANIMATED_EPOCHS)})
        return {name: None if values is None else values[kept] for name, values in arrays.items()}

    @router.get("/runs/{run_id}/maps.npz")
    def maps(run_id: str, image: str) -> Response:
        run = open_run(run_id)
        return _file(maps_as_npz(run.timeline(image)), "application/zip", f"{_stem(run, image)}.npz")


def _sheet_settings(
    maps: str = "cam,gradcam,learned", scale: str = "distribution", opacity: float = 0.65, colours: str = "viridis",
    cells: bool = False, predicted: bool = False, first: str = "", second: str = "",
) -> SheetSettings:  # fmt: skip
    kinds = tuple(name.removesuffix("_predicted") for name in maps.split(",") if name)
    try:
        return SheetSettings(
            maps=kinds, scale=scale, opacity=opacity, colour_map=colours, smooth=not cells, predicted=predicted,
            difference=(first, second) if first and second else None,
        )  # fmt: skip
    except ValueError as error:
        raise RunError(f"the picture cannot be drawn like this: {error}") from error


def _sheet_title(run: Run, image: str) -> str:
    return run.classes[run.samples[run.row(image)]["label"]]


def _sheet_caption(run: Run, image: str, timeline: dict[str, Any], point: int) -> str:
    predicted, label = int(timeline["predicted"][point]), run.samples[run.row(image)]["label"]
    verdict = "right" if predicted == label else "wrong"
    return (
        f"Predicted {run.classes[predicted]} ({verdict}, {float(timeline['confidence'][point]):.0%}). "
        f"{image}, run {run.id}."
    )


def _stem(run: Run, image: str) -> str:
    """A file name for what belongs to one image of a run."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in Path(image).stem)
    return f"{run.id}-{plain.strip('-') or 'image'}"


def _file(content: bytes, kind: str, name: str) -> Response:
    return Response(content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


# --- Through the weights -------------------------------------------------------------------------------------------


def _inspecting(router: APIRouter, explorer: Explorer) -> None:
    open_run, places = explorer.runs.get, explorer.places

    @router.get("/runs/{run_id}/weights")
    def weights(run_id: str) -> Response:
        return json_answer(weights_of(open_run(run_id)))

    @router.post("/runs/{run_id}/inspect")
    async def inspect(
        request: Request, run_id: str, image: str = "", maps: str = "cam,gradcam,learned", epochs: str = "last",
        channels: bool = False,
    ) -> Response:  # fmt: skip
        label_text = request.query_params.get("class", "")
        uploaded = None if image else await received(request, MAX_PHOTOGRAPH_BYTES, "the photograph")

        def work() -> bytes:
            run = open_run(run_id)
            names, label, wanted = chosen_maps(maps), chosen_label(run, label_text), chosen_epochs(run, epochs)
            path = Path(uploaded.name) if uploaded else recorded_path(run, image)
            name = "the photograph" if uploaded else image
            photograph = read_photograph(path, name=name)
            return attend_message(
                explorer.networks, run, photograph, maps=names, label=label, epochs=wanted, channels=channels
            )

        def recorded_path(run: Run, sample_id: str) -> Path:
            path = Path(str(run.samples[run.row(sample_id)].get("path")))
            if not places.may_read(path) or not path.is_file():
                raise PictureError(
                    "the photograph itself is not where this server may read, so the network cannot look at it again"
                )
            return path

        try:
            return Response(await run_in_threadpool(work), media_type="application/octet-stream")
        finally:
            if uploaded:
                uploaded.close()
