"""The class selectivity regulariser (Leavitt & Morcos, arXiv 2003.01262 and 2010.07693)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from harness.errors import InvalidArgument
from harness.measures.selectivity import class_means, selectivity_from_means


def batch_selectivity(features: Mapping[str, torch.Tensor], labels: torch.Tensor, *, classes: int) -> torch.Tensor:
    """`harness.measures.network_selectivity` as training wants it: the same bits and gradients, at less cost.

    The units of all layers get their class means at once, the spatial means hand their gradients on without writing
    them out pixel by pixel, and labels are not checked: training data are.

    Args:
        features: layer name -> non-negative activations, n x units (x h x w), classifier excluded.
        labels: n, int64, in [0, classes); at least two classes.
        classes: number of classes.

    Returns:
        The mean over units, then layers, in [0, 1]; a scalar, float32 (float64 for float64 input). The class means come
        from the batch alone, so small batches regularise noise: use 10 images a class or more.

    Raises:
        InvalidArgument: no layers, or fewer than two classes present.
    """
    if not features:
        raise InvalidArgument("features", "no layers", "at least one layer")
    with torch.autocast(labels.device.type, enabled=False):  # EPS is subnormal in float16
        responses = [spatial_mean(activations) for activations in features.values()]
        means, present = class_means(torch.cat(responses, dim=1), labels, classes)
        # Layer by layer from here, although one call could take them all: torch sums narrow and wide tables in another
        # order, and the weights of recorded cards hang on the last bit.
        layers = torch.split(means[present], [response.shape[1] for response in responses], dim=1)
        return torch.stack([selectivity_from_means(layer).mean() for layer in layers]).mean()


def spatial_mean(activations: torch.Tensor) -> torch.Tensor:
    """Responses of units, n x units, in at least float32: `harness.measures.selectivity.unit_responses`, cheaper."""
    if activations.ndim == 2:
        return activations if activations.dtype == torch.float64 else activations.float()
    responses: torch.Tensor = _SpatialMean.apply(activations)
    return responses


class _SpatialMean(torch.autograd.Function):
    """The mean over all spatial axes. Its gradient is one number a map, expanded instead of written out."""

    @staticmethod
    def forward(ctx: Any, activations: torch.Tensor) -> torch.Tensor:
        ctx.shape, ctx.dtype = activations.shape, activations.dtype
        wide = torch.float64 if activations.dtype == torch.float64 else torch.float32
        return activations.mean(tuple(range(2, activations.ndim)), dtype=wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        spatial = ctx.shape[2:]
        share = (gradient / spatial.numel()).to(ctx.dtype)
        expanded: torch.Tensor = share.reshape(*gradient.shape, *(1 for _ in spatial)).expand(ctx.shape)
        return expanded
