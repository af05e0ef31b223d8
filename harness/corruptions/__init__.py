"""Corruptions of images: everyday damage (noise, blur, weather, compression) at five severities.

Hendrycks & Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR 2019.
Importing this package imports neither torch nor OpenCV nor scikit-image: the backend comes with the first image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.corruptions.checks import check_batch, check_indices, check_severity
from harness.corruptions.suites import SUITES, Suite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.types import ImagesU8

__all__ = ["SUITES", "Suite", "corrupt"]


def corrupt(
    images: ImagesU8,
    name: str,
    severity: int,
    *,
    suite: str = "cifar-10-c",
    seed: int = 0,
    indices: Sequence[int] | NDArray[np.integer[Any]] | None = None,
) -> ImagesU8:
    """Corrupt a batch of images.

    The result of an image depends on (image, suite, name, severity, seed, its index) alone, never on its batch.

    Args:
        images: n x height x width x 3, uint8 in 0..255, RGB; not modified.
        name: a corruption of the suite, e.g. "gaussian_noise".
        severity: 1 (mild) to 5 (strong).
        suite: name of a parameter set in `SUITES`; `NAME@any` applies it to sizes that it is not meant for.
        seed: the run's seed, from 0 to 2**63 - 1.
        indices: n positions in the data set (>= 0), which name the draws; default 0..n-1.

    Returns:
        New uint8 array of the same shape.

    Raises:
        UnknownName: suite or corruption is not registered.
        InvalidArgument: wrong type, shape, size, severity, seed or indices.
        MissingDependency: the suite's backend is not installed.
    """
    chosen = SUITES.get(suite)
    chosen.check_name(name)
    check_severity(severity)
    check_batch(images)
    chosen.check_size(images.shape[1], images.shape[2])
    places = check_indices(indices, len(images))
    if chosen.backend == "reference":
        from harness.corruptions import reference

        return reference.corrupt(images, name, severity, seed=seed, indices=places)
    from harness.corruptions import engine

    return engine.corrupt(images, name, severity, recipe=chosen.recipe(name, severity), seed=seed, indices=places)
