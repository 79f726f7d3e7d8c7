"""Every choice of a run: named, explained, validated once, and carried to and from JSON.

The fields of `RunConfig` are the only list of options: the command line and the explorer's form are built from their
metadata (`options()`), so neither can drift from the engine.
"""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

FORMAT_VERSION = 1

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DEFAULT_DATA_ROOT = PROJECT_ROOT / "data"
DEFAULT_RUNS = PROJECT_ROOT / "checkpoints" / "runs"
PRETRAINED_DIR = PROJECT_ROOT / "checkpoints" / "pretrained"

#: Datasets that have a name (`sam_core.datasets.catalog` opens them); anything else is the path of a folder.
DATASETS = ("fieldguide", "cub200", "cars", "aircraft", "flowers102", "pets")
CLASS_LEVELS = ("variant", "family", "manufacturer")
METHODS = {
    "finetune": "the baseline: the whole network is trained, no attention head",
    "sam": "self-boosting attention: a head learns to fit the network's own class activation map",
    "sam-bilinear": "SAM whose attention maps also pool the features that the classifier sees",
}
POOLINGS = ("gap", "bilinear", "attention", "compact")
PSEUDO_ATTENTIONS = (
    "cam",
    "gradcam",
    "gradcam++",
    "xgradcam",
    "layercam",
    "hirescam",
    "eigencam",
    "eigengradcam",
    "finercam",
    "ablationcam",
)
TARGET_SCALES = ("raw", "sum", "max")
SCHEDULES = ("cosine", "multistep", "constant")
AUGMENTATIONS = ("none", "flip", "crop", "randaugment")
DEVICES = ("auto", "cpu", "cuda", "mps")
COMPILE_MODES = ("off", "default", "reduce-overhead", "max-autotune")
PRECISIONS = ("auto", "float32", "bfloat16")

DEFAULT_POOLING = {"finetune": "gap", "sam": "gap", "sam-bilinear": "bilinear"}
DEFAULT_PSEUDO = {"finetune": None, "sam": "cam", "sam-bilinear": "gradcam"}
#: The classifier's learning rate in multiples of the backbone's. Where the classifier sees a vector of length 1 its
#: weights have far to go. How these were chosen: benchmarks/defaults.md. The released code has 10 and 1.
HEAD_LR_FACTOR = {"gap": 3, "bilinear": 100, "attention": 100, "compact": 3}
ATTENTION_LR_FACTOR = 10
#: Images are stored at 256 px for a view of 224 px, as in the released protocol ("resize 256, crop 224").
STORE_SCALE = 256 / 224


class ConfigError(ValueError):
    """A choice that cannot be; `field` is its name, the message says what would be right."""

    def __init__(self, field_name: str, message: str) -> None:
        self.field = field_name
        super().__init__(f"{field_name}: {message}")


def option(
    default: Any,
    help: str,
    group: str,
    *,
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
) -> Any:
    """A field of `RunConfig` with what a form needs to show it. `low` and `high` are included, `above` is not."""
    metadata = {"help": help, "group": group, "choices": choices, "low": low, "high": high, "above": above}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class RunConfig:
    """One run. Values left `None` are filled from the method when the object is made; afterwards every one is set."""

    # Data
    dataset: str = option("fieldguide", "name of a dataset, or the path of a folder or zip of photographs", "data")
    data_root: str = option(str(DEFAULT_DATA_ROOT), "where named datasets are kept", "data")
    label_ratio: float = option(
        10.0, "percent of the training images whose label is used, at least one per class", "data", above=0, high=100
    )
    num_classes: int | None = option(None, "use the first K classes only, in training and in testing", "data", low=2)
    validation: float = option(
        0.0,
        "share of the training images held out for choosing, first of those the label ratio leaves unlabelled",
        "data",
        low=0,
        high=0.5,
    )
    habitat_bias: float = option(
        0.8,
        "fieldguide only: how strongly the habitat predicts the species in training (the test split is unbiased)",
        "data",
        low=0,
        high=1,
    )
    class_level: str = option("variant", "aircraft only: what counts as a class", "data", choices=CLASS_LEVELS)
    split_seed: int = option(0, "seed of the labelled subset and of held-out splits", "data", low=0)
    image_size: int = option(224, "side in pixels of what the network sees", "data", low=32, high=1024)
    augment: str = option(
        "crop",
        "training views: none, flip, crop (random crop and flip), randaugment (crop, flip and two random changes)",
        "data",
        choices=AUGMENTATIONS,
    )
    crop_scale: float = option(
        0.35, "smallest share of the image's area that a random crop keeps (0.08 in the paper)", "data", above=0, high=1
    )

    # Model
    method: str = option("sam", "what is trained", "model", choices=tuple(METHODS))
    pooling: str | None = option(
        None,
        "how features become the classifier's input; by default gap, for sam-bilinear bilinear",
        "model",
        choices=POOLINGS,
    )
    pooling_start: int = option(
        0, "with attention pooling: iterations of gap before it begins (800 in the released code)", "model", low=0
    )
    backbone: str = option("tf_efficientnet_lite0", "any timm network that gives a feature map", "model")
    weights: str = option("imagenet", "imagenet, none, or the path of a weights file", "model")
    attention_maps: int | None = option(
        None, "K, the attention head's maps: 1 in the paper's figure, 16 in the released code and here", "model", low=1
    )

    # Attention loss
    pseudo: str | None = option(
        None,
        "the pseudo-attention that the head fits; by default cam, for sam-bilinear gradcam; not used by finetune",
        "attention",
        choices=PSEUDO_ATTENTIONS,
    )
    temperature: float = option(
        0.4, "tau of the softmax that turns a map into a distribution", "attention", above=0, high=100
    )
    attention_weight: float = option(
        0.3, "lambda, the weight of the attention loss per image (0.24 is the released value)", "attention", low=0
    )
    warmup: float = option(
        0.1, "share of the run during which lambda rises from 0: an untrained classifier's CAM is noise", "attention",
        low=0, high=1,
    )  # fmt: skip
    target_scale: str = option(
        "sum",
        "how the pseudo-attention becomes a target: raw (released: softmax of the raw map), sum (the map divided by "
        "its sum), max (softmax of the map divided by its maximum)",
        "attention",
        choices=TARGET_SCALES,
    )

    # Optimisation
    epochs: int | None = option(None, "passes over the labelled images (12 if neither is given)", "training", low=1)
    iterations: int | None = option(None, "optimisation steps, instead of epochs", "training", low=1)
    batch_size: int = option(
        16,
        "at most so many images a step, by all processes together; the batches of an epoch are made even",
        "training",
        low=1,
    )
    lr: float = option(0.01, "learning rate of the backbone", "training", above=0, high=100)
    head_lr: float | None = option(
        None,
        "learning rate of the classifier; by default 3 times --lr, or 100 times for bilinear and attention pooling",
        "training",
        above=0,
        high=1000,
    )
    attention_lr: float | None = option(
        None, "learning rate of the attention head; by default 10 times --lr", "training", above=0, high=1000
    )
    momentum: float = option(0.9, "Nesterov momentum of SGD", "training", low=0, high=0.9999)
    weight_decay: float = option(1e-4, "weight decay", "training", low=0, high=1)
    schedule: str = option("cosine", "how the learning rates fall", "training", choices=SCHEDULES)
    milestones: tuple[float, ...] = option(
        (0.2, 0.4, 0.6, 0.8), "shares of the run after which multistep divides by ten", "training"
    )
    label_smoothing: float = option(0.0, "label smoothing of the cross-entropy", "training", low=0, high=0.9)
    seed: int = option(
        0, "seed of the initial heads, the order of the images and their random views", "training", low=0
    )

    # Evaluation and recording
    test_crops: int = option(1, "views per test image: 1 (centre) or 10 (corners and centre, flipped)", "recording")
    record: int | None = option(
        None, "record the attention of at most N images (by default every one)", "recording", low=1
    )
    eval_every: int | None = option(
        None,
        "evaluate and record every N epochs (1), or with --iterations every N iterations (1000)",
        "recording",
        low=1,
    )
    keep_checkpoints: int = option(0, "keep the weights of every N-th epoch (0: of the last only)", "recording", low=0)
    tensorboard: bool = option(False, "also write TensorBoard event files", "recording")

    # Where it runs
    device: str = option("auto", "auto takes a GPU if there is one", "machine", choices=DEVICES)
    precision: str = option("auto", "auto is bfloat16 on a CUDA GPU, else float32", "machine", choices=PRECISIONS)
    compile: str = option(
        "off",
        "compile the backbone with torch.compile, in this mode: minutes at the first epoch, then faster steps; "
        "reduce-overhead replays them as CUDA graphs, which pays for small networks and batches on a GPU",
        "machine",
        choices=COMPILE_MODES,
    )
    name: str = option("", "a name for the run, for people", "machine")

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, _checked(item.name, getattr(self, item.name), item.metadata))
        # Places are absolute, so that the run can be resumed from anywhere.
        for name, names in (("dataset", DATASETS), ("weights", ("imagenet", "none")), ("data_root", ())):
            if getattr(self, name) not in names:
                object.__setattr__(self, name, os.path.abspath(os.path.expanduser(getattr(self, name))))
        self._fill_from_method()
        self._refuse_contradictions()

    def _fill_from_method(self) -> None:
        fill = {
            "pooling": self.pooling or DEFAULT_POOLING[self.method],
            "pseudo": None if self.method == "finetune" else self.pseudo or DEFAULT_PSEUDO[self.method],
            "attention_maps": self.attention_maps or 16,
            "head_lr": self.head_lr or HEAD_LR_FACTOR[str(self.pooling or DEFAULT_POOLING[self.method])] * self.lr,
            "attention_lr": self.attention_lr or ATTENTION_LR_FACTOR * self.lr,
            "epochs": self.epochs if self.epochs or self.iterations else 12,
            "eval_every": self.eval_every or (1000 if self.iterations else 1),
        }
        for name, value in fill.items():
            object.__setattr__(self, name, value)

    def _refuse_contradictions(self) -> None:
        if self.epochs and self.iterations:
            raise ConfigError("epochs", "give epochs or iterations, not both")
        if self.method == "finetune" and self.pooling != "gap":
            raise ConfigError(
                "pooling", f"{self.pooling} needs an attention head, finetune has none; use gap or method sam"
            )
        if self.method == "sam-bilinear" and self.pooling not in ("bilinear", "compact"):
            raise ConfigError(
                "pooling", f"sam-bilinear pools with its attention maps; use bilinear or compact, not {self.pooling}"
            )
        if self.pseudo == "cam" and self.pooling == "compact":
            raise ConfigError("pseudo", "cam does not exist under compact pooling; use gradcam")
        if self.pooling_start and self.pooling != "attention":
            raise ConfigError("pooling_start", "only attention pooling can begin later; leave it 0")
        if self.test_crops not in (1, 10):
            raise ConfigError("test_crops", f"must be 1 or 10, not {self.test_crops}")
        if any(not 0 < share < 1 for share in self.milestones) or list(self.milestones) != sorted(self.milestones):
            raise ConfigError("milestones", f"must be rising shares between 0 and 1, not {list(self.milestones)}")

    @property
    def has_attention(self) -> bool:
        """Whether the network has an attention head."""
        return self.method != "finetune"

    def pooling_at(self, step: int) -> str:
        """The pooling in use after `step` optimisation steps: the released protocol begins with `gap`."""
        return "gap" if step < self.pooling_start else str(self.pooling)

    def to_json(self) -> dict[str, Any]:
        """The whole configuration as plain values, with its format version."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["milestones"] = list(self.milestones)
        return {"format": FORMAT_VERSION, **values}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunConfig:
        """Read what `to_json` wrote; unknown or ill-typed values are a `ConfigError` that names the field."""
        values = dict(values)
        version = values.pop("format", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise ConfigError("format", f"this program reads version {FORMAT_VERSION}, the file has {version!r}")
        return cls(**known_options(values))


_TYPES = get_type_hints(RunConfig)


def options() -> dict[str, Mapping[str, Any]]:
    """Every option by name: its default, type, help, group, choices and range, for command line and forms."""
    return {
        item.name: {"default": item.default, "type": _TYPES[item.name], **item.metadata} for item in fields(RunConfig)
    }


def known_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with dashes turned to underscores; a name that is no option raises, with the nearest one."""
    known = {item.name for item in fields(RunConfig)}
    result = {}
    for raw_name, value in values.items():
        name = str(raw_name).replace("-", "_")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(str(raw_name), "is no option" + (f"; did you mean {close[0]}?" if close else ""))
        result[name] = value
    return result


#: `quick` is what the explorer starts by itself; its values are the defaults, named so that they can be asked for.
#: `paper` is the protocol of the released code (Shu et al., ECCV 2022, github.com/GANPerf/SAM), every number; what we
#: changed is the loss's mean over the batch: 0.24 per image equals their 0.01 summed over a batch of 24.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"dataset": "fieldguide", "label_ratio": 10.0, "method": "sam", "batch_size": 16, "epochs": 12},
    "paper": {
        "backbone": "resnet50.tv_in1k",
        "image_size": 224,
        "augment": "randaugment",
        "crop_scale": 0.08,
        "batch_size": 24,
        "lr": 1e-3,
        "head_lr": 1e-2,
        "attention_lr": 1e-3,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "multistep",
        "milestones": (0.2, 0.4, 0.6, 0.8),
        "iterations": 30_000,
        "eval_every": 1000,
        "attention_maps": 16,
        "pooling": "attention",
        "pooling_start": 800,
        "temperature": 0.4,
        "attention_weight": 0.24,
        "warmup": 0.0,
        "target_scale": "raw",
        "test_crops": 10,
    },
}

#: The released pooling belongs to method `sam`; the other methods keep their own under preset `paper`.
_ONLY_FOR_SAM = ("pooling", "pooling_start")


def build_config(
    flags: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    preset: str | None = None,
) -> RunConfig:
    """Lay the choices over each other: flags win over the file, the file over the preset, the preset over defaults."""
    if preset is not None and preset not in PRESETS:
        raise ConfigError("preset", f"must be one of {', '.join(PRESETS)}, not {preset!r}")
    merged: dict[str, Any] = dict(PRESETS[preset]) if preset else {}
    for layer in (_read_file(file) if file else {}, known_options(flags or {})):
        if layer.get("epochs") is not None and layer.get("iterations") is None:
            merged.pop("iterations", None)
            merged.pop("eval_every", None)
        if layer.get("iterations") is not None and layer.get("epochs") is None:
            merged.pop("epochs", None)
        merged |= layer
    if preset and merged.get("method", "sam") != "sam":
        chosen = set(known_options(flags or {})) | set(_read_file(file) if file else {})
        merged = {name: value for name, value in merged.items() if name not in _ONLY_FOR_SAM or name in chosen}
    return RunConfig(**merged)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("config", f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError("config", f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError("config", f"{path} must hold one JSON object")
    values.pop("format", None)
    return known_options(values)


def _checked(name: str, value: Any, rules: Mapping[str, Any]) -> Any:
    """`value` in its field's type and range, or a `ConfigError`."""
    value = _typed(name, value, str(_TYPES[name]))
    if value is None:
        return None
    choices = rules["choices"]
    if choices and value not in choices:
        close = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ConfigError(name, f"must be one of {', '.join(choices)}, not {value!r}{hint}")
    low, high, above = rules["low"], rules["high"], rules["above"]
    too_low = (low is not None and value < low) or (above is not None and value <= above)
    if too_low or (high is not None and value > high):
        floor = f"at least {low:g}" if low is not None else f"above {above:g}"
        ceiling = f" and at most {high:g}" if high is not None else ""
        raise ConfigError(name, f"must be {floor}{ceiling}, not {value:g}")
    return value


def _typed(name: str, value: Any, expected: str) -> Any:
    optional = "None" in expected
    if value is None:
        if optional:
            return None
        raise ConfigError(name, "must have a value")
    if "tuple" in expected:
        if not isinstance(value, list | tuple) or not all(_is_number(part) for part in value):
            raise ConfigError(name, f"must be a list of numbers, not {value!r}")
        return tuple(float(part) for part in value)
    if "bool" in expected:
        if not isinstance(value, bool):
            raise ConfigError(name, f"must be true or false, not {value!r}")
        return value
    if "int" in expected:
        if not _is_number(value) or value != int(value):
            raise ConfigError(name, f"must be a whole number, not {value!r}")
        return int(value)
    if "float" in expected:
        if not _is_number(value):
            raise ConfigError(name, f"must be a number, not {value!r}")
        return float(value)
    if not isinstance(value, str):
        raise ConfigError(name, f"must be text, not {value!r}")
    return value


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False  # a whole number longer than any float
