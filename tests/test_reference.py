"""A complete first loss and all its gradients against a reference written from the equations alone.

The reference shares nothing with the package but the tensors of its weights: plain operations, loops over images and
channels, derivatives of the pseudo-attention worked out by hand, double precision.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from sam_core.losses import TARGET_SCALES, attention_loss
from sam_core.models.attention_head import learned_attention
from sam_core.models.sam_net import SAMNet
from sam_core.pseudo_attention import pseudo_attention

BATCH, CLASSES, CHANNELS, MAPS = 4, 5, 6, 3
LAMBDA, TAU = 0.3, 0.4


class Convolution(nn.Module):
    """The smallest backbone: one convolution and a ReLU."""

    feature_channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)

    def forward_features(self, images: Tensor) -> Tensor:
        return self.layer(images).relu()


class Case(NamedTuple):
    method: str
    pooling: str
    pseudo: str | None
    maps: int


CASES = {
    "finetune": Case("finetune", "gap", None, 0),
    "sam": Case("sam", "gap", "cam", MAPS),
    "sam with the one map of the paper's figure": Case("sam", "gap", "cam", 1),
    "sam with Grad-CAM": Case("sam", "gap", "gradcam", MAPS),
    "sam-bilinear": Case("sam-bilinear", "bilinear", "gradcam", MAPS),
    "sam-bilinear with CAM": Case("sam-bilinear", "bilinear", "cam", MAPS),
    "sam with attention pooling": Case("sam", "attention", "cam", MAPS),
}


def reference(case: Case, weights: dict[str, Tensor], images: Tensor, labels: list[int], target_scale: str) -> Tensor:
    """The loss from its equations; `weights` are the package's tensors by name, as leaves in double precision."""
    phi = nn.functional.conv2d(
        images, weights["backbone.layer.weight"], weights["backbone.layer.bias"], stride=2, padding=1
    ).clamp(min=0)
    batch, channels, height, width = phi.shape
    positions = height * width
    classifier, bias = weights["head.classifier.weight"], weights["head.classifier.bias"]

    attention = None
    if case.maps:
        kernel = weights["attention_head.convolution.weight"][:, :, 0, 0]
        projected = torch.einsum("kc,bchw->bkhw", kernel, phi)
        mean = projected.mean(dim=(0, 2, 3), keepdim=True)
        variance = ((projected - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
        normalised = (projected - mean) / torch.sqrt(variance + 1e-5)
        gamma = weights["attention_head.normalisation.weight"].view(1, -1, 1, 1)
        beta = weights["attention_head.normalisation.bias"].view(1, -1, 1, 1)
        attention = (gamma * normalised + beta).clamp(min=0)

    cross_entropy, divergence = 0.0, 0.0
    for index in range(batch):
        features, label = phi[index], labels[index]
        if case.pooling == "gap":
            pooled = features.sum(dim=(1, 2)) / positions
        elif case.pooling == "bilinear":
            values = []
            for one in attention[index]:
                for channel in features:
                    z = (one * channel).sum() / positions
                    values.append(torch.sign(z) * torch.sqrt(torch.abs(z) + 1e-8))
            root = torch.stack(values)
            pooled = root / torch.sqrt((root**2).sum())
        else:
            largest = attention[index].max(dim=0).values
            scaled = (largest - largest.min()) / (largest.max() - largest.min())
            average = (scaled * features).sum(dim=(1, 2)) / positions
            pooled = average / torch.sqrt((average**2).sum())
        scores = classifier @ pooled + bias
        cross_entropy = cross_entropy + torch.log(torch.exp(scores).sum()) - scores[label]
        if case.pseudo is None:
            continue

        with torch.no_grad():
            row = classifier[label]
            if case.pseudo == "cam" and case.pooling == "bilinear":
                pseudo = torch.zeros(height, width, dtype=phi.dtype)
                for k in range(case.maps):
                    for c in range(channels):
                        pseudo += row[k * channels + c] * attention[index, k] * features[c]
            elif case.pseudo == "cam":
                pseudo = sum(row[c] * features[c] for c in range(channels))
                if case.pooling == "attention":
                    pseudo = pseudo * attention[index].max(dim=0).values
            elif case.pooling == "gap":
                # d s_y / d phi_chw = W_yc / (H*W), the same at every position.
                pseudo = sum(row[c] / positions * features[c] for c in range(channels))
            else:
                pseudo = bilinear_grad_cam(row, attention[index], features)
            pseudo = pseudo.clamp(min=0)

        if pseudo.max() == 0:
            continue
        if target_scale == "raw":
            target = torch.exp(pseudo / TAU) / torch.exp(pseudo / TAU).sum()
        elif target_scale == "sum":
            target = pseudo / pseudo.sum()
        else:
            powers = torch.exp(pseudo / pseudo.max() / TAU)
            target = powers / powers.sum()
        powers = torch.exp(attention[index].max(dim=0).values / TAU)
        fitted = powers / powers.sum()
        for t, q in zip(target.flatten(), fitted.flatten(), strict=True):
            if t > 0:
                divergence = divergence + t * (math.log(t) - torch.log(q))
    return cross_entropy / batch + LAMBDA * divergence / batch


def bilinear_grad_cam(row: Tensor, attention: Tensor, features: Tensor) -> Tensor:
    """Grad-CAM of one image under bilinear pooling, by the chain rule, with the attention held constant.

    With z_kc = mean(A_k phi_c), f = sign(z) sqrt(|z| + e), n = |f|, s = w.f / n + b:
    ds/df = (w - (w.f / n^2) f) / n, df/dz = 1 / (2 sqrt(|z| + e)) where z is not 0, dz_kc/dphi_chw = A_khw / (H*W).
    """
    positions = features[0].numel()
    z = torch.einsum("khw,chw->kc", attention, features) / positions
    root = torch.sqrt(z.abs() + 1e-8)
    f = torch.sign(z) * root
    w = row.view_as(z)
    length = torch.sqrt((f**2).sum())
    slope_f = (w - (w * f).sum() / length**2 * f) / length
    slope_z = slope_f * torch.sign(z).abs() / (2 * root)
    gradient = torch.einsum("kc,khw->chw", slope_z, attention) / positions
    alpha = gradient.sum(dim=(1, 2)) / positions
    return torch.einsum("c,chw->hw", alpha, features)


def ours(case: Case, model: SAMNet, images: Tensor, labels: Tensor, target_scale: str) -> Tensor:
    output = model(images)
    loss = nn.functional.cross_entropy(output.scores, labels)
    if case.pseudo is None:
        return loss
    target = pseudo_attention(case.pseudo, output.features, output.attention, model.head, labels)
    learned = learned_attention(output.attention)
    return loss + LAMBDA * attention_loss(target, learned, temperature=TAU, target_scale=target_scale)


@pytest.mark.parametrize("target_scale", TARGET_SCALES)
@pytest.mark.parametrize("name", CASES)
def test_the_first_loss_and_every_gradient_follow_the_equations(name, target_scale):
    case = CASES[name]
    torch.manual_seed(3)
    model = SAMNet(Convolution(), CLASSES, pooling=case.pooling, attention_maps=case.maps).train()
    with torch.no_grad():
        model.head.classifier.weight.mul_(4)
        if model.attention_head is not None:
            model.attention_head.normalisation.weight.uniform_(0.5, 2)
            model.attention_head.normalisation.bias.uniform_(-0.2, 0.5)
    images = torch.randn(BATCH, 3, 10, 12)
    labels = torch.tensor([0, 4, 2, 2])

    loss = ours(case, model, images, labels, target_scale)
    loss.backward()

    weights = {key: value.detach().double().requires_grad_() for key, value in model.named_parameters()}
    expected = reference(case, weights, images.double(), labels.tolist(), target_scale)
    expected.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for key, weight in model.named_parameters():
        result, wanted = weight.grad.double(), weights[key].grad
        assert wanted.abs().max() > 0, key
        assert (result - wanted).norm() <= 1e-4 * wanted.norm(), key


def test_the_cases_really_differ_from_one_another_in_loss():
    """So that no case passes because its attention loss is negligible."""
    torch.manual_seed(3)
    images, labels = torch.randn(BATCH, 3, 10, 12), torch.tensor([0, 4, 2, 2])
    losses = []
    for pseudo in (None, "cam", "gradcam"):
        for target_scale in TARGET_SCALES if pseudo else ("raw",):
            torch.manual_seed(3)
            model = SAMNet(Convolution(), CLASSES, pooling="bilinear", attention_maps=MAPS)
            case = Case("sam-bilinear", "bilinear", pseudo, MAPS)
            losses.append(round(ours(case, model, images, labels, target_scale).item(), 5))
    # Of CAM and Grad-CAM the raw targets are both nearly uniform here, and still not the same.
    assert len(set(losses)) == len(losses), losses
