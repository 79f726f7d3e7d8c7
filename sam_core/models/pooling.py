"""How the feature map and the attention maps become the one vector that the classifier sees.

Every pooling also knows two things about the score $s_y = W_y \\cdot \\mathrm{pool}(\\phi, A) + b_y$ that the
pseudo-attention needs and that follow from its equation: the class-weighted features (CAM), and what the score loses
without each channel (AblationCAM, in closed form).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention_head import learned_attention
from .synchronised import SynchronisedBatchNorm

#: Inside the square root of bilinear pooling, so that its slope is finite at zero.
SQRT_EPSILON = 1e-8
#: Below this length a vector counts as zero and is not stretched to length one.
NORM_EPSILON = 1e-12
#: The smallest share of a squared length that float32 can tell from zero after a subtraction.
CANCELLATION = 1e-6
#: Attention maps whose values differ by less than this are constant: they say nothing about where to look.
CONSTANT_MAP = 1e-6
#: The length of the compact descriptor, as in the released code's commented variant.
COMPACT_DIMENSIONS = 500
#: Hashes and signs of the count sketch are drawn once from this seed: they are part of the method, not of a run.
COMPACT_SEED = 20_220


class Pooling(nn.Module):
    """What every pooling offers. `channels` is C, `maps` is K, `out_dim` is D.

    Attributes:
        needs_attention: whether `attention` may be `None`.
    """

    needs_attention = False

    def __init__(self, channels: int, maps: int, out_dim: int) -> None:
        super().__init__()
        self.channels = channels
        self.maps = maps
        self.out_dim = out_dim

    def forward(self, features: Tensor, attention: Tensor | None) -> Tensor:
        """(B, C, H, W), (B, K, H, W) -> (B, D)."""
        raise NotImplementedError

    def standalone(self, features: Tensor, attention: Tensor | None) -> Tensor:
        """`forward` as one image alone would see it: no batch statistics, no buffer changed. (B, D).

        Equal to `forward` unless the pooling normalises over the batch.
        """
        return self(features, attention)

    def class_weighted(self, features: Tensor, attention: Tensor | None, weights: Tensor) -> Tensor | None:
        """The class activation map before its ReLU, before any normalisation of the pooled vector.

        Args:
            features: (B, C, H, W)
            attention: (B, K, H, W) or `None`
            weights: the classifier's row of each image's class, (B, D)

        Returns:
            (B, H, W), or `None` where the pooled values do not belong to channels.
        """
        raise NotImplementedError

    def score_drops(self, features: Tensor, attention: Tensor | None, weights: Tensor) -> Tensor:
        """What the class's score loses when one channel of `features` is set to zero, `attention` held constant.

        The drop itself, rather than the score that is left: of hundreds of channels each adds little, and the
        difference of two nearly equal scores would be mostly rounding.

        Args:
            features: (B, C, H, W)
            attention: (B, K, H, W) or `None`
            weights: the classifier's row of each image's class, (B, D)

        Returns:
            $s_y - s_y^{\\setminus c}$ of every channel c, (B, C)
        """
        raise NotImplementedError


class GlobalAveragePooling(Pooling):
    r"""$v_c = \mathrm{mean}_{hw}\,\phi_c$, D = C (Lin et al., Network in Network, 2014)."""

    def __init__(self, channels: int, maps: int) -> None:
        super().__init__(channels, maps, out_dim=channels)

    def forward(self, features: Tensor, attention: Tensor | None) -> Tensor:
        """(B, C, H, W) -> (B, C); the attention maps are not used."""
        return features.mean(dim=(2, 3))

    def class_weighted(self, features: Tensor, attention: Tensor | None, weights: Tensor) -> Tensor:
        r"""$\sum_c W_{yc}\,\phi_c$, (B, H, W) (Zhou et al., CVPR 2016)."""
        return weighted_sum(features, weights)

    def score_drops(self, features: Tensor, attention: Tensor | None, weights: Tensor) -> Tensor:
        r"""$W_{yc} v_c$, (B, C): the score is linear in every channel."""
        return weights * self(features, attention)


class BilinearPooling(Pooling):
    r"""Attention maps pool the features, then a signed square root and length one.

    $z_{kc} = \mathrm{mean}_{hw}(A_k \phi_c)$,
    $f = \mathrm{sign}(z)\sqrt{|z| + 10^{-8}}$, $v = f / \lVert f \rVert_2$, D = K * C.

    Source: SAM-Bilinear (Shu et al., ECCV 2022, figure 2b); signed root and length as in Lin et al., Bilinear CNN
    Models, ICCV 2015.
    """

    needs_attention = True

    def __init__(self, channels: int, maps: int) -> None:
        super().__init__(channels, maps, out_dim=maps * channels)

    def forward(self, features: Tensor, attention: Tensor | None) -> Tensor:
        """(B, C, H, W), (B, K, H, W) -> (B, K*C)."""
        return functional.normalize(self._signed_root(features, attention), dim=1, eps=NORM_EPSILON)

    def class_weighted(self, features: Tensor, attention: Tensor | None, weights: Tensor) -> Tensor:
        r"""$\sum_{kc} W_{y,kc} A_k \phi_c$, (B, H, W)."""
        by_map = weights.unflatten(1, (self.maps, self.channels))  # (B, K*C) -> (B, K, C)
        # (B, K, C) x (B, C, H*W) -> (B, K, H*W) -> (B, K, H, W): the product A x phi of size K*C*H*W never exists.
        evidence = torch.bmm(by_map, features.flatten(2)).unflatten(2, features.shape[2:])
        return (present(attention) * evidence).sum(dim=1)

    def score_drops(self, features: Tensor, attention: Tensor | None, weights: Tensor) -> Tensor:
        """See `_normalised_drops`, (B, C).

        Without channel c its K entries of f are exactly zero, for the sign of zero is zero; the others keep their
        value, and the length that they are divided by shrinks.
        """
        root = self._signed_root(features, attention).unflatten(1, (self.maps, self.channels))  # (B, K, C)
        contribution = (weights.view_as(root) * root).sum(dim=1)  # (B, C)
        return _normalised_drops(contribution, root.square().sum(dim=1))

    def _signed_root(self, features: Tensor, attention: Tensor | None) -> Tensor:
        pooled = pooled_by_maps(features, present(attention)).flatten(1)  # (B, K, C) -> (B, K*C)
        return pooled.sign() * (pooled.abs() + SQRT_EPSILON).sqrt()


class AttentionPooling(Pooling):
    r"""The learned attention weights the average.

    $\hat a = (a - \min a) / (\max a - \min a)$ per image, $u_c = \mathrm{mean}_{hw}(\hat a\,\phi_c)$,
    $v = u / \lVert u \rVert_2$, D = C.

    A map that is constant says nothing about where to look: it weighs every position by one.

    Source: the released code's last state. It takes minimum and maximum over the whole batch; here they are each
    image's own, so that a prediction does not depend on its neighbours.
    """

    needs_attention = True

    def __init__(self, channels: int, maps: int) -> None:
        super().__init__(channels, maps, out_dim=channels)

    def forward(self, features: Tensor, attention: Tensor | None) -> Tensor:
        """(B, C, H, W), (B, K, H, W) -> (B, C)."""
        return functional.normalize(self._weighted_average(features, attention), dim=1, eps=NORM_EPSILON)

    def class_weighted(self, features: Tensor, attention: Tensor | None, weights: Tensor) -> Tensor:
        r"""$a \sum_c W_{yc} \phi_c$, (B, H, W), with $a$ the maximum map as it is, not scaled."""
        return learned_attention(present(attention)) * weighted_sum(features, weights)

    def score_drops(self, features: Tensor, attention: Tensor | None, weights: Tensor) -> Tensor:
        """See `_normalised_drops`, (B, C)."""
        average = self._weighted_average(features, attention)
        return _normalised_drops(weights * average, average.square())

    def _weighted_average(self, features: Tensor, attention: Tensor | None) -> Tensor:
        scaled = min_max_scaled(learned_attention(present(attention)))  # (B, H, W)
        return pooled_by_maps(features, scaled[:, None]).squeeze(1)  # (B, 1, C) -> (B, C)


class CompactPooling(Pooling):
    r"""A count sketch of the outer product of attention and features, 500 numbers long, batch-normalised.

    $z_{kc} = \mathrm{mean}_{hw}(A_k \phi_c)$ is sketched by
    $t_j = \sum_{k,c:\,(h_1(k) + h_2(c)) \bmod d = j} g_1(k)\,g_2(c)\,z_{kc}$ with fixed random hashes $h$ and signs
    $g$, then $v = \mathrm{batchnorm}(t)$, D = d = 500.

    Sketching after the mean over positions equals sketching before it, for both are linear; it spares the Fourier
    transforms of each position.

    Source: the released code's commented variant; Gao et al., Compact Bilinear Pooling, CVPR 2016; Pham and Pagh, KDD
    2013. Hashes and signs are buffers, drawn from a seed of their own, and travel with the weights.
    """

    needs_attention = True

    map_hash: Tensor
    map_sign: Tensor
    channel_hash: Tensor
    channel_sign: Tensor

    def __init__(self, channels: int, maps: int, dimensions: int = COMPACT_DIMENSIONS) -> None:
        super().__init__(channels, maps, out_dim=dimensions)
        generator = torch.Generator().manual_seed(COMPACT_SEED)
        for name, length in (("map", maps), ("channel", channels)):
            hashes = torch.randint(dimensions, (length,), generator=generator)
            signs = torch.randint(2, (length,), generator=generator) * 2.0 - 1.0
            self.register_buffer(f"{name}_hash", hashes)
            self.register_buffer(f"{name}_sign", signs)
        self.normalisation = nn.BatchNorm1d(dimensions)

    def forward(self, features: Tensor, attention: Tensor | None) -> Tensor:
        """(B, C, H, W), (B, K, H, W) -> (B, d)."""
        # Several processes share the batch, and it is the whole that counts.
        if self.training and len(features) < 2 and not isinstance(self.normalisation, SynchronisedBatchNorm):
            raise ValueError("pooling: compact normalises over the batch; train with at least 2 images a step")
        return self.normalisation(self._sketch(features, attention))

    def standalone(self, features: Tensor, attention: Tensor | None) -> Tensor:
        """`forward` with the running statistics of the batch-norm, in training mode too; they are not updated."""
        normalisation = self.normalisation
        return functional.batch_norm(
            self._sketch(features, attention),
            normalisation.running_mean,
            normalisation.running_var,
            normalisation.weight,
            normalisation.bias,
            training=False,
            eps=normalisation.eps,
        )

    def class_weighted(self, features: Tensor, attention: Tensor | None, weights: Tensor) -> None:
        """There is no CAM: a number of the sketch belongs to no channel."""
        return None

    def score_drops(self, features: Tensor, attention: Tensor | None, weights: Tensor) -> Tensor:
        r"""$\sum_k U_{y,kc}\,z_{kc}$, (B, C), with the running statistics of the batch-norm.

        They make the score affine in $z$; $U$ are its slopes: the class's weights, scaled as the batch-norm scales,
        and read back through hashes and signs.
        """
        normalisation = self.normalisation
        scale = normalisation.weight / (normalisation.running_var + normalisation.eps).sqrt()
        # (h1(k) + h2(c)) mod d for every pair, (K, C): from which number of the sketch each pair reads.
        target = (self.map_hash[:, None] + self.channel_hash[None]) % self.out_dim
        slopes = (weights * scale)[:, target.flatten()].unflatten(1, target.shape)  # (B, d) -> (B, K*C) -> (B, K, C)
        slopes = slopes * self.map_sign[:, None] * self.channel_sign[None]
        return (slopes * pooled_by_maps(features, present(attention))).sum(dim=1)  # (B, K, C) -> (B, C)

    def _sketch(self, features: Tensor, attention: Tensor | None) -> Tensor:
        pooled = pooled_by_maps(features, present(attention))  # (B, K, C)
        # The hash of the channels as a sparse matrix held densely, (C, d): a product sums in a fixed order, which a
        # scatter on a GPU does not.
        channel_sketch = pooled.new_zeros(self.channels, self.out_dim)
        channel_sketch = channel_sketch.scatter(1, self.channel_hash[:, None], self.channel_sign[:, None])
        by_map = (pooled @ channel_sketch) * self.map_sign[:, None]  # (B, K, d)
        # Map k's sketch moves on by h1(k): number j comes from (j - h1(k)) mod d.
        positions = torch.arange(self.out_dim, device=pooled.device)
        source = (positions[None] - self.map_hash[:, None]) % self.out_dim  # (K, d)
        return by_map.gather(2, source.expand_as(by_map)).sum(dim=1)  # (B, d)


@dataclass(frozen=True)
class PoolingInfo:
    """One way to pool: how to build it from (channels, maps), and how to present it to a person."""

    builder: Callable[[int, int], Pooling]
    label: str
    description: str
    needs_attention: bool


POOLINGS: dict[str, PoolingInfo] = {
    "gap": PoolingInfo(
        GlobalAveragePooling,
        "Global average",
        "the mean of every feature over the image; the attention is learned beside it",
        needs_attention=False,
    ),
    "bilinear": PoolingInfo(
        BilinearPooling,
        "Bilinear",
        "every attention map averages the features in its own way, and the classifier sees all of them",
        needs_attention=True,
    ),
    "attention": PoolingInfo(
        AttentionPooling,
        "Attention-weighted",
        "the mean of every feature, weighted by the learned attention",
        needs_attention=True,
    ),
    "compact": PoolingInfo(
        CompactPooling,
        "Compact bilinear",
        "a random sketch, 500 numbers long, of what bilinear pooling would give",
        needs_attention=True,
    ),
}


def build_pooling(name: str, channels: int, maps: int) -> Pooling:
    """The pooling called `name` for C `channels` and K `maps` (0 where there is no attention head)."""
    if name not in POOLINGS:
        raise ValueError(f"pooling: there is no {name!r}; use one of {', '.join(POOLINGS)}")
    if POOLINGS[name].needs_attention and maps < 1:
        raise ValueError(f"pooling: {name} needs an attention head; use gap, or at least one attention map")
    return POOLINGS[name].builder(channels, maps)


def weighted_sum(features: Tensor, weights: Tensor) -> Tensor:
    r"""$\sum_c w_c \phi_c$: (B, C, H, W), (B, C) -> (B, H, W)."""
    # (B, 1, C) x (B, C, H*W) -> (B, 1, H*W) -> (B, H, W)
    return torch.bmm(weights[:, None], features.flatten(2)).squeeze(1).unflatten(1, features.shape[2:])


def pooled_by_maps(features: Tensor, attention: Tensor) -> Tensor:
    r"""$z_{kc} = \mathrm{mean}_{hw}(A_k \phi_c)$: (B, C, H, W), (B, K, H, W) -> (B, K, C).

    One batched product; `flatten` is a view of channels-last features too.
    """
    positions = features.shape[2] * features.shape[3]
    # (B, K, H*W) x (B, H*W, C) -> (B, K, C). The small factor is divided, not the large product.
    return torch.bmm(attention.flatten(2) / positions, features.flatten(2).transpose(1, 2))


def min_max_scaled(attention: Tensor) -> Tensor:
    """Each map on its own to 0..1; a constant map becomes all ones. (B, H, W) -> (B, H, W)."""
    low = attention.amin(dim=(1, 2), keepdim=True)
    spread = attention.amax(dim=(1, 2), keepdim=True) - low
    constant = spread < CONSTANT_MAP
    # The division is made harmless before `where` discards it: its gradient would otherwise be 0 times infinity.
    scaled = (attention - low) / torch.where(constant, torch.ones_like(spread), spread)
    return torch.where(constant, torch.ones_like(scaled), scaled)


def present(attention: Tensor | None) -> Tensor:
    """`attention`, which this pooling cannot do without."""
    if attention is None:
        raise ValueError("pooling: this pooling needs the attention maps, and the network has no attention head")
    return attention


def _normalised_drops(contribution: Tensor, squares: Tensor) -> Tensor:
    r"""What the score of a vector divided by its length loses without each channel.

    With $p_c$ the channel's weighted value before the division (`contribution`, (B, C)), $q_c$ its share of the squared
    length (`squares`, (B, C)), $p = \sum p_c$, $n^2 = \sum q_c$ and $n_c^2 = n^2 - q_c$, the drop is

    $p / n - (p - p_c) / n_c = p_c / n_c - p\,q_c / (n\,n_c\,(n + n_c))$,

    of which the right-hand side is not a difference of nearly equal numbers. Returns (B, C).
    """
    total = squares.sum(dim=1, keepdim=True)
    # Where one channel is nearly all of the length, the difference is only rounding, and dividing by it would not end.
    rest = torch.maximum(total - squares, total * CANCELLATION).sqrt().clamp_min(NORM_EPSILON)
    length = total.sqrt().clamp_min(NORM_EPSILON)
    return contribution / rest - contribution.sum(dim=1, keepdim=True) / length * (squares / (rest * (length + rest)))
