"""The form that starts a run, made from the configuration's own list of options, so that neither can drift.

`FIELDS` says which options are shown and in which order; label, help, range and choices come from
`sam_core.config.options()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from explorer.places import Places
from sam_core.config import (
    DEFAULT_POOLING,
    DEFAULT_PSEUDO,
    METHODS,
    POOLINGS,
    PRESETS,
    PSEUDO_ATTENTIONS,
    ConfigError,
    RunConfig,
    build_config,
    options,
)
from sam_core.recording.content import parse_json

#: What a person is asked first. Everything else is under Advanced, except what the server decides by itself.
MAIN = ("dataset", "label_ratio", "num_classes", "method", "pseudo", "backbone", "epochs")
DECIDED_BY_SERVER = ("data_root",)
GROUPS = {
    "data": "Data and labels",
    "model": "Network",
    "attention": "Attention loss",
    "training": "Optimisation",
    "recording": "Evaluation and recording",
    "machine": "Machine",
}
BACKBONES = ("tf_efficientnet_lite0", "resnet18", "resnet50.tv_in1k", "mobilenetv3_large_100", "convnext_tiny")
LABELS = {
    "dataset": "Dataset", "label_ratio": "Labelled images, % of each class", "num_classes": "Classes",
    "method": "Method", "pseudo": "Pseudo-attention", "backbone": "Backbone", "epochs": "Epochs",
    "lr": "Learning rate", "head_lr": "Learning rate, classifier", "attention_lr": "Learning rate, attention head",
    "attention_maps": "Attention maps, K", "temperature": "Temperature, tau",
    "attention_weight": "Attention weight, lambda",
    "keep_checkpoints": "Keep checkpoints", "eval_every": "Evaluate every", "tensorboard": "TensorBoard files",
}  # fmt: skip
#: Shown when a field is left open: what then happens.
OPEN = {"num_classes": "all", "epochs": "12", "iterations": "by epochs", "record": "every image", "eval_every": "1",
        "attention_maps": "16", "head_lr": "by pooling", "attention_lr": "10 × lr"}  # fmt: skip

FIELDS = (*MAIN, *(name for name in options() if name not in MAIN and name not in DECIDED_BY_SERVER))


def default_values() -> dict[str, Any]:
    """The form as it opens: the default run."""
    return {name: about["default"] for name, about in options().items() if name in FIELDS} | PRESETS["quick"]


def field_for(name: str, datasets: list[tuple[str, str]]) -> gr.components.Component:
    """The component of one option."""
    about = options()[name]
    kind = str(about["type"])
    label = LABELS.get(name, name.replace("_", " ").capitalize())
    given: dict[str, Any] = {"label": label, "info": _sentence(about["help"]), "elem_id": f"field-{name}"}
    value = shown_value(name, default_values()[name])
    if name == "dataset":
        return gr.Dropdown(datasets, value=value, allow_custom_value=True, **given)
    if name == "method":
        given["info"] = " ".join(f"{method}: {about}." for method, about in METHODS.items())
        return gr.Radio(list(METHODS), value=value, **given)
    if name == "backbone":
        return gr.Dropdown(list(BACKBONES), value=value, allow_custom_value=True, **given)
    if name == "label_ratio":
        return gr.Slider(1, 100, value=value, step=0.5, **given)
    if name in ("pseudo", "pooling"):
        # Their choices change with the method. Gradio would refuse a value that has just left them before we are asked.
        return gr.Dropdown(
            possible(name, default_values()),
            value=fitting(name, value, default_values()),
            allow_custom_value=True,
            **given,
        )
    if name == "milestones":
        return gr.Textbox(value, max_lines=1, **given)
    if about["choices"]:
        return gr.Dropdown(list(about["choices"]), value=value, **given)
    if "bool" in kind:
        return gr.Checkbox(value, **given)
    if "None" in kind:  # a number field of Gradio's cannot be left open: it would say 0
        return gr.Textbox(value, placeholder=OPEN.get(name), max_lines=1, **given)
    if "int" in kind or "float" in kind:
        return gr.Number(value, precision=0 if "int" in kind else None, **given)
    return gr.Textbox(value or "", max_lines=1, **given)


def shown_value(name: str, value: Any) -> Any:
    """A value as its field shows it: lists as text, what is left open as nothing."""
    kind = str(options()[name]["type"])
    if isinstance(value, tuple):
        return ", ".join(f"{part:g}" for part in value)
    if "None" in kind and ("int" in kind or "float" in kind):
        return "" if value is None else f"{value:g}"
    return value


def config_of(values: Mapping[str, Any], places: Places) -> RunConfig:
    """The configuration that a form or a caller asks for; what is absent or left open keeps its default.

    Raises:
        ConfigError: naming the field, for a choice that cannot be.
    """
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    chosen = {name: _typed(name, value) for name, value in given.items()}
    for name in DECIDED_BY_SERVER:
        if name in chosen:
            raise ConfigError(name, "is decided when the server is started")
    if "iterations" in chosen and chosen.get("epochs") == PRESETS["quick"]["epochs"]:
        del chosen["epochs"]  # the form's own value gives way to what the person filled in
    for name in ("dataset", "weights", "name"):
        if name in chosen and not isinstance(chosen[name], str):
            raise ConfigError(name, f"must be text, not {chosen[name]!r}")
    if "dataset" in chosen:
        chosen["dataset"] = places.dataset(chosen["dataset"])
    if "weights" in chosen:
        chosen["weights"] = places.weights(chosen["weights"])
    data_root = places.data_root_of(chosen.get("dataset", "fieldguide"))
    return build_config(chosen | {"data_root": str(data_root)})


def proposed_values(proposal: str | None, places: Places) -> dict[str, Any]:
    """The choices in a proposal, each as its option has it; what makes no sense is left out.

    Args:
        proposal: a JSON object of options and values, as the page sends it.
        places: where its dataset may be.
    """
    try:
        given = parse_json((proposal or "").encode())
        values = {name: value for name, value in dict(given).items() if name in FIELDS}
        config = config_of(values, places)
    except (ConfigError, ValueError, TypeError):
        return {}
    return {name: getattr(config, name) for name in values}


def possible(name: str, values: Mapping[str, Any]) -> list[str]:
    """The choices of `pseudo` or `pooling` that go with the rest of the form."""
    method = str(values.get("method") or "sam")
    if name == "pooling":
        return [choice for choice in POOLINGS if _goes_together(method=method, pooling=choice, pseudo="gradcam")]
    if method == "finetune":
        return []
    pooling = fitting("pooling", values.get("pooling"), {"method": method})
    return [choice for choice in PSEUDO_ATTENTIONS if _goes_together(method=method, pooling=pooling, pseudo=choice)]


def fitting(name: str, value: Any, values: Mapping[str, Any]) -> str | None:
    """A choice of `pseudo` or `pooling` that goes with the rest of the form: `value`, or what takes its place."""
    choices = possible(name, values)
    default = (DEFAULT_POOLING if name == "pooling" else DEFAULT_PSEUDO)[str(values.get("method") or "sam")]
    return next((choice for choice in (value, default, *choices) if choice in choices), None)


def _goes_together(**choices: Any) -> bool:
    try:
        RunConfig(**choices)
    except ConfigError:
        return False
    return True


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _typed(name: str, value: Any) -> Any:
    """A field's value as its option has it: text is read as a number, 12.0 as 12 where a whole number is wanted."""
    kind = str(options()[name]["type"]) if name in options() else "str"
    if isinstance(value, str) and "tuple" in kind:
        return tuple(_number(name, part) for part in value.split(",") if part.strip())
    if isinstance(value, str) and ("int" in kind or "float" in kind):
        value = _number(name, value)
    return int(value) if "int" in kind and isinstance(value, float) and value.is_integer() else value


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(name, f"must be a number, not {text[:60]!r}") from None
