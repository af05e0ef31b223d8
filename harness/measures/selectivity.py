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

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.errors import InvalidArgument, ModelError
from harness.measures.base import NETWORK, SELECTIVITY_VERSION, MeasureEntry, MeasureResult
from harness.types import FeatureModel

if TYPE_CHECKING:
    from harness.types import Labels

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


class SelectivityAccumulator:
    """Sums of responses by class over batches; two accumulators of one model can be merged.

    Memory: layers x classes x units, float64, however many images there are.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts = torch.zeros(classes, dtype=torch.int64)
        self.sums: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def update(self, features: Mapping[str, torch.Tensor], labels: torch.Tensor) -> None:
        """Add a batch: features as in `network_selectivity`, labels b, int64."""
        for layer, activations in features.items():
            _check_labels(labels, activations.shape[0], self.classes)
            with _full_precision(activations):
                responses = unit_responses(activations).double().cpu()
            if layer not in self.sums:
                self.sums[layer] = torch.zeros(self.classes, responses.shape[1], dtype=torch.float64)
            self.sums[layer].index_add_(0, labels.cpu(), responses)
        self.counts += torch.bincount(labels.cpu(), minlength=self.classes)

    def merge(self, other: SelectivityAccumulator) -> None:
        """Add what another accumulator has seen.

        Raises:
            InvalidArgument: the layers or classes differ.
        """
        if other.classes != self.classes or (self.sums and other.sums and list(self.sums) != list(other.sums)):
            raise InvalidArgument("other", list(other.sums), f"the layers {list(self.sums)} and {self.classes} classes")
        for layer, sums in other.sums.items():
            self.sums[layer] = self.sums[layer] + sums if layer in self.sums else sums.clone()
        self.counts = self.counts + other.counts

    def class_means(self) -> dict[str, torch.Tensor]:
        """Layer -> means of the classes that are present, classes x units, float64."""
        present = self.counts > 0
        counts = self.counts[present].unsqueeze(1).double()
        return {layer: sums[present] / counts for layer, sums in self.sums.items()}


def measure_selectivity(model: FeatureModel, batches: Iterable[torch.Tensor], labels: Labels) -> MeasureResult:
    """Selectivity of a network in one pass; the work of the measure "selectivity".

    Args:
        model: a classifier with `features`, in eval mode.
        batches: float images in [0, 1], b x 3 x h x w each, in the order of `labels`.
        labels: int64, one an image over all batches.

    Returns:
        For the network and each layer: "selectivity_index" (layers with one value a unit), "dead_units" (a count) and
        "selectivity_index_alive" (dead units left out, so that silencing units does not pass for selectivity).

    Raises:
        InvalidArgument: no `features`, or batches and labels do not cover the same images.
        ModelError: activations that are not finite or negative.
    """
    if not hasattr(model, "features"):
        raise InvalidArgument("model", type(model).__name__, "a model with named features")
    targets = torch.from_numpy(np.array(labels, dtype=np.int64))  # a copy: label arrays are read-only
    accumulator = SelectivityAccumulator(_check_labels(targets, len(targets), None))
    seen = 0
    with torch.inference_mode():
        for batch in batches:
            part = targets[seen : seen + batch.shape[0]]
            seen += batch.shape[0]
            if seen > len(targets):
                break
            accumulator.update(model.features(batch), part)
    if seen != len(targets):
        raise InvalidArgument("batches", f"{seen} images", f"as many as labels, {len(targets)}")
    return MeasureResult(
        measure="selectivity",
        version=SELECTIVITY_VERSION,
        images=seen,
        entries=_entries(accumulator.class_means()),
    )


def _entries(means: Mapping[str, torch.Tensor]) -> tuple[MeasureEntry, ...]:
    """Entries of the network, then of its layers, from class means (classes x units each)."""
    layers: list[MeasureEntry] = []
    columns: dict[str, list[float]] = {"selectivity_index": [], "dead_units": [], "selectivity_index_alive": []}
    for layer, table in means.items():
        if not bool(torch.isfinite(table).all()) or bool((table < 0).any()):
            raise ModelError(
                f"layer {layer!r}: activations are negative or not finite; the index needs non-negative ones"
            )
        units = selectivity_from_means(table)
        alive = table.amax(0) >= DEAD_BELOW
        dead = int((~alive).sum())
        values: dict[str, tuple[float, NDArray[np.float32] | None]] = {
            "selectivity_index": (float(units.mean()), units.float().numpy()),
            "dead_units": (float(dead), None),
            "selectivity_index_alive": (float(units[alive].mean()) if dead < len(units) else 0.0, None),
        }
        for quantity, (mean, array) in values.items():
            columns[quantity].append(mean)
            layers.append(MeasureEntry(layer=layer, quantity=quantity, mean=mean, units=array))
    network = [
        MeasureEntry(
            layer=NETWORK,
            quantity=quantity,
            mean=float(np.sum(column)) if quantity == "dead_units" else float(np.mean(column)),
        )
        for quantity, column in columns.items()
    ]
    return (*network, *layers)
