"""Numbers about the logits as a function of the image: Jacobian norm, margin, and the gradient of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from harness.attacks.losses import cross_entropy, margin
from harness.errors import ModelError
from harness.measures.base import (
    INPUT_GRADIENT_VERSION,
    JACOBIAN_VERSION,
    MARGIN_VERSION,
    NETWORK,
    MeasureEntry,
    MeasureResult,
)
from harness.measures.stream import Part, graph_parts, walk
from harness.types import Classifier, FeatureModel

if TYPE_CHECKING:
    from harness.types import Labels

Values = NDArray[np.float64]
PERCENTILES = (5, 25, 50, 75, 95)


def jacobian_norms(model: Classifier, images: torch.Tensor) -> torch.Tensor:
    """Frobenius norm of d logits / d pixels of each image: one backward pass a class.

    Args:
        model: in eval mode, so that images do not mix.
        images: n x 3 x h x w.

    Returns:
        n, float64.

    Raises:
        ModelError: logits without gradient or not finite.
    """
    return _jacobian(model, images)[0]


def _jacobian(model: Classifier, images: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Norms, and the number of classes."""
    point, logits = _logits(model, images)
    squares = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    for place in range(logits.shape[1]):
        gradient = _gradient(logits[:, place].sum(), point)
        squares += torch.linalg.vector_norm(gradient, dim=1, dtype=torch.float64).square()
    return squares.sqrt(), logits.shape[1]


def loss_gradient_norms(
    model: Classifier, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(L2, L1) norms of the gradient of each image's cross-entropy with respect to the image.

    Args:
        model: in eval mode.
        images: n x 3 x h x w.
        labels: n, int64.

    Returns:
        Two times n, float64.

    Raises:
        ModelError: logits without gradient or not finite.
    """
    point, logits = _logits(model, images)
    gradient = _gradient(cross_entropy(logits, labels).sum(), point)
    # summed in float64 without a copy of the gradients: such copies, made batch by batch, fragment the heap
    l2, l1 = (torch.linalg.vector_norm(gradient, ord=order, dim=1, dtype=torch.float64) for order in (2, 1))
    return l2, l1


def _logits(model: Classifier, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    point = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = model(point).float()
    if not bool(torch.isfinite(logits.detach()).all()):
        raise ModelError("model: returned logits that are not finite (NaN or infinite)")
    if not logits.requires_grad:
        raise ModelError("model: its logits carry no gradient (detached or computed without autograd)")
    return point, logits


def _gradient(value: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """Gradient of a scalar, n x pixels; the graph stays."""
    (gradient,) = torch.autograd.grad(value, point, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise ModelError("model: its logits have no gradient with respect to the images")
    return gradient.flatten(1)


def measure_jacobian(model: FeatureModel, batches: Iterable[torch.Tensor], labels: Labels) -> MeasureResult:
    """The work of the measure "jacobian"; see `Measure.run`.

    Returns:
        "jacobian_norm" of the network (one value an image) and its percentiles.

    Raises:
        InvalidArgument: batches and labels that differ.
        ModelError: logits without gradient or not finite.
    """
    classes = 0

    def norms(part: Part) -> Mapping[str, torch.Tensor]:
        nonlocal classes
        values, classes = _jacobian(model, part[0])
        return {"jacobian_norm": values}

    found = _by_image(batches, labels, norms)
    return _result("jacobian", JACOBIAN_VERSION, found, len(labels), classes)


def measure_input_gradient(model: FeatureModel, batches: Iterable[torch.Tensor], labels: Labels) -> MeasureResult:
    """The work of the measure "input_gradient"; see `Measure.run`.

    Returns:
        "gradient_l2" and "gradient_l1" of the network (one value an image) and their percentiles.

    Raises:
        InvalidArgument: batches and labels that differ.
        ModelError: logits without gradient or not finite.
    """

    def norms(part: Part) -> Mapping[str, torch.Tensor]:
        return dict(zip(("gradient_l2", "gradient_l1"), loss_gradient_norms(model, *part[:2]), strict=True))

    found = _by_image(batches, labels, norms)
    return _result("input_gradient", INPUT_GRADIENT_VERSION, found, len(labels), 1)


def measure_margin(model: FeatureModel, batches: Iterable[torch.Tensor], labels: Labels) -> MeasureResult:
    """The work of the measure "margin"; see `Measure.run`.

    Returns:
        "margin" of the network (one value an image: the label's logit minus the best other), its percentiles, and
        "margin_positive", the share of images above 0, which is the accuracy.

    Raises:
        InvalidArgument: batches and labels that differ.
        ModelError: logits that are not finite.
    """

    def margins(part: Part) -> Mapping[str, torch.Tensor]:
        with torch.no_grad():
            logits = model(part[0]).double()
        if not bool(torch.isfinite(logits).all()):
            raise ModelError("model: returned logits that are not finite (NaN or infinite)")
        return {"margin": margin(logits, part[1])}

    found = _by_image(batches, labels, margins)
    positive = MeasureEntry(layer=NETWORK, quantity="margin_positive", mean=float((found["margin"] > 0).mean()))
    result = _result("margin", MARGIN_VERSION, found, len(labels), 0)
    return MeasureResult(
        measure="margin", version=MARGIN_VERSION, images=len(labels), entries=(*result.entries, positive)
    )


def _by_image(
    batches: Iterable[torch.Tensor], labels: Labels, function: Callable[[Part], Mapping[str, torch.Tensor]]
) -> dict[str, Values]:
    """Quantity -> one value an image: a few bytes an image are all that is kept.

    They are put into one array, made first: small pieces, each kept among the large tensors of its batch, would pin the
    heap, which then grows with the images.
    """
    found: dict[str, Values] = {}
    done = 0
    for batch in walk(batches, labels):
        for part in graph_parts(batch):
            stop = done + len(part[0])
            for name, values in function(part).items():
                if name not in found:
                    found[name] = np.empty(len(labels))
                found[name][done:stop] = values.double().cpu().numpy()
            done = stop
    return found


def _result(measure: str, version: str, found: Mapping[str, Values], images: int, backwards: int) -> MeasureResult:
    entries = []
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise ModelError(f"{measure}: {name} is not finite on some image")
        entries.append(
            MeasureEntry(layer=NETWORK, quantity=name, mean=float(values.mean()), units=values.astype(np.float32))
        )
        for percent, value in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True):
            entries.append(MeasureEntry(layer=NETWORK, quantity=f"{name}_p{percent:02d}", mean=float(value)))
    return MeasureResult(
        measure=measure, version=version, images=images, entries=tuple(entries), backwards=images * backwards
    )
