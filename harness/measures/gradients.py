"""Input-unit gradients: how evenly the units of a layer take part (Leavitt & Morcos, arXiv 2010.07693).

g(u, n) is the L2 norm, over the pixels of image n, of the gradient of unit u's response (the spatial mean of its map)
with respect to that image. Two coefficients of variation (population standard deviation over mean) tell a layer:

- over samples: that of g(u, .) for each unit, then the mean over units;
- over units: that of m(u), the mean of g(u, .).

Units whose m(u) is below 1e-12 enter neither and are counted. In eval mode images do not mix, so one backward pass from
the sum over a batch gives the gradient of each image, and a pass begins at the unit's layer: it costs what lies below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from harness import rng
from harness.errors import ModelError
from harness.measures.base import UNIT_GRADIENTS_VERSION, MeasureEntry, MeasureResult
from harness.measures.stream import check_features, graph_parts, layer_entries, walk, with_network
from harness.types import FeatureModel

if TYPE_CHECKING:
    from harness.types import Labels

SILENT_BELOW = 1e-12
"""A unit whose mean gradient norm is below this enters no coefficient of variation."""

Values = NDArray[np.float64]


def coefficient_of_variation(values: Values, axis: int = 0) -> Values:
    """Population standard deviation over mean; 0 where the mean is 0.

    Args:
        values: non-negative.
        axis: along which.
    """
    mean = values.mean(axis)
    spread = values.std(axis)
    found: Values = np.divide(spread, mean, out=np.zeros_like(spread), where=mean > 0)
    return found


def chosen_units(layer: str, count: int, units: int, seed: int) -> NDArray[np.int64]:
    """Units of a layer that are measured: all, or `units` of them at random, in order.

    Args:
        layer: names the draw.
        count: units that the layer has.
        units: how many at most; 0 for all.
        seed: of the draw.
    """
    if not 0 < units < count:
        return np.arange(count)
    draws = rng.words(seed, f"measure/unit_gradients/{layer}", [0], count)[0]
    found: NDArray[np.int64] = np.sort(np.argsort(draws, kind="stable")[:units])
    return found


def unit_gradient_norms(
    model: FeatureModel, images: torch.Tensor, *, units: int = 0, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Norms of the gradients of units' responses with respect to the images.

    Args:
        model: with `features`, in eval mode; its activations may be of either sign.
        images: n x 3 x h x w, float.
        units: units of each layer at most, drawn by `seed`; 0 for all.
        seed: of the draw.

    Returns:
        Layer -> n x units, float32, on the images' device.

    Raises:
        ModelError: a layer without a gradient, or one that is not finite.
    """
    point = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        features = model.features(point)
    return {layer: _layer_norms(layer, maps, point, units, seed) for layer, maps in features.items()}


def _layer_norms(layer: str, maps: torch.Tensor, point: torch.Tensor, units: int, seed: int) -> torch.Tensor:
    if not maps.requires_grad:
        raise ModelError(f"layer {layer!r}: activations carry no gradient (detached or computed without autograd)")
    chosen = chosen_units(layer, maps.shape[1], units, seed)
    norms = torch.empty(len(maps), len(chosen), device=maps.device)
    # The gradient of a spatial mean, given as such: no pass through a mean and a choice of channel.
    start = torch.zeros_like(maps)
    share = maps.shape[1] * maps.shape[0] / maps.numel()
    for place, unit in enumerate(chosen.tolist()):
        start[:, unit] = share
        (gradient,) = torch.autograd.grad(maps, point, start, retain_graph=True, allow_unused=True)
        start[:, unit] = 0.0
        if gradient is None:
            raise ModelError(f"layer {layer!r}: activations have no gradient with respect to the images")
        norms[:, place] = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    if not bool(torch.isfinite(norms).all()):
        raise ModelError(f"layer {layer!r}: gradients are not finite")
    return norms


class VariationAccumulator:
    """Mean and spread of g(u, .) over batches by pairwise merging (Chan et al., 1979), in float64.

    Args:
        units: number of units.
    """

    def __init__(self, units: int) -> None:
        self.count = 0
        self.mean = np.zeros(units)
        self.spread = np.zeros(units)
        """Sum of squared deviations from the mean."""

    def update(self, norms: Values) -> None:
        """Add n x units."""
        n = len(norms)
        mean = norms.mean(0)
        step = mean - self.mean
        total = self.count + n
        self.spread += np.square(norms - mean).sum(0) + np.square(step) * self.count * n / total
        self.mean += step * n / total
        self.count = total

    def over_samples(self) -> Values:
        """Coefficient of variation of each unit; NaN for silent ones."""
        deviation = np.sqrt(self.spread / max(self.count, 1))
        found: Values = np.divide(deviation, self.mean, out=np.full_like(deviation, np.nan), where=self.alive())
        return found

    def over_units(self) -> float:
        """Coefficient of variation of the units' means; 0 where all are silent."""
        means = self.mean[self.alive()]
        return float(coefficient_of_variation(means)) if len(means) else 0.0

    def alive(self) -> NDArray[np.bool_]:
        """Units that enter."""
        return self.mean >= SILENT_BELOW


def gradient_variation(norms: Values) -> tuple[float, float]:
    """(coefficient of variation over samples, over units) of one layer.

    Args:
        norms: g, n x units, non-negative.
    """
    sums = VariationAccumulator(norms.shape[1])
    sums.update(np.asarray(norms, dtype=np.float64))
    own = sums.over_samples()
    return (float(own[sums.alive()].mean()) if sums.alive().any() else 0.0), sums.over_units()


def measure_unit_gradients(
    model: FeatureModel, batches: Iterable[torch.Tensor], labels: Labels, *, units: int, seed: int
) -> MeasureResult:
    """The work of the measure "unit_gradients"; see `Measure.run`.

    Returns:
        "cv_samples" (layers with one value a unit, NaN for silent ones), "cv_units", "gradient_norm" (layers with m(u)
        of each unit) and "silent_units" (a count).

    Raises:
        InvalidArgument: no `features`, or batches and labels that differ.
        ModelError: a layer without a gradient, or one that is not finite.
    """
    check_features(model)
    sums: dict[str, VariationAccumulator] = {}
    for part in walk(batches, labels):
        for images, _, _ in graph_parts(part):
            for layer, norms in unit_gradient_norms(model, images, units=units, seed=seed).items():
                sums.setdefault(layer, VariationAccumulator(norms.shape[1])).update(norms.double().cpu().numpy())
    return MeasureResult(
        measure="unit_gradients",
        version=UNIT_GRADIENTS_VERSION,
        images=len(labels),
        entries=with_network({layer: _entries(layer, seen) for layer, seen in sums.items()}),
        backwards=len(labels) * sum(len(seen.mean) for seen in sums.values()),
    )


def _entries(layer: str, sums: VariationAccumulator) -> Mapping[str, MeasureEntry]:
    own, alive = sums.over_samples(), sums.alive()
    return layer_entries(
        layer,
        {
            "cv_samples": (float(own[alive].mean()) if alive.any() else 0.0, own.astype(np.float32)),
            "cv_units": sums.over_units(),
            "gradient_norm": (float(sums.mean.mean()), sums.mean.astype(np.float32)),
            "silent_units": int(np.count_nonzero(~alive)),
        },
    )
