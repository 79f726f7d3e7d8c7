"""The attention head: a small projection of the features that learns where to look."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class AttentionHead(nn.Module):
    r"""$A = \mathrm{relu}(\mathrm{batchnorm}(\mathrm{conv1x1}_K(\phi)))$: K attention maps from the features.

    The convolution has no bias: the batch-norm after it would cancel one.

    Source: Shu et al., Self-Boosting Attention Mechanism, ECCV 2022, §3 (K=1 in the figure, 16 in the released code).

    Args:
        channels: C, the channels of the features.
        maps: K, how many attention maps there are.

    Shape:
        (B, C, H, W) -> (B, K, H, W)
    """

    def __init__(self, channels: int, maps: int) -> None:
        super().__init__()
        if maps < 1:
            raise ValueError(f"attention_maps: must be at least 1, not {maps}")
        self.channels = channels
        self.maps = maps
        self.convolution = nn.Conv2d(channels, maps, kernel_size=1, bias=False)
        self.normalisation = nn.BatchNorm2d(maps)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K, H, W), not negative."""
        return functional.relu(self.normalisation(self.convolution(features)))


def learned_attention(attention: Tensor) -> Tensor:
    r"""$a = \max_k A_k$: one map from the K, (B, K, H, W) -> (B, H, W).

    Where several maps share the maximum, `amax` shares the gradient evenly, so no map is favoured by its number.
    """
    return attention.amax(dim=1)
