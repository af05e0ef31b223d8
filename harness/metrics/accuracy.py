"""Accuracies of verdicts, and means of them: over perturbations, families and severities.

A verdict is one bit an image: classified right under one perturbation. Values are fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidArgument

if TYPE_CHECKING:
    from harness.types import Bits

SEVERITIES = (1, 2, 3, 4, 5)


def verdict_row(bits: NDArray[Any]) -> Bits:
    """`bits` if they are the verdicts of one perturbation: n, bool, n >= 1.

    Raises:
        InvalidArgument: another shape or dtype, or no images.
    """
    if bits.ndim != 1 or bits.dtype != np.bool_ or not bits.size:
        raise InvalidArgument("bits", _describe(bits), "bool, one per image, at least one image")
    return bits


def verdict_matrix(verdicts: NDArray[Any]) -> NDArray[np.bool_]:
    """`verdicts` if they are a matrix perturbations x images: bool, at least 1 x 1.

    Raises:
        InvalidArgument: another shape or dtype, no perturbations, or no images.
    """
    if verdicts.ndim != 2 or verdicts.dtype != np.bool_ or not verdicts.size:
        raise InvalidArgument("verdicts", _describe(verdicts), "bool, perturbations x images, at least 1 x 1")
    return verdicts


def accuracy(bits: Bits) -> float:
    """Share of images with a right verdict.

    Args:
        bits: n, bool.

    Raises:
        InvalidArgument: see `verdict_row`.
    """
    return int(np.count_nonzero(verdict_row(bits))) / bits.size


def mean_accuracy(verdicts: NDArray[np.bool_]) -> float:
    """Mean over perturbations of their accuracies; over 15 corruptions x 5 severities RobustBench's `corruptions_acc`.

    Args:
        verdicts: perturbations x images, bool.

    Raises:
        InvalidArgument: see `verdict_matrix`.
    """
    return int(np.count_nonzero(verdict_matrix(verdicts))) / verdicts.size


def per_image_means(verdicts: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of perturbations under which each image is classified right.

    Args:
        verdicts: perturbations x images, bool.

    Returns:
        n, float64, in [0, 1]; its mean is `mean_accuracy`.

    Raises:
        InvalidArgument: see `verdict_matrix`.
    """
    means: NDArray[np.float64] = np.count_nonzero(verdict_matrix(verdicts), axis=0) / verdicts.shape[0]
    return means


def union_verdicts(verdicts: NDArray[np.bool_]) -> Bits:
    """Right under every perturbation at once, image by image.

    Args:
        verdicts: perturbations x images, bool; the same images in the same order in every row.

    Returns:
        n, bool.

    Raises:
        InvalidArgument: see `verdict_matrix`.
    """
    return np.asarray(verdict_matrix(verdicts).all(axis=0))


def family_means(accuracies: Mapping[str, float], families: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Mean accuracy of each family of corruptions.

    Args:
        accuracies: corruption -> accuracy, mean over severities.
        families: family -> corruptions.

    Raises:
        InvalidArgument: a family without corruptions, or a corruption without accuracy.
    """
    means = {}
    for family, members in families.items():
        if not members:
            raise InvalidArgument(f"families[{family!r}]", members, "at least one corruption")
        for name in members:
            if name not in accuracies:
                raise InvalidArgument(f"accuracies[{name!r}]", None, f"an accuracy: {family} needs it")
        means[family] = sum(accuracies[name] for name in members) / len(members)
    return means


def severity_curves(cells: Mapping[tuple[str, int], float]) -> dict[str, tuple[float, ...]]:
    """The table corruption x severity.

    Args:
        cells: (corruption, severity) -> accuracy or error, each corruption at all of the severities 1 to 5.

    Returns:
        Corruption -> values at the severities 1, 2, 3, 4, 5, in the order of first mention.

    Raises:
        InvalidArgument: no cells, an unknown severity or a missing cell.
    """
    if not cells:
        raise InvalidArgument("cells", cells, "at least one corruption at the severities 1 to 5")
    for name, severity in cells:
        if severity not in SEVERITIES:
            raise InvalidArgument(f"severity of {name}", severity, "an integer from 1 to 5")
        for other in SEVERITIES:
            if (name, other) not in cells:
                raise InvalidArgument(f"cells[{name!r}, {other}]", None, "a value for each of the severities 1 to 5")
    return {name: tuple(cells[name, severity] for severity in SEVERITIES) for name, _ in cells}


def _describe(array: NDArray[Any]) -> str:
    """Dtype and shape, for messages."""
    return f"{array.dtype} {'x'.join(str(side) for side in array.shape) or 'scalar'}"
