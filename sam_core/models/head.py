"""The classifier's head: a pooling and a linear layer, all that lies between the features and the scores."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from .pooling import build_pooling


class ClassifierHead(nn.Module):
    r"""$s = W\,\mathrm{pool}(\phi, A) + b$.

    Args:
        pooling: a name in `POOLINGS`.
        channels: C, the channels of the features.
        maps: K, the attention maps; 0 where there is no attention head.
        classes: N.

    Shape:
        (B, C, H, W), (B, K, H, W) or `None` -> (B, N)
    """

    def __init__(self, pooling: str, *, channels: int, maps: int, classes: int) -> None:
        super().__init__()
        self.channels = channels
        self.maps = maps
        self.classes = classes
        self.pooling_name = pooling
        self.pooling = build_pooling(pooling, channels, maps)
        self.classifier = nn.Linear(self.pooling.out_dim, classes)

    def forward(self, features: Tensor, attention: Tensor | None) -> Tensor:
        """(B, C, H, W), (B, K, H, W) or `None` -> scores (B, N)."""
        return self.classifier(self.pooling(features, attention))

    def standalone_scores(self, features: Tensor, attention: Tensor | None) -> Tensor:
        """The scores as each image alone would get them, (B, N); nothing of the head is changed or trained by it.

        Differs from `forward` only where the pooling normalises over the batch (`compact`): there the running
        statistics are used, whatever the mode.
        """
        pooled = self.pooling.standalone(features, attention)
        return functional.linear(pooled, self.classifier.weight.detach(), self.classifier.bias.detach())

    def use_pooling(self, name: str) -> None:
        """Change the pooling in place and keep the classifier's weights (`gap` and `attention` fit each other).

        The released protocol starts with `gap` and turns to `attention` after 800 iterations.
        """
        if name == self.pooling_name:
            return
        replacement = build_pooling(name, self.channels, self.maps)
        if replacement.out_dim != self.classifier.in_features or replacement.state_dict() or self.pooling.state_dict():
            raise ValueError(
                f"pooling: cannot change from {self.pooling_name} to {name} and keep the classifier's weights; "
                "only gap and attention can take each other's place"
            )
        self.pooling = replacement.train(self.training)
        self.pooling_name = name
