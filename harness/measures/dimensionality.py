"""Dimensionality of a layer: how many principal components its units' responses need (Leavitt & Morcos, 2010.07693).

Rows are images, columns are units, an entry is the spatial mean of a unit's map after the non-linearity. Columns are
centred and not scaled (the covariance, not the correlation). The fewest leading components whose share of the variance
reaches 90, 95 or 99 %, over the number of units, is the fraction of dimensionality; a layer without variance has 0.

Sums and second moments are kept in float64, shifted by the first image, so that constant columns have exactly none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from harness.measures.base import DIMENSIONALITY_VERSION, MeasureEntry, MeasureResult
from harness.measures.stream import layer_entries, responses_of, walk, with_network
from harness.types import FeatureModel

if TYPE_CHECKING:
    from harness.types import Labels

THRESHOLDS = (90, 95, 99)
"""Percent of the variance."""

NOTHING = 1e-12
"""Variance below this share of the responses' mean square is rounding of float32 (about 6e-8 of a value) and counts as
none: the difference of two float32 numbers is rarely exact."""

Vector = NDArray[np.float64]


class CovarianceAccumulator:
    """Covariance of columns over batches of rows.

    Memory: units x units, float64, however many rows there are.

    Args:
        units: number of columns.
    """

    def __init__(self, units: int) -> None:
        self.count = 0
        self.shift = torch.zeros(units, dtype=torch.float64)
        self.sums = torch.zeros(units, dtype=torch.float64)
        self.products = torch.zeros(units, units, dtype=torch.float64)

    def update(self, rows: torch.Tensor) -> None:
        """Add rows, n x units, float64."""
        if not len(rows):
            return
        if self.count == 0:
            self.shift = rows[0].clone()
        shifted = rows - self.shift
        self.count += len(rows)
        self.sums += shifted.sum(0)
        self.products += shifted.T @ shifted

    def covariance(self) -> torch.Tensor:
        """Population covariance, units x units."""
        mean = self.sums / max(self.count, 1)
        return self.products / max(self.count, 1) - torch.outer(mean, mean)

    def power(self) -> float:
        """Mean square of the rows as they came, summed over units."""
        mean = self.sums / max(self.count, 1)
        squares = self.products.diagonal() / max(self.count, 1)
        return float((squares + 2 * self.shift * mean + self.shift.square()).sum())


def variances(covariance: torch.Tensor) -> Vector:
    """Variances along the principal components, largest first, none negative.

    Args:
        covariance: units x units, float64.
    """
    found: Vector = torch.linalg.eigvalsh(covariance).flip(0).clamp(min=0.0).numpy()
    return found


def components(spectrum: Vector, threshold: float) -> int:
    """The fewest leading components whose share of the variance reaches `threshold`; 0 where there is no variance.

    Args:
        spectrum: variances, largest first, non-negative.
        threshold: share in (0, 1].
    """
    total = float(spectrum.sum())
    if total <= 0.0:
        return 0
    shares = np.cumsum(spectrum) / total
    return int(np.count_nonzero(shares < threshold - 1e-12)) + 1


def participation_ratio(spectrum: Vector) -> float:
    """(sum of variances)^2 / sum of their squares, from 1 to the number of units; 0 without variance."""
    squares = float(np.square(spectrum).sum())
    return float(spectrum.sum()) ** 2 / squares if squares > 0.0 else 0.0


def spectrum_of(sums: CovarianceAccumulator, power: float | None = None) -> Vector:
    """Variances of what an accumulator has seen; all 0 where they are mere rounding.

    Args:
        sums: the rows.
        power: mean square of the responses whose rounding counts (for a difference: the clean ones); by default the
            rows' own.
    """
    found = variances(sums.covariance())
    reference = sums.power() if power is None else power
    return found if found.sum() > NOTHING * reference else np.zeros_like(found)


def fractions(spectrum: Vector) -> dict[int, float]:
    """Threshold in percent -> components over units."""
    return {percent: components(spectrum, percent / 100) / len(spectrum) for percent in THRESHOLDS}


def measure_dimensionality(model: FeatureModel, batches: Iterable[torch.Tensor], labels: Labels) -> MeasureResult:
    """The work of the measure "dimensionality"; see `Measure.run`.

    Returns:
        "fraction_90", "fraction_95", "fraction_99", "participation_ratio", "variance" (layers with one value a unit),
        "dead_columns" (units without variance, which lower the fractions) and "few_images" (1 for a layer with no more
        images than units, whose fractions the images bound).

    Raises:
        InvalidArgument: no `features`, or batches and labels that differ.
        ModelError: activations that are not finite.
    """
    sums: dict[str, CovarianceAccumulator] = {}
    for images, _, _ in walk(batches, labels):
        for layer, responses in responses_of(model, images).items():
            sums.setdefault(layer, CovarianceAccumulator(responses.shape[1])).update(responses)
    return MeasureResult(
        measure="dimensionality",
        version=DIMENSIONALITY_VERSION,
        images=len(labels),
        entries=with_network({layer: _entries(layer, seen) for layer, seen in sums.items()}),
    )


def _entries(layer: str, sums: CovarianceAccumulator) -> Mapping[str, MeasureEntry]:
    spectrum = spectrum_of(sums)
    own = sums.covariance().diagonal().clamp(min=0.0).numpy()
    values: dict[str, float | tuple[float, NDArray[np.float32]]] = {
        f"fraction_{percent}": value for percent, value in fractions(spectrum).items()
    }
    values["participation_ratio"] = participation_ratio(spectrum)
    values["variance"] = float(own.mean()), own.astype(np.float32)
    values["dead_columns"] = int(np.count_nonzero(own <= NOTHING * own.max(initial=0.0)))
    values["few_images"] = float(sums.count <= len(own))
    return layer_entries(layer, values)
