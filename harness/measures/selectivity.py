"""Class selectivity of units (Leavitt & Morcos, arXiv 2003.01262 and 2010.07693; index after Morcos et al., 2018).

A unit is a feature map (or a plain feature). Its response to an image is the spatial mean of the map after the
non-linearity. With mu_c the mean response to class c,

    SI = (mu_max - mu_rest) / (mu_max + mu_rest + eps),

mu_max the largest class mean and mu_rest the plain mean of the other classes that are present. For non-negative
activations SI lies in [0, 1]: 0 for equal means (and for a dead unit), 1 for a unit that responds to one class only. It
is not valid on signed activations, whose denominator may vanish. A network's number is the mean over the units of a
layer, then over layers, so that wide layers do not dominate; the classifier's outputs are left out.

With few images per class the maximum of noisy means biases SI upward: compare networks at equal numbers of images only.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch

from harness.errors import InvalidArgument

EPS = 1e-6
"""Added to the denominator, as the published code has it: dead units get exactly 0."""
DEAD_BELOW = 1e-6
"""A unit whose largest class mean is below this is counted as dead."""


def _full_precision(tensor: torch.Tensor) -> AbstractContextManager[Any]:
    """Autocast off: `EPS` is subnormal in float16."""
    return torch.autocast(tensor.device.type, enabled=False)


def unit_responses(activations: torch.Tensor) -> torch.Tensor:
    """Responses of units to images: the spatial mean in at least float32.

    Args:
        activations: n x units, or n x units x h x w (any number of spatial axes).

    Returns:
        n x units; float64 stays float64, anything smaller becomes float32.

    Raises:
        InvalidArgument: fewer than two axes.
    """
    if activations.ndim < 2:
        raise InvalidArgument("activations", tuple(activations.shape), "n x units or n x units x height x width")
    wide = activations if activations.dtype == torch.float64 else activations.float()
    return wide.flatten(2).mean(2) if wide.ndim > 2 else wide


def class_means(responses: torch.Tensor, labels: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean response to each class, by sums and counts.

    Args:
        responses: n x units.
        labels: n, int64, in [0, classes).
        classes: number of classes.

    Returns:
        Means, classes x units (0 for absent classes), and a mask of the classes that are present.
    """
    sums = responses.new_zeros(classes, responses.shape[1]).index_add(0, labels, responses)
    counts = torch.bincount(labels, minlength=classes)
    return sums / counts.clamp(min=1).unsqueeze(1).to(sums.dtype), counts > 0


def selectivity_from_means(means: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
    """Selectivity index of units from their class means.

    Args:
        means: classes x units, non-negative.
        present: mask of the classes to use; all by default. Absent classes enter nothing, not as zeros either.

    Returns:
        One index a unit, in [0, 1].

    Raises:
        InvalidArgument: fewer than two classes present.
    """
    if present is not None:
        means = means[present]
    if means.shape[0] < 2:
        raise InvalidArgument("labels", f"{means.shape[0]} class present", "images of at least two classes")
    # amax shares the gradient among ties: it is 0 for a dead unit, where that of a single argmax would be 1 / EPS.
    largest = means.amax(0)
    rest = (means.sum(0) - largest) / (means.shape[0] - 1)
    return (largest - rest) / (largest + rest + EPS)


def _check_labels(labels: torch.Tensor, images: int, classes: int | None) -> int:
    if labels.ndim != 1 or labels.shape[0] != images or labels.dtype != torch.int64:
        raise InvalidArgument(
            "labels", f"{labels.dtype} {tuple(labels.shape)}", f"int64, one for each of {images} images"
        )
    if images == 0:
        raise InvalidArgument("labels", "no image", "images of at least two classes")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or (classes is not None and highest >= classes):
        raise InvalidArgument(
            "labels", (lowest, highest), f"classes from 0 to {'any' if classes is None else classes - 1}"
        )
    return highest + 1 if classes is None else classes


def selectivity_index(activations: torch.Tensor, labels: torch.Tensor, *, classes: int | None = None) -> torch.Tensor:
    """Class selectivity index of each unit; differentiable.

    Args:
        activations: non-negative, n x units or n x units x h x w.
        labels: n, int64.
        classes: number of classes; by default the largest label plus one. Absent classes are masked either way.

    Returns:
        One index a unit in [0, 1], float32 (float64 for float64 input), computed outside autocast.

    Raises:
        InvalidArgument: shapes or labels do not fit, or fewer than two classes are present.

    Source: Leavitt & Morcos, arXiv 2003.01262, section 3.
    """
    classes = _check_labels(labels, activations.shape[0], classes)
    with _full_precision(activations):
        return selectivity_from_means(*class_means(unit_responses(activations), labels, classes))


def network_selectivity(
    features: Mapping[str, torch.Tensor], labels: torch.Tensor, *, classes: int | None = None
) -> torch.Tensor:
    """Mean selectivity index of a network: over the units of each layer, then over layers; differentiable.

    Args:
        features: layer name -> activations, as `FeatureModel.features` gives them (classifier excluded).
        labels: n, int64.
        classes: number of classes; see `selectivity_index`.

    Returns:
        A scalar in [0, 1].

    Raises:
        InvalidArgument: no layers, or what `selectivity_index` refuses.

    Source: Leavitt & Morcos, arXiv 2003.01262, the regulariser's mu_SI.
    """
    if not features:
        raise InvalidArgument("features", "no layers", "at least one layer")
    layers = [selectivity_index(activations, labels, classes=classes).mean() for activations in features.values()]
    return torch.stack(layers).mean()
