r"""Batch-norm whose batch is spread over several processes: the statistics are those of all images of a step.

PyTorch's own `SyncBatchNorm` works on a GPU only, and there has the host wait at every layer; this one works anywhere.

Source: Ioffe and Szegedy, Batch Normalization, ICML 2015.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from sam_core.config import ConfigError

_KNOWN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)


def synchronise_batch_norm(network: nn.Module) -> None:
    """Replace every batch-norm of a network in place; its parameters, buffers and their names stay.

    Raises:
        ConfigError: where a batch-norm is of a kind whose batch is not known to be what it seems.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, SynchronisedBatchNorm):
                if type(child) not in _KNOWN:
                    kind = type(child).__name__
                    raise ConfigError("backbone", f"its {kind} cannot be shared by several processes; use one process")
                setattr(parent, name, SynchronisedBatchNorm(child))


class SynchronisedBatchNorm(_BatchNorm):
    r"""$y = w\,(x - \mu) / \sqrt{\sigma^2 + \epsilon} + b$, with $\mu$ and $\sigma^2$ over all processes' images.

    In evaluation mode, and where there are no other processes, it is plain batch-norm. Every process has to take part
    in every training pass, with an empty batch if it has no image.

    Args:
        plain: the batch-norm whose place it takes; one of timm's brings the activation that follows it.

    Shape:
        (B, C, ...) -> (B, C, ...)
    """

    def __init__(self, plain: _BatchNorm) -> None:
        super().__init__(plain.num_features, plain.eps, plain.momentum, plain.affine, plain.track_running_stats)
        self.weight, self.bias = plain.weight, plain.bias
        self.running_mean, self.running_var = plain.running_mean, plain.running_var
        self.num_batches_tracked = plain.num_batches_tracked
        self.training = plain.training
        if isinstance(plain, BatchNormAct2d):
            self.drop, self.act = plain.drop, plain.act

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...)."""
        together = self.training and distributed.is_initialized()
        x = self._normalised(x) if together else super().forward(x)
        return self.act(self.drop(x)) if hasattr(self, "act") else x

    def _normalised(self, x: Tensor) -> Tensor:
        output, mean, variance, count = _Normalisation.apply(x, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            unbiased = variance * (count / (count - 1).clamp_min(1))
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        return output

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions will do."""


class _Normalisation(torch.autograd.Function):
    """Two short messages a layer: sums on the way forward, sums of the gradient on the way back."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The output, and over all processes mean (C,), biased variance (C,) and count (1,) of each channel's values.

        What is added up is in float64: the sum of squares, less the square of the mean, would otherwise lose the
        variance of a channel that lies far from zero.
        """
        channels = x.shape[1]
        moments = x.new_zeros(2 * channels + 1, dtype=torch.float64)
        precision = torch.promote_types(x.dtype, torch.float32)
        count = x.numel() // channels
        if count:
            scratch = x.new_zeros(2, channels, dtype=precision)
            mean, variance = (part.double() for part in torch.batch_norm_update_stats(x, *scratch, 0.0))
            torch.cat([mean, variance + mean.square(), torch.ones_like(mean[:1])], out=moments)
            moments *= count
        distributed.all_reduce(moments)
        total = moments[-1:]
        mean = moments[:channels] / total
        variance = (moments[channels:-1] / total - mean.square()).clamp_min(0).to(precision)
        mean = mean.to(precision)
        output = functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=epsilon)
        context.save_for_backward(x, weight, mean, variance, total)
        context.epsilon = epsilon
        context.mark_non_differentiable(mean, variance, total)
        return output, mean, variance, total

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        r"""$dx = w r\,(g - \overline{g} - \hat x\,\overline{g \hat x})$, $r = 1 / \sqrt{\sigma^2 + \epsilon}$.

        The means are over all processes. The gradients of weight and bias are this process's own sums: whoever
        averages the gradients of the network adds them up.
        """
        x, weight, mean, variance, total = context.saved_tensors
        channels = x.shape[1]
        if x.numel():
            _, products, sums = torch.ops.aten.native_batch_norm_backward(
                gradient, x, weight, mean, variance, None, None, False, context.epsilon, [False, True, True]
            )  # (C,) sum of g times x hat, (C,) sum of g
        else:
            products, sums = torch.zeros_like(mean), torch.zeros_like(mean)
        everywhere = torch.cat([products, sums]).double()
        distributed.all_reduce(everywhere)
        mean_product, mean_gradient = (everywhere / total).to(mean.dtype).split(channels)
        inverse = (variance + context.epsilon).rsqrt()
        scale = inverse if weight is None else weight.to(inverse.dtype) * inverse
        # With x hat written out, the three terms are one of g, one of x and a constant of each channel.
        of_x = -scale * inverse * mean_product
        constant = -scale * mean_gradient - of_x * mean
        shape = (1, channels, *(1 for _ in x.shape[2:]))
        result = torch.addcmul(constant.view(shape), gradient.to(mean.dtype), scale.view(shape))
        result = result.addcmul_(x.to(mean.dtype), of_x.view(shape)).to(x.dtype)
        if weight is None:
            return result, None, None, None
        return result, products.to(weight.dtype), sums.to(weight.dtype), None
