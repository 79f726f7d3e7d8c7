"""How often the classifier is right: top-1, top-5, the confusion matrix, accuracy per class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def top_k_correct(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """Whether the label is among the `k` highest scores.

    Equal scores rank in class order, so that a classifier which says the same of every class (the first record of a
    run, before any training) is counted alike on every device. A score that is not a number is never correct.

    Args:
        scores: (B, N) class scores or probabilities.
        labels: (B,) class indices, int64.
        k: how many classes count; clipped to N, so top-5 of three classes is top-3.

    Returns:
        (B,) bool.
    """
    classes = scores.shape[1]
    own = scores.gather(1, labels[:, None])  # (B, N), (B, 1) -> (B, 1)
    comes_first = torch.arange(classes, device=scores.device) < labels[:, None]  # (N,), (B, 1) -> (B, N)
    ahead = (scores > own) | ((scores == own) & comes_first)
    rank = ahead.sum(dim=1)  # (B, N) -> (B,)
    # Every comparison with nan is false, which would put the label first.
    return (rank < min(k, classes)) & ~scores.isnan().any(dim=1)


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Count the images of each true class (row) that were given each predicted class (column).

    Args:
        predicted: (M,) class indices, int64.
        labels: (M,) class indices, int64.
        classes: how many classes there are, N.

    Returns:
        (N, N) int64; the sum of all entries is M.
    """
    cells = labels * classes + predicted
    counts = torch.zeros(classes * classes, dtype=torch.int64, device=labels.device)
    # Not `bincount`: on a GPU it has to wait for the largest index before it can allocate.
    counts.scatter_add_(0, cells, torch.ones_like(cells))
    return counts.reshape(classes, classes)  # (N*N,) -> (N, N)


def per_class_accuracy(confusion: Tensor) -> Tensor:
    """The percentage of each class's images that were recognised.

    Args:
        confusion: (N, N) counts, true classes in rows.

    Returns:
        (N,) percent, nan for a class without an image.
    """
    return 100.0 * confusion.diagonal() / confusion.sum(dim=1)


class AccuracyMeter:
    """Sums top-1, top-5 and loss over batches on the device; the host reads them once, in `result`.

    `sums` is (4,) float32: images, top-1 correct, top-5 correct, loss. Where several processes evaluate one part each,
    adding up their `sums` gives the whole. Counts are exact up to 2**24 images.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.sums = torch.zeros(4, dtype=torch.float32, device=device)

    @torch.no_grad()
    def update(self, scores: Tensor, labels: Tensor, losses: Tensor | None = None) -> None:
        """Add one batch.

        Args:
            scores: (B, N) class scores before softmax.
            labels: (B,) class indices, int64.
            losses: (B,) the loss of each image; left out, the plain cross-entropy of `scores` in nats.
        """
        if losses is None:
            losses = F.cross_entropy(scores.float(), labels, reduction="none")
        batch = torch.stack(
            [
                torch.ones_like(labels).sum(),
                top_k_correct(scores, labels, 1).sum(),
                top_k_correct(scores, labels, 5).sum(),
                losses.sum(),
            ]
        )
        self.sums += batch.to(self.sums)

    def result(self) -> dict[str, float]:
        """`top1` and `top5` in percent, `loss` as the mean per image; all nan before the first image."""
        images, top1, top5, loss = self.sums.tolist()
        if images == 0:
            return {"top1": float("nan"), "top5": float("nan"), "loss": float("nan")}
        return {"top1": 100.0 * top1 / images, "top5": 100.0 * top5 / images, "loss": loss / images}
