"""The named endpoints, so that `gradio_client` can do what a person can."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from explorer import form
from explorer.attention.photographs import PhotographError, read_photograph
from explorer.context import Explorer
from explorer.data.contents import description
from sam_core.config import ConfigError, options
from sam_core.datasets.base import DatasetError
from sam_core.recording import layout
from sam_core.recording.writer import RunError

_ANY_WAY = inspect.Parameter.POSITIONAL_OR_KEYWORD


def add_endpoints(explorer: Explorer) -> None:
    """Declare every endpoint in the page that is being built."""
    for function in _endpoints(explorer):
        gr.api(_saying_what_is_wrong(function), api_name=function.__name__, concurrency_limit=None)


def _endpoints(explorer: Explorer) -> list[Callable[..., Any]]:
    places = explorer.places

    def datasets() -> list[dict]:
        """The datasets that a run can be started on: name, label, description, layout, classes, images by split."""
        shown = ("name", "label", "description", "layout", "classes", "images")
        return [{name: row[name] for name in shown} for row in explorer.datasets.usable()]

    def dataset(
        name: str, label_ratio: float = 10.0, num_classes: int | None = None, split_seed: int = 0,
        class_level: str = "variant",
    ) -> dict:  # fmt: skip
        """What is in a dataset and which of its images are labelled at a ratio (percent).

        Returns `layout`, `classes`, `images` by split, `labelled`, `labelled_by`, `labelled_ids`, `counts` per class,
        `problems`.
        """
        choices = {
            "dataset": name, "label_ratio": label_ratio, "num_classes": num_classes, "split_seed": split_seed,
            "class_level": class_level,
        }  # fmt: skip
        config = form.config_of(choices, places)
        return description(explorer.shelf.open(explorer.shelf.select(config)).dataset, config)

    def start_run(**choices: Any) -> dict:
        """Start a run; without any argument the default one. Answers at once with its id; it may wait in the queue.

        Beside the options of a run there is `processes`: on how many GPUs it is trained (1).
        """
        processes = choices.pop("processes", None) or 1
        return {"run": explorer.start(form.config_of(choices, places), processes=processes)}

    def stop_run(run: str) -> dict:
        """Stop a run after the step at hand; it can be resumed."""
        return {"run": run, "state": explorer.stop(run)}

    def resume_run(run: str) -> dict:
        """Go on with a run that was stopped, failed or was interrupted."""
        return {"run": run, "state": explorer.resume(run)}

    def runs() -> list[dict]:
        """Every run, newest first: id, name, notes, state, progress, choices, test accuracy in percent."""
        return explorer.library.summaries()

    def status(run: str) -> dict:
        """What status.json of a run says now, and `shown_state`: the state as the page shows it."""
        opened = explorer.runs.get(run)
        summary = explorer.library.summary(run) or {}
        return opened.status | {"shown_state": summary.get("state")}

    def metrics(run: str, kind: str | None = None) -> list[dict]:
        """The lines of a run's metrics.jsonl, all of them or those of one kind: step, epoch."""
        return explorer.runs.get(run).metrics(kind)

    def samples(run: str) -> list[dict]:
        """Every recorded image of a run: id, split, label, labelled, box, parts."""
        private = ("path", "mask")  # where files lie on the server is nobody's business
        return [
            {name: value for name, value in sample.items() if name not in private}
            for sample in explorer.runs.get(run).samples
        ]

    def timeline(run: str, id: str) -> dict:
        """All recorded epochs of one image: `epochs`, `predicted`, `confidence`, each map as nested lists or null."""
        found = explorer.runs.get(run).timeline(id)
        return {name: None if values is None else values.tolist() for name, values in found.items()}

    def predict(run: str, image: gr.FileData) -> dict:
        """Classify a photograph (`gradio_client.handle_file(path)`) with a run's trained network.

        Returns `label`, `confidence`, and `top`: the best five as [class, probability].
        """
        photograph = read_photograph(_uploaded(image))
        with explorer.networks.inspector(explorer.runs.get(run)) as inspector:
            attended = inspector.attend(photograph, [])
        return {
            "label": attended.top[0][0],
            "confidence": attended.top[0][1],
            "top": [list(row) for row in attended.top],
        }

    _declare_options(start_run)
    return [datasets, dataset, start_run, stop_run, resume_run, runs, status, metrics, samples, timeline, predict]


def _declare_options(function: Callable[..., Any]) -> None:
    """Give a function that takes every option by name the signature that says so: all optional, all typed."""
    hints: dict[str, Any] = {}
    for name, about in options().items():
        if name in form.DECIDED_BY_SERVER:
            continue
        kind = next((plain for plain in ("bool", "int", "float") if plain in str(about["type"])), "str")
        hints[name] = {"bool": bool, "int": int, "float": float, "str": str}[kind] | None
    hints["processes"] = int | None
    parameters = [inspect.Parameter(name, _ANY_WAY, default=None, annotation=hint) for name, hint in hints.items()]
    function.__signature__ = inspect.Signature(parameters, return_annotation=dict)
    function.__annotations__ = {**hints, "return": dict}


def _saying_what_is_wrong(function: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint, with refusals as errors that a client sees in words."""

    def endpoint(*arguments: Any, **named: Any) -> Any:
        names = [name for name in inspect.signature(function).parameters]
        given = dict(zip(names, arguments, strict=False)) | named
        try:
            return _plain(function(**given))
        except (ConfigError, RunError, DatasetError, PhotographError) as error:
            hint = getattr(error, "hint", "")
            raise gr.Error(f"{error}" + (f" ({hint})" if hint else ""), print_exception=False) from error

    endpoint.__name__ = function.__name__
    endpoint.__doc__ = function.__doc__
    endpoint.__signature__ = inspect.signature(function)
    endpoint.__annotations__ = function.__annotations__
    return endpoint


def _uploaded(image: Any) -> Path:
    """The file that a client has just uploaded; any other path on the server is refused."""
    named = image.get("path") if isinstance(image, dict) else getattr(image, "path", None)
    path = Path(str(named)).resolve()
    if named is None or not path.is_relative_to(Path(get_upload_folder()).resolve()):
        raise ConfigError("image", "must be an uploaded file; with gradio_client use handle_file(path)")
    return path


def _plain(value: Any) -> Any:
    """As JSON has it: what is not finite becomes null."""
    return json.loads(layout.dump_json(value))
