"""Every pseudo-attention against the published packages, against its own equation, and against its promises."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import timm
import torch
from pytorch_grad_cam import (
    AblationCAM,
    EigenCAM,
    EigenGradCAM,
    FullGrad,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    XGradCAM,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torchcam import methods as torchcam

from sam_core.losses import TARGET_SCALES, attention_loss
from sam_core.models.attention_head import learned_attention
from sam_core.models.head import ClassifierHead
from sam_core.models.pooling import POOLINGS
from sam_core.models.sam_net import SAMNet
from sam_core.pseudo_attention import (
    PSEUDO_ATTENTION,
    Evidence,
    _bias_outputs,
    first_component,
    inspect_attention,
    pseudo_attention,
)

TRAINS = [name for name, info in PSEUDO_ATTENTION.items() if info.trains]
INSPECTS = [name for name, info in PSEUDO_ATTENTION.items() if not info.trains]
CLASSES = 5
MAPS = 3


class TinyBackbone(nn.Module):
    """Two convolutions with ReLU, one in place, a batch-norm with a past, and a layer with a bias: (B, 10, 7, 7)."""

    feature_channels = 10

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.normalisation = nn.BatchNorm2d(6)
        self.activation = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(6, 10, 3, stride=2, padding=1)
        self.last_activation = nn.ReLU()
        with torch.no_grad():
            self.normalisation.running_mean.uniform_(-0.5, 0.5)
            self.normalisation.running_var.uniform_(0.5, 2)
            self.normalisation.weight.uniform_(0.5, 2)
            self.normalisation.bias.uniform_(-0.5, 0.5)

    def forward_features(self, images: Tensor) -> Tensor:
        hidden = self.activation(self.normalisation(self.first(images)))
        return self.last_activation(self.second(hidden))

    forward = forward_features


class ScoresOnly(nn.Module):
    """The packages' view of a network: a module that gives the features, and a tensor of scores."""

    def __init__(self, model: SAMNet) -> None:
        super().__init__()
        self.features = model.backbone
        self.fc = model.head.classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images).mean(dim=(2, 3)))


def network(pooling: str = "gap", *, maps: int = MAPS, classes: int = CLASSES, seed: int = 0) -> SAMNet:
    torch.manual_seed(seed)
    model = SAMNet(TinyBackbone(), classes, pooling=pooling, attention_maps=maps)
    with torch.no_grad():
        # Scores that are clearly not zero, and buffers that are not the initial ones.
        model.head.classifier.weight.mul_(3)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-0.5, 0.5)
    return model.eval()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Maps of 49 positions are done before a second thread has woken up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 3, 4, 1])


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Of each image's two maps: (B,)."""
    pair = [values.flatten(1) - values.flatten(1).mean(dim=1, keepdim=True) for values in (one, other)]
    return functional.cosine_similarity(*pair, dim=1)


def grad_cam_map(method: type, model: SAMNet, images: Tensor, labels: Tensor) -> Tensor:
    """A map of the `grad-cam` package before its ReLU, its scaling and its enlargement."""
    wrapped = ScoresOnly(model).eval()
    targets = [ClassifierOutputTarget(int(label)) for label in labels]
    with method(wrapped, [wrapped.features]) as oracle:
        oracle(images, targets)
        activations = oracle.activations_and_grads.activations[0].numpy()
        gradients = oracle.activations_and_grads.gradients
        gradients = gradients[0].numpy() if gradients else None
        return torch.from_numpy(
            np.asarray(oracle.get_cam_image(images, wrapped.features, targets, activations, gradients, False))
        ).float()


def ours(name: str, model: SAMNet, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        output = model(images)
    result = pseudo_attention(name, output.features, output.attention, model.head, labels)
    assert result is not None
    return result


# Against the packages


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("gradcam", GradCAM),
        ("gradcam++", GradCAMPlusPlus),
        ("xgradcam", XGradCAM),
        ("layercam", LayerCAM),
        ("hirescam", HiResCAM),
        ("ablationcam", AblationCAM),
    ],
)
def test_a_map_equals_that_of_the_grad_cam_package_value_for_value(name, method, images, labels):
    model = network()
    result = ours(name, model, images, labels)
    expected = grad_cam_map(method, model, images, labels).relu()
    assert (expected.amax(dim=(1, 2)) > 0).all()
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))
    assert (correlation(result, expected) > 0.999).all()


@pytest.mark.parametrize(("name", "method"), [("eigencam", EigenCAM), ("eigengradcam", EigenGradCAM)])
def test_a_principal_component_equals_that_of_the_grad_cam_package_but_for_the_sign_which_we_fix(
    name, method, images, labels
):
    model = network()
    result = ours(name, model, images, labels)
    projection = grad_cam_map(method, model, images, labels)
    assert (result.amax(dim=(1, 2)) > 0).all()
    # The decomposition leaves the sign open. Ours grows with the channels' sum of what is decomposed.
    values = ours_decomposed(name, model, images, labels)
    mean = values.sum(dim=1).mean(dim=(1, 2), keepdim=True)
    sign = torch.sign((projection * (values.sum(dim=1) - mean)).sum(dim=(1, 2)))
    expected = (sign[:, None, None] * projection).relu()
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
    assert (correlation(result, expected) > 0.999).all()


def ours_decomposed(name: str, model: SAMNet, images: Tensor, labels: Tensor) -> Tensor:
    """What the two methods decompose, under gap: the features, or gradient times features with gradient W / (H*W)."""
    features = model(images).features.detach()
    if name == "eigencam":
        return features
    weights = model.head.classifier.weight.detach()[labels] / features[0, 0].numel()
    return weights[:, :, None, None] * features


@pytest.mark.parametrize(
    ("name", "method", "exact"),
    [
        ("cam", torchcam.CAM, True),
        ("gradcam", torchcam.GradCAM, True),
        ("xgradcam", torchcam.XGradCAM, True),
        ("layercam", torchcam.LayerCAM, True),
        ("finercam", torchcam.FinerCAM, True),
        ("scorecam", torchcam.ScoreCAM, False),
    ],
)
def test_a_map_agrees_with_that_of_torchcam(name, method, exact, images, labels):
    model = network()
    wrapped = ScoresOnly(model).eval()
    arguments = {"fc_layer": "fc"} if name == "cam" else {}
    with method(wrapped, "features", input_shape=(3, 28, 28), **arguments) as oracle:
        scores = wrapped(images)
        (expected,) = oracle(labels.tolist(), scores, normalized=False)
    result = inspect_attention(name, model, images, labels)
    expected = expected.detach().clamp_min(0)
    assert (correlation(result, expected) > 0.999).all()
    # ScoreCAM's masks there are divided by their maximum plus 1e-8, ours by their maximum: the same within rounding.
    tolerance = 1e-4 if exact else 1e-3
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance * float(expected.max()))


def test_fullgrad_differs_from_the_grad_cam_package_only_in_scaling_layers_rather_than_channels(images, labels):
    model = network()
    wrapped = ScoresOnly(model).eval()
    with FullGrad(wrapped, []) as oracle:
        expected = torch.from_numpy(oracle(images, [ClassifierOutputTarget(int(label)) for label in labels]))
    # Our biases and gradients, scaled as the package does it, channel by channel, give the package's map.
    leaf = images.clone().requires_grad_()
    with _bias_outputs(model.backbone) as outputs:
        scores = wrapped(leaf)
    gradients = torch.autograd.grad(scores.gather(1, labels[:, None]).sum(), [leaf, *(output for _, output in outputs)])
    shares = [leaf.detach() * gradients[0]]
    shares += [bias[:, None, None] * slope for (bias, _), slope in zip(outputs, gradients[1:], strict=True)]
    total = torch.zeros(4, 28, 28)
    for share in shares:
        share = scaled_to_one(share.abs())
        total += functional.interpolate(share, (28, 28), mode="bilinear", align_corners=False).sum(dim=1)
    torch.testing.assert_close(scaled_to_one(total), expected, rtol=1e-3, atol=1e-3)


def scaled_to_one(values: Tensor) -> Tensor:
    """Every map (..., H, W) to 0..1, as the package does it."""
    values = values - values.amin(dim=(-2, -1), keepdim=True)
    return values / (values.amax(dim=(-2, -1), keepdim=True) + 1e-7)


# Against the equations


def test_the_registry_has_the_twelve_names_and_says_which_of_them_train():
    assert TRAINS == [
        "cam", "gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "eigencam", "eigengradcam", "finercam",
        "ablationcam",
    ]  # fmt: skip
    assert INSPECTS == ["scorecam", "fullgrad"]
    assert all(info.label and info.description and info.source for info in PSEUDO_ATTENTION.values())


def test_under_global_pooling_grad_cam_is_cam_divided_by_the_number_of_positions(images, labels):
    model = network()
    cam, gradcam = ours("cam", model, images, labels), ours("gradcam", model, images, labels)
    torch.testing.assert_close(gradcam, cam / (7 * 7))
    # A constant gradient is its own average, so these two say the same there.
    torch.testing.assert_close(ours("hirescam", model, images, labels), gradcam)
    torch.testing.assert_close(ours("xgradcam", model, images, labels), gradcam, rtol=1e-4, atol=1e-6)


def test_cam_follows_the_equation_of_each_pooling(images, labels):
    for pooling in ("gap", "bilinear", "attention"):
        model = network(pooling)
        output = model(images)
        weights = model.head.classifier.weight[labels]
        if pooling == "bilinear":
            weights = weights.view(len(labels), MAPS, -1)
            expected = torch.einsum("bkc,bkhw,bchw->bhw", weights, output.attention, output.features)
        else:
            expected = torch.einsum("bc,bchw->bhw", weights, output.features)
        if pooling == "attention":
            expected = expected * output.attention.max(dim=1).values
        assert expected.max() > 0
        torch.testing.assert_close(ours("cam", model, images, labels), expected.detach().relu())


def test_cam_of_compact_pooling_does_not_exist(images, labels):
    model = network("compact")
    output = model(images)
    assert pseudo_attention("cam", output.features, output.attention, model.head, labels) is None
    assert inspect_attention("cam", model, images, labels) is None


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_gradient_agrees_with_finite_differences_of_the_score_with_the_attention_held_constant(
    pooling, images, labels
):
    model = network(pooling)
    output = model(images)
    attention = output.attention.detach().double()
    features = output.features.detach().double() + 0.1  # away from the square root's bend at zero
    head = model.head.double()
    direction = torch.randn(features.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def score(values: Tensor) -> Tensor:
        return head(values, attention).gather(1, labels[:, None]).squeeze(1)

    step = 1e-5
    slope = (score(features + step * direction) - score(features - step * direction)) / (2 * step)
    head.float()
    gradient = Evidence(features.float(), attention.float(), head, labels).gradient().double()
    along = (gradient * direction).sum(dim=(1, 2, 3))
    torch.testing.assert_close(along, slope.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_score_without_each_channel_equals_brute_force(pooling, images, labels):
    model = network(pooling)
    output = model(images)
    features, attention = output.features.detach(), output.attention.detach()
    drops = model.head.pooling.score_drops(features, attention, model.head.classifier.weight[labels])
    closed = output.scores.gather(1, labels[:, None]) - drops
    brute = torch.empty_like(closed)
    for channel in range(features.shape[1]):
        ablated = features.clone()
        ablated[:, channel] = 0
        brute[:, channel] = model.head(ablated, attention).gather(1, labels[:, None]).squeeze(1)
    assert (brute.std(dim=1) > 0).all()
    torch.testing.assert_close(closed, brute, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_ablation_cam_weighs_a_channel_by_the_relative_drop_of_the_score(pooling, images, labels):
    model = network(pooling)
    output = model(images)
    score = output.scores.gather(1, labels[:, None])
    drops = []
    for channel in range(output.features.shape[1]):
        ablated = output.features.clone()
        ablated[:, channel] = 0
        drops.append(score - model.head(ablated, output.attention).gather(1, labels[:, None]))
    weights = torch.cat(drops, dim=1) / score
    expected = torch.einsum("bc,bchw->bhw", weights, output.features).relu().detach()
    torch.testing.assert_close(ours("ablationcam", model, images, labels), expected, rtol=1e-3, atol=1e-4)


def test_ablation_cam_survives_a_score_of_zero(images, labels):
    model = network()
    with torch.no_grad():
        model.head.classifier.weight.zero_()
        model.head.classifier.bias.zero_()
    assert (ours("ablationcam", model, images, labels) == 0).all()


@pytest.mark.parametrize(("classes", "references"), [(2, 1), (3, 2), (4, 3), (7, 3)])
def test_finer_cam_takes_off_the_mean_of_the_closest_other_classes_however_few_there_are(classes, references, images):
    labels = torch.tensor([0, 1, 0, 1])
    model = network(classes=classes)
    output = model(images)
    weights = []
    for score, label in zip(output.scores, labels, strict=True):
        others = [index for index in range(classes) if index != label]
        closest = sorted(others, key=lambda index: abs(score[index] - score[label]).item())[:references]
        rows = model.head.classifier.weight.detach()
        weights.append(rows[label] - 0.6 * rows[closest].mean(dim=0))
    expected = torch.einsum("bc,bchw->bhw", torch.stack(weights), output.features.detach()).relu() / 49
    assert expected.max() > 0
    torch.testing.assert_close(ours("finercam", model, images, labels), expected, rtol=1e-4, atol=1e-6)


def test_finer_cam_of_one_class_is_grad_cam(images):
    model, labels = network(classes=1), torch.zeros(4, dtype=torch.long)
    torch.testing.assert_close(ours("finercam", model, images, labels), ours("gradcam", model, images, labels))


def test_the_first_component_equals_a_singular_value_decomposition_up_to_the_sign():
    values = torch.randn(5, 12, 4, 6, generator=torch.Generator().manual_seed(3))
    result = first_component(values)
    for image, projected in zip(values, result, strict=True):
        matrix = image.flatten(1).T
        matrix = matrix - matrix.mean(dim=0)
        expected = (matrix @ torch.linalg.svd(matrix).Vh[0]).view(4, 6)
        expected = expected * torch.sign((expected * projected).sum())
        torch.testing.assert_close(projected, expected, rtol=1e-3, atol=1e-3)
        assert (projected * image.sum(dim=0)).sum() >= 0


def test_full_gradients_add_up_to_the_score_whatever_is_in_place_or_inside_a_batch_norm(images, labels):
    """The paper's completeness: input times gradient, plus bias times gradient of every layer, is the score.

    It holds only if every bias of a ReLU network is found and paired with the gradient at its own place.
    """
    torch.manual_seed(0)
    images, labels = images[:2], labels[:2]
    for backbone in (TinyBackbone(), timm.create_model("resnet18", num_classes=0, global_pool=""), _lite()):
        backbone.feature_channels = getattr(backbone, "feature_channels", None) or backbone.num_features
        model = SAMNet(backbone, CLASSES, pooling="gap", attention_maps=MAPS).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                nn.init.uniform_(module.bias, -0.2, 0.2)
        leaf = functional.interpolate(images, 64).requires_grad_()
        with _bias_outputs(model) as outputs:
            scores = model(leaf).scores.gather(1, labels[:, None]).squeeze(1)
        gradients = torch.autograd.grad(scores.sum(), [leaf, *(output for _, output in outputs)], allow_unused=True)
        total = (leaf * gradients[0]).sum(dim=(1, 2, 3)) + model.head.classifier.bias[labels]
        for (bias, _), gradient in zip(outputs, gradients[1:], strict=True):
            if gradient is not None:
                total = total + (bias[:, None, None] * gradient).sum(dim=(1, 2, 3))
        torch.testing.assert_close(total, scores, rtol=1e-3, atol=1e-3)


def _lite() -> nn.Module:
    """A network whose batch-norms hold their activation; ReLU without its ceiling, which would break linearity."""
    backbone = timm.create_model("tf_efficientnet_lite0", num_classes=0, global_pool="", act_layer=nn.ReLU)
    assert not any(type(module) is nn.BatchNorm2d for module in backbone.modules())
    return backbone


def test_fullgrad_is_the_sum_of_every_layers_scaled_share(images, labels):
    model = network()
    backbone = model.backbone
    leaf = images.clone().requires_grad_()
    normalised = backbone.normalisation(backbone.first(leaf))
    second = backbone.second(normalised.relu())
    scores = model.head.classifier(second.relu().mean(dim=(2, 3)))
    places = [leaf, normalised, second]
    gradients = torch.autograd.grad(scores.gather(1, labels[:, None]).sum(), places)
    past = backbone.normalisation
    implicit = past.bias - past.weight * past.running_mean / (past.running_var + past.eps).sqrt()
    shares = [leaf * gradients[0], implicit.view(1, -1, 1, 1) * gradients[1]]
    shares.append(backbone.second.bias.view(1, -1, 1, 1) * gradients[2])
    expected = torch.zeros(4, 28, 28)
    for share in shares:
        for index, image in enumerate(share.detach().abs()):
            scaled = (image - image.min()) / (image.max() - image.min())
            enlarged = functional.interpolate(scaled[None], (28, 28), mode="bilinear", align_corners=False)
            expected[index] += enlarged[0].sum(dim=0)
    result = inspect_attention("fullgrad", model, images, labels, image_resolution=True)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    reduced = inspect_attention("fullgrad", model, images, labels)
    torch.testing.assert_close(reduced, expected.view(4, 7, 4, 7, 4).mean(dim=(2, 4)), rtol=1e-4, atol=1e-4)


# Promises


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", PSEUDO_ATTENTION)
def test_each_image_stands_alone(name, pooling, images, labels):
    model = network(pooling)
    together = inspect_attention(name, model, images, labels)
    if together is None:
        assert (name, pooling) == ("cam", "compact")
        return
    for index in range(len(images)):
        alone = inspect_attention(name, model, images[index : index + 1], labels[index : index + 1])
        torch.testing.assert_close(alone[0], together[index], rtol=1e-3, atol=1e-4 * float(together.max()))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", TRAINS)
def test_in_training_mode_too_an_image_does_not_feel_its_neighbours(name, pooling, images, labels):
    model = network(pooling).train()
    output = model(images)
    together = pseudo_attention(name, output.features, output.attention, model.head, labels)
    if together is None:
        return
    swapped = output.features.clone()
    swapped[1:] = swapped[1:].flip(3) * 2 + 0.3
    neighbours_changed = pseudo_attention(name, swapped, output.attention, model.head, labels)
    torch.testing.assert_close(neighbours_changed[0], together[0], rtol=1e-4, atol=1e-5 * float(together.max()))


def everything(model: nn.Module) -> Iterator[tuple[str, object]]:
    """All that a method could leave behind."""
    for name, module in model.named_modules():
        yield f"{name} mode", module.training
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            yield f"{name} {kind}", len(getattr(module, kind))
    for name, weight in model.named_parameters():
        yield f"{name} gradient", None if weight.grad is None else weight.grad.tolist()
        yield f"{name} needs gradient", weight.requires_grad
    for name, values in model.state_dict().items():
        yield name, values.tolist()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", PSEUDO_ATTENTION)
def test_nothing_is_left_behind(name, pooling, images, labels):
    model = network(pooling).train()
    model.backbone.normalisation.eval()  # mixed modes must come back mixed
    model.head.classifier.weight.grad = torch.ones_like(model.head.classifier.weight)
    output = model(images)
    before = dict(everything(model))
    random_state = torch.get_rng_state()
    if name in TRAINS:
        pseudo_attention(name, output.features, output.attention, model.head, labels)
    inspect_attention(name, model, images, labels)
    assert dict(everything(model)) == before
    assert torch.equal(torch.get_rng_state(), random_state)
    assert output.features.requires_grad
    assert images.grad is None
    assert not images.requires_grad


@pytest.mark.parametrize("name", ["gradcam", "scorecam", "fullgrad"])
def test_modes_and_hooks_come_back_after_an_error_too(name, images):
    model = network().train()
    before = dict(everything(model))
    with pytest.raises((IndexError, RuntimeError)):
        inspect_attention(name, model, images, torch.full((4,), CLASSES + 3))
    assert dict(everything(model)) == before


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", TRAINS)
def test_the_surroundings_do_not_matter_and_the_map_is_a_plain_constant(name, pooling, images, labels):
    model = network(pooling)
    output = model(images)
    expected = pseudo_attention(name, output.features, output.attention, model.head, labels)
    if expected is None:
        return
    assert expected.dtype == torch.float32
    assert not expected.requires_grad
    assert (expected >= 0).all()
    assert expected.shape == (4, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(
            pseudo_attention(name, output.features, output.attention, model.head, labels), expected
        )
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(
            pseudo_attention(name, output.features, output.attention, model.head, labels), expected
        )
    with torch.inference_mode():
        inner = model(images)
        result = pseudo_attention(name, inner.features, inner.attention, model.head, labels)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))
    layout = output.features.contiguous(memory_format=torch.channels_last)
    result = pseudo_attention(name, layout, output.attention, model.head, labels)
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", TRAINS)
@pytest.mark.parametrize("kind", ["zero", "constant", "negative", "huge", "small"])
def test_odd_features_give_finite_maps(name, pooling, kind, labels):
    model = network(pooling)
    noise = torch.rand(4, 10, 7, 7, generator=torch.Generator().manual_seed(5))
    features = {
        "zero": torch.zeros(4, 10, 7, 7),
        "constant": torch.ones(4, 10, 7, 7),
        "negative": noise - 0.5,
        "huge": noise * 1e4,
        "small": noise * 1e-4,
    }[kind]
    attention = model.attention_head(features)
    result = pseudo_attention(name, features, attention, model.head, labels)
    if result is not None:
        assert result.isfinite().all()
        assert kind != "zero" or (result == 0).all()


@pytest.mark.parametrize(("name", "channel_sum"), [("gradcam++", -2.0), ("gradcam++", -3.0), ("xgradcam", -1e-7)])
def test_a_denominator_that_features_of_both_signs_could_make_vanish_does_not(name, channel_sum):
    features = torch.zeros(1, 10, 7, 7)
    features[0, :, 3, 3] = channel_sum
    features[0, :, 2, 2] = 1.0 if name == "gradcam++" else 0.0
    features[0, :, 4, 4] = -1.0 if name == "gradcam++" else 0.0
    head = ClassifierHead("gap", channels=10, maps=0, classes=1)
    nn.init.constant_(head.classifier.weight, 49.0)  # a gradient of exactly one
    result = pseudo_attention(name, features, None, head, torch.zeros(1, dtype=torch.long))
    assert result.isfinite().all()
    assert result.max() <= 10 * 49 / 2  # ten channels, forty-nine positions, at most one half each


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", TRAINS)
def test_no_value_is_read_by_the_host(name, pooling):
    """Tensors without values stand in for a GPU's: whoever asks for a value gets an error."""
    with FakeTensorMode():
        model = SAMNet(TinyBackbone(), CLASSES, pooling=pooling, attention_maps=MAPS)
        output = model(torch.randn(4, 3, 28, 28))
        labels = torch.zeros(4, dtype=torch.long)
        result = pseudo_attention(name, output.features, output.attention, model.head, labels)
        if result is None:
            return
        assert result.shape == (4, 7, 7)
        learned = learned_attention(output.attention)
        for target_scale in TARGET_SCALES:
            attention_loss(result, learned, temperature=0.4, target_scale=target_scale).backward(retain_graph=True)


@pytest.mark.parametrize("pooling", ["gap", "bilinear"])
def test_the_attention_loss_trains_backbone_and_attention_head_and_never_the_pseudo_attention(pooling, images, labels):
    model = network(pooling).train()
    output = model(images)
    for name in TRAINS:
        model.zero_grad()
        target = pseudo_attention(name, output.features, output.attention, model.head, labels)
        loss = attention_loss(target, learned_attention(output.attention), temperature=0.4, target_scale="sum")
        loss.backward(retain_graph=True)
        assert model.backbone.second.weight.grad.abs().sum() > 0
        assert model.attention_head.convolution.weight.grad.abs().sum() > 0
        assert model.head.classifier.weight.grad is None


def test_inspection_equals_the_map_of_training_in_evaluation_mode(images, labels):
    for pooling in POOLINGS:
        model = network(pooling)
        output = model(images)
        for name in TRAINS:
            expected = pseudo_attention(name, output.features, output.attention, model.head, labels)
            result = inspect_attention(name, model.train(), images, labels)
            assert (result is None) == (expected is None)
            if result is not None:
                torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_a_network_without_an_attention_head_has_every_map(images, labels):
    model = network(maps=0)
    assert model.attention_head is None
    for name in PSEUDO_ATTENTION:
        assert inspect_attention(name, model, images, labels).shape == (4, 7, 7)


def test_an_unknown_name_and_one_that_cannot_train_are_refused_with_the_choices(images, labels):
    head = ClassifierHead("gap", channels=10, maps=0, classes=CLASSES)
    features = torch.rand(4, 10, 7, 7)
    with pytest.raises(ValueError, match=r"pseudo.*gradcm.*use one of cam, gradcam"):
        pseudo_attention("gradcm", features, None, head, labels)
    with pytest.raises(ValueError, match="pseudo: scorecam needs many passes"):
        pseudo_attention("scorecam", features, None, head, labels)
