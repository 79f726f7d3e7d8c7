r"""Pseudo-attention: where a class's score comes from, as a map over the positions of the features.

Symbols, for one image: features $\phi$ (C, H, W); attention maps $A$ (K, H, W), held constant; score $s_y$ of the
label $y$; $W_y$ the classifier's row; $g_{chw} = \partial s_y / \partial \phi_{chw}$, taken through the classifier's
head alone: one cheap backward pass from the scores to the features, none through the backbone.

Rules that hold for every method:

- the map is detached, float32, not negative (ReLU), and not scaled;
- each image stands alone: with `A` held constant nothing flows through a train-mode batch-norm, and `compact` pooling
  is evaluated with the running statistics of its own batch-norm, which are not updated;
- nothing is left behind: no `.grad`, no hook, no changed mode or buffer;
- no value is read by the host, so that a GPU is never waited for (`scorecam` and `fullgrad`, for inspection, too).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from .models.head import ClassifierHead
from .models.pooling import weighted_sum
from .models.sam_net import SAMNet, SAMOutput

#: Added to denominators, as in the `grad-cam` package.
GRADCAM_PLUS_PLUS_EPSILON = 1e-6
XGRADCAM_EPSILON = 1e-7
#: A score nearer to zero than this is moved to it (with its sign) before AblationCAM divides by it.
ABLATION_EPSILON = 1e-6
#: How much of the mean of the closest classes FinerCAM takes off, and how many they are, as in `torchcam`.
FINERCAM_STRENGTH = 0.6
FINERCAM_REFERENCES = 3
#: Repeated squarings of EigenCAM's Gram matrix: its 2**14-th power. A second eigenvalue of 99.9 % of the first has
#: then faded to 1e-7.
EIGENCAM_SQUARINGS = 14
#: Masked images that ScoreCAM sends through the network at once.
SCORECAM_BATCH = 32


@dataclass(frozen=True)
class Evidence:
    """What a method may look at: the features and the head above them, for one class of each image.

    Attributes:
        features: phi, (B, C, H, W), float32, detached.
        attention: A, (B, K, H, W), float32, detached, or `None`.
        head: from features to scores.
        labels: y, (B,).
    """

    features: Tensor
    attention: Tensor | None
    head: ClassifierHead
    labels: Tensor

    @cached_property
    def class_weights(self) -> Tensor:
        """$W_y$ of each image, (B, D)."""
        return self.head.classifier.weight.detach()[self.labels].float()

    def gradient(self, objective: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        r"""$g = \partial s_y / \partial \phi$, or that of another `objective` of the scores; (B, C, H, W).

        `objective` maps scores (B, N) to one number per image (B,). Since each image's number depends on its own
        features alone, the gradient of their sum is every image's own gradient.
        """
        # An alias of the features that is a leaf: the graph begins here, and nothing is copied.
        leaf = self.features.detach().requires_grad_()
        scores = self.head.standalone_scores(leaf, self.attention)
        chosen = self.score_of_label(scores) if objective is None else objective(scores)
        (gradient,) = torch.autograd.grad(chosen.sum(), leaf)
        return gradient

    def score_of_label(self, scores: Tensor) -> Tensor:
        """$s_y$: (B, N) -> (B,)."""
        return scores.gather(1, self.labels[:, None]).squeeze(1)


def cam(evidence: Evidence) -> Tensor | None:
    r"""Class activation map: the class-weighted features before any normalisation of the pooled vector.

    `gap`: $\mathrm{relu}(\sum_c W_{yc}\phi_c)$; `bilinear`: $\mathrm{relu}(\sum_{kc} W_{y,kc} A_k \phi_c)$;
    `attention`: $\mathrm{relu}(a \sum_c W_{yc}\phi_c)$ with $a = \max_k A_k$; none under `compact`.

    Source: Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016 (for `gap`; the others are
    the same idea for the pooling at hand).
    """
    return evidence.head.pooling.class_weighted(evidence.features, evidence.attention, evidence.class_weights)


def gradcam(evidence: Evidence) -> Tensor:
    r"""$\alpha_c = \mathrm{mean}_{hw}\, g_c$, map $\mathrm{relu}(\sum_c \alpha_c \phi_c)$.

    Under `gap` it is CAM / (H*W).

    Source: Selvaraju et al., Grad-CAM, ICCV 2017.
    """
    return weighted_sum(evidence.features, evidence.gradient().mean(dim=(2, 3)))


def gradcam_plus_plus(evidence: Evidence) -> Tensor:
    r"""$\alpha_c = \sum_{hw} \frac{r_c^2}{2 r_c^2 + S_c\, r_c^3 + \epsilon}\, r_c$ with $r = \mathrm{relu}(g)$.

    $S_c = \sum_{hw} \mathrm{relu}(\phi_c)$; the map is $\mathrm{relu}(\sum_c \alpha_c \phi_c)$.

    Source: Chattopadhay et al., Grad-CAM++, WACV 2018, equation 19, as the packages compute it: with the gradient of
    the score itself, not of its exponential.

    Departure: the equation takes features that are not negative. Of others, $S_c$ counts the positive ones only, so
    that the denominator cannot vanish.
    """
    positive = evidence.gradient().relu()
    square = positive.square()
    total = evidence.features.relu().sum(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    coefficient = square / (2 * square + total * square * positive + GRADCAM_PLUS_PLUS_EPSILON)
    return weighted_sum(evidence.features, (coefficient * positive).sum(dim=(2, 3)))


def xgradcam(evidence: Evidence) -> Tensor:
    r"""$\alpha_c = \sum_{hw} g_c \phi_c / (\sum_{hw} \phi_c + \epsilon)$, map $\mathrm{relu}(\sum_c \alpha_c \phi_c)$.

    Source: Fu et al., Axiom-based Grad-CAM, BMVC 2020.

    Departure: a denominator nearer to zero than epsilon (possible where features are negative) is set to epsilon.
    """
    features = evidence.features
    total = features.sum(dim=(2, 3)) + XGRADCAM_EPSILON  # (B, C)
    total = torch.where(total.abs() < XGRADCAM_EPSILON, torch.full_like(total, XGRADCAM_EPSILON), total)
    return weighted_sum(features, (evidence.gradient() * features).sum(dim=(2, 3)) / total)


def layercam(evidence: Evidence) -> Tensor:
    r"""$\mathrm{relu}(\sum_c \mathrm{relu}(g_c)\, \phi_c)$, position by position.

    Source: Jiang et al., LayerCAM, IEEE Transactions on Image Processing 2021.
    """
    return (evidence.gradient().relu() * evidence.features).sum(dim=1)


def hirescam(evidence: Evidence) -> Tensor:
    r"""$\mathrm{relu}(\sum_c g_c\, \phi_c)$, position by position: the gradient is not averaged.

    Source: Draelos and Carin, Use HiResCAM instead of Grad-CAM, 2020 (arXiv 2011.08891).
    """
    return (evidence.gradient() * evidence.features).sum(dim=1)


def eigencam(evidence: Evidence) -> Tensor:
    """The features' first principal component over the positions; it knows no class. See `first_component`.

    Source: Muhammad and Yeasin, Eigen-CAM, IJCNN 2020.
    """
    return first_component(evidence.features)


def eigengradcam(evidence: Evidence) -> Tensor:
    r"""The first principal component of $g \cdot \phi$ over the positions. See `first_component`.

    Source: the `grad-cam` package, after Muhammad and Yeasin, Eigen-CAM, IJCNN 2020.
    """
    return first_component(evidence.gradient() * evidence.features)


def finercam(evidence: Evidence) -> Tensor:
    r"""Grad-CAM of $s_y - 0.6\,\mathrm{mean}_{t}\, s_{d_t}$: what speaks for $y$ and not for the classes like it.

    $d_1, d_2, d_3$ are the classes whose scores are closest to $s_y$; with fewer than four classes, all the others;
    with one class alone this is Grad-CAM.

    Source: Zhang et al., Finer-CAM, CVPR 2025; the plain mean of three classes at 0.6 as `torchcam` has it.
    """

    def contrast(scores: Tensor) -> Tensor:
        own = evidence.score_of_label(scores)
        references = min(FINERCAM_REFERENCES, scores.shape[1] - 1)
        if references == 0:
            return own
        distance = (scores.detach() - own.detach()[:, None]).abs()
        distance = distance.scatter(1, evidence.labels[:, None], float("inf"))
        closest = distance.topk(references, dim=1, largest=False).indices  # (B, 3)
        return own - FINERCAM_STRENGTH * scores.gather(1, closest).mean(dim=1)

    return weighted_sum(evidence.features, evidence.gradient(contrast).mean(dim=(2, 3)))


def ablationcam(evidence: Evidence) -> Tensor:
    r"""$\alpha_c = (s_y - s_y^{\setminus c}) / s_y$, map $\mathrm{relu}(\sum_c \alpha_c \phi_c)$.

    $s_y^{\setminus c}$ is the score with channel c set to zero and A held constant. It follows in closed form from
    the pooling's equation (`Pooling.score_drops`), for all channels at once.

    As in the paper and the packages the drop is relative to the score itself: for a negative score the map shows what
    speaks against the class. A score nearer to zero than 1e-6 is moved to 1e-6, with its sign.

    Source: Desai and Ramaswamy, Ablation-CAM, WACV 2020.
    """
    head, features, attention = evidence.head, evidence.features, evidence.attention
    score = evidence.score_of_label(head.standalone_scores(features, attention))  # (B,)
    drops = head.pooling.score_drops(features, attention, evidence.class_weights)  # (B, C)
    guarded = score.abs().clamp_min(ABLATION_EPSILON).copysign(score)
    return weighted_sum(features, drops / guarded[:, None])


def first_component(values: Tensor) -> Tensor:
    r"""The projection of each position's vector, centred over the positions, on their first principal direction.

    With $M$ (H*W, C) the centred vectors of one image and $M = U \Sigma V^\top$, this is $M v_1 = \sigma_1 u_1$. The
    vector $u_1$ is taken from the Gram matrix $G = M M^\top$ (H*W, H*W), whose power $G^{2^{14}}$ is $u_1 u_1^\top$
    times a number: small products only, the same for every image, and no value has to visit the host as in a
    decomposition.

    Departures from the packages: the sign, which a decomposition leaves open, is chosen so that the projection grows
    with the sum over channels of what is decomposed. Two first components as strong as each other are mixed.

    (B, C, H, W) -> (B, H, W)
    """
    flat = values.flatten(2)  # (B, C, H*W)
    centred = flat - flat.mean(dim=2, keepdim=True)
    gram = torch.bmm(centred.transpose(1, 2), centred)  # (B, H*W, H*W)
    tiny = torch.finfo(gram.dtype).tiny
    power = gram / gram.diagonal(dim1=1, dim2=2).sum(dim=1).clamp_min(tiny)[:, None, None]
    for _ in range(EIGENCAM_SQUARINGS):
        power = torch.bmm(power, power)
        # Divided by the trace, the sum of the eigenvalues: the first one stays within 1/(H*W)..1.
        power = power / power.diagonal(dim1=1, dim2=2).sum(dim=1).clamp_min(tiny)[:, None, None]
    # Every column of u u' is a multiple of u; the one with the largest diagonal is the best conditioned.
    column = power.diagonal(dim1=1, dim2=2).argmax(dim=1)  # (B,)
    direction = power.gather(2, column[:, None, None].expand(-1, power.shape[1], 1))  # (B, H*W, 1)
    direction = functional.normalize(direction, dim=1, eps=tiny)
    strength = torch.bmm(gram, direction).mul(direction).sum(dim=1, keepdim=True).clamp_min(0).sqrt()  # (B, 1, 1)
    agreement = torch.bmm(centred.sum(dim=1, keepdim=True), direction)  # (B, 1, 1)
    sign = torch.where(agreement < 0, -torch.ones_like(agreement), torch.ones_like(agreement))
    return (direction * strength * sign).squeeze(2).view(values.shape[0], *values.shape[2:])


def scorecam(model: SAMNet, images: Tensor, labels: Tensor) -> Tensor:
    r"""$\alpha_c = \mathrm{softmax}_c\, s_y(x \cdot \mathrm{up}(\hat\phi_c))$, the map as in CAM.

    $\hat\phi_c$ is the channel min-max-scaled to 0..1 and $\mathrm{up}$ its bilinear enlargement to the image's size
    (corners not aligned). The score of a baseline image, which the paper takes off, is the same for every channel and
    cancels in the softmax. One pass through the network per channel: for inspection.

    Source: Wang et al., Score-CAM, CVPR Workshops 2020.
    """
    with torch.no_grad():
        features = model(images).features  # (B, C, H, W)
        low = features.amin(dim=(2, 3), keepdim=True)
        spread = features.amax(dim=(2, 3), keepdim=True) - low
        masks = (features - low) / torch.where(spread == 0, torch.ones_like(spread), spread)
        # Image by image, so that the memory needed does not grow with the batch.
        weights = torch.stack(
            [
                _masked_scores(model, image, mask, label)
                for image, mask, label in zip(images, masks, labels, strict=True)
            ]
        ).softmax(dim=1)  # (B, C)
        return weighted_sum(features, weights)


def _masked_scores(model: SAMNet, image: Tensor, masks: Tensor, label: Tensor) -> Tensor:
    """The label's score of one image (3, S, S) behind each of the masks (C, H, W): (C,)."""
    scores = []
    for part in masks.split(SCORECAM_BATCH):
        enlarged = functional.interpolate(part[:, None], image.shape[1:], mode="bilinear", align_corners=False)
        part_scores = model(image[None] * enlarged).scores  # (C', N)
        scores.append(part_scores.index_select(1, label.reshape(1)).squeeze(1).float())
    return torch.cat(scores)


def fullgrad(model: SAMNet, images: Tensor, labels: Tensor) -> Tensor:
    r"""$\psi(x \cdot \partial s_y/\partial x) + \sum_l \sum_c \psi(b_{lc} \cdot \partial s_y/\partial z_{lc})$.

    The sum runs over every layer $l$ with a bias $b$ added to its output $z$: convolutions with a bias and
    batch-norms, whose implicit bias is $\beta - \gamma \mu / \sigma$. $\psi$ takes absolute values, scales each layer
    by its image's own minimum and maximum, and brings it to the image's size bilinearly. The gradient is that of the
    whole network, attention head included.

    Source: Srinivas and Fleuret, Full-Gradient Representation, NeurIPS 2019. As in their code, the bias of the
    classifier, which belongs to no position, is left out. `grad-cam` scales each channel on its own instead.

    (B, 3, S, S) -> (B, S, S), at the images' resolution.
    """
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        with _bias_outputs(model) as outputs:
            scores = model(leaf).scores
        chosen = scores.gather(1, labels[:, None]).sum()
        biases, maps = [bias for bias, _ in outputs], [output for _, output in outputs]
        # A layer that the score does not see (the attention head under `gap`) has no gradient and no share.
        gradients = torch.autograd.grad(chosen, [leaf, *maps], allow_unused=True)
    with torch.no_grad():
        total = _full_gradient_share(leaf.detach() * gradients[0], images.shape[2:])
        for bias, gradient in zip(biases, gradients[1:], strict=True):
            if gradient is not None:
                total = total + _full_gradient_share(bias[:, None, None] * gradient, images.shape[2:])
    return total


def _full_gradient_share(contribution: Tensor, size: torch.Size) -> Tensor:
    """psi of one layer, summed over its channels: (B, C', H', W') -> (B, S, S)."""
    share = contribution.abs()
    low = share.amin(dim=(1, 2, 3), keepdim=True)
    spread = share.amax(dim=(1, 2, 3), keepdim=True) - low
    share = (share - low) / torch.where(spread == 0, torch.ones_like(spread), spread)
    # Enlarging is linear, so the sum over the channels may come first: one map to enlarge instead of C'.
    return functional.interpolate(share.sum(dim=1, keepdim=True), size, mode="bilinear", align_corners=False).squeeze(1)


@contextmanager
def _bias_outputs(model: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """While open, a forward pass fills the list with (bias (C',), output (B, C', H', W')) of every layer with a bias.

    The layer's successor gets a copy: an activation that works in place would otherwise change what was kept.
    """
    found: list[tuple[Tensor, Tensor]] = []
    handles = []

    def keep(bias: Tensor, output: Tensor) -> Tensor:
        found.append((bias, output))
        return output.clone()

    try:
        for module in model.modules():
            bias = _bias_of(module)
            if bias is None:
                continue
            activation = getattr(module, "act", None)
            if isinstance(module, nn.BatchNorm2d) and isinstance(activation, nn.Module):
                # timm's batch-norm with its activation inside: what is wanted is the value between the two.
                handle = activation.register_forward_pre_hook(
                    lambda _, inputs, bias=bias: (keep(bias, inputs[0]), *inputs[1:])
                )
            else:
                handle = module.register_forward_hook(lambda _, __, output, bias=bias: keep(bias, output))
            handles.append(handle)
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _bias_of(module: nn.Module) -> Tensor | None:
    """What a layer adds to every position of its output, (C',); `None` where it adds nothing."""
    if isinstance(module, nn.Conv2d):
        return None if module.bias is None else module.bias.detach()
    if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
        slope = (module.running_var + module.eps).rsqrt()
        slope = slope if module.weight is None else slope * module.weight.detach()
        offset = 0 if module.bias is None else module.bias.detach()
        return offset - module.running_mean * slope
    return None


@dataclass(frozen=True)
class AttentionInfo:
    """One pseudo-attention.

    Attributes:
        function: for those to train with, from `Evidence` to a map before its ReLU; for those that `trains` is false
            of, from the network, images and labels.
        label: its name for people.
        description: one sentence for people.
        source: the paper.
        trains: whether it is cheap enough to train with. The others need many passes through the network.
        uses_gradient: whether it takes the gradient from the scores to the features.
        knows_class: whether the map depends on the label.
    """

    function: Callable[..., Tensor | None]
    label: str
    description: str
    source: str
    trains: bool = True
    uses_gradient: bool = True
    knows_class: bool = True


PSEUDO_ATTENTION: dict[str, AttentionInfo] = {
    "cam": AttentionInfo(
        cam,
        "CAM",
        "the features, weighted as the classifier weighs them for the class",
        "Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016",
        uses_gradient=False,
    ),
    "gradcam": AttentionInfo(
        gradcam,
        "Grad-CAM",
        "the features, weighted by how the class's score changes with each of them on average",
        "Selvaraju et al., Grad-CAM, ICCV 2017",
    ),
    "gradcam++": AttentionInfo(
        gradcam_plus_plus,
        "Grad-CAM++",
        "Grad-CAM that counts positive changes only and gives several small objects their share",
        "Chattopadhay et al., Grad-CAM++, WACV 2018",
    ),
    "xgradcam": AttentionInfo(
        xgradcam,
        "XGrad-CAM",
        "Grad-CAM whose average of the gradient is weighted by the features themselves",
        "Fu et al., Axiom-based Grad-CAM, BMVC 2020",
    ),
    "layercam": AttentionInfo(
        layercam,
        "LayerCAM",
        "every position's features times their own positive gradient",
        "Jiang et al., LayerCAM, IEEE Transactions on Image Processing 2021",
    ),
    "hirescam": AttentionInfo(
        hirescam,
        "HiResCAM",
        "every position's features times their own gradient, not averaged over the image",
        "Draelos and Carin, HiResCAM, 2020",
    ),
    "eigencam": AttentionInfo(
        eigencam,
        "Eigen-CAM",
        "the main way in which the features vary over the image, whatever the class",
        "Muhammad and Yeasin, Eigen-CAM, IJCNN 2020",
        uses_gradient=False,
        knows_class=False,
    ),
    "eigengradcam": AttentionInfo(
        eigengradcam,
        "Eigen-Grad-CAM",
        "the main way in which features times gradient vary over the image",
        "the grad-cam package, after Eigen-CAM, IJCNN 2020",
    ),
    "finercam": AttentionInfo(
        finercam,
        "Finer-CAM",
        "Grad-CAM of what sets the class apart from the three classes scored most like it",
        "Zhang et al., Finer-CAM, CVPR 2025",
    ),
    "ablationcam": AttentionInfo(
        ablationcam,
        "Ablation-CAM",
        "the features, weighted by how much of the class's score is lost without each of them",
        "Desai and Ramaswamy, Ablation-CAM, WACV 2020",
        uses_gradient=False,
    ),
    "scorecam": AttentionInfo(
        scorecam,
        "Score-CAM",
        "the features, weighted by the score of the image seen through each of them",
        "Wang et al., Score-CAM, CVPR Workshops 2020",
        trains=False,
        uses_gradient=False,
    ),
    "fullgrad": AttentionInfo(
        fullgrad,
        "FullGrad",
        "what the image's pixels and every layer's biases contribute to the score, layer upon layer",
        "Srinivas and Fleuret, Full-Gradient Representation, NeurIPS 2019",
        trains=False,
    ),
}


def pseudo_attention(
    name: str, features: Tensor, attention: Tensor | None, head: ClassifierHead, labels: Tensor
) -> Tensor | None:
    """One pseudo-attention of a batch, from what a forward pass gives anyway.

    Works inside a training step, under autocast, within `torch.no_grad` and `torch.inference_mode`.

    Args:
        name: a name in `PSEUDO_ATTENTION` whose `trains` is true.
        features: phi, (B, C, H, W).
        attention: A, (B, K, H, W), or `None` without an attention head.
        head: the network's head.
        labels: whose evidence is shown, (B,).

    Returns:
        m, (B, H, W), float32, detached, not negative; `None` where it cannot exist (`cam` of `compact` pooling).
    """
    info = _info(name)
    if not info.trains:
        raise ValueError(f"pseudo: {name} needs many passes through the whole network; it is for inspection only")
    with _apart(features):
        evidence = Evidence(_constant(features), None if attention is None else _constant(attention), head, labels)
        values = info.function(evidence)
    return None if values is None else values.detach().relu()


def inspect_attention(
    name: str, model: SAMNet, images: Tensor, labels: Tensor, *, image_resolution: bool = False
) -> Tensor | None:
    """Any pseudo-attention of any images, `scorecam` and `fullgrad` included, in evaluation mode.

    The network's modes are put back afterwards, whatever happens; no hook and no gradient stays behind.

    Args:
        name: a name in `PSEUDO_ATTENTION`.
        model: the network.
        images: (B, 3, S, S), preprocessed.
        labels: whose evidence is shown, (B,).
        image_resolution: `fullgrad` only: keep its own resolution instead of averaging it down to the features'.

    Returns:
        (B, H, W), float32, detached, not negative, H and W those of the features; `None` where it cannot exist.
    """
    info = _info(name)
    with _apart(images), _evaluation_mode(model):
        images = _constant(images)
        with torch.no_grad():
            output: SAMOutput = model(images)
        if info.trains:
            return pseudo_attention(name, output.features, output.attention, model.head, labels)
        values = info.function(model, images, labels).detach().relu()
        if values.shape[1:] != output.features.shape[2:] and not image_resolution:
            values = functional.adaptive_avg_pool2d(values[:, None], output.features.shape[2:]).squeeze(1)
        return values


def _info(name: str) -> AttentionInfo:
    if name not in PSEUDO_ATTENTION:
        raise ValueError(f"pseudo: there is no {name!r}; use one of {', '.join(PSEUDO_ATTENTION)}")
    return PSEUDO_ATTENTION[name]


def _constant(values: Tensor) -> Tensor:
    """`values` in float32 without their history; a copy only of what inference mode made, which no graph may use."""
    values = values.clone() if values.is_inference() else values
    return values.detach().float()


@contextmanager
def _apart(values: Tensor) -> Iterator[None]:
    """Gradients on and autocast off, whatever the caller has set."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(values.device.type, enabled=False):
        yield


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; every module's own mode comes back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
