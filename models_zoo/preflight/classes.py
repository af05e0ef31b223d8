"""Whether a network's outputs stand in the order of the data set's classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from models_zoo.preflight.report import Finding, share
from models_zoo.preflight.sample import Sample, differ

if TYPE_CHECKING:
    from harness.types import Bits, Labels

Order = NDArray[np.int64]
"""Output -> the class that it means."""

SHOWN = 20


def best_order(predicted: NDArray[np.int64], labels: Labels, classes: int) -> Order:
    """The one-to-one reading of the outputs under which most images are right.

    It is an assignment problem on the confusion matrix (H. W. Kuhn, Naval Research Logistics Quarterly 2, 1955); among
    equally good readings, outputs keep their own class where they can.

    Args:
        predicted: n outputs.
        labels: n classes.
        classes: how many there are.
    """
    counts = np.zeros((classes, classes))
    np.add.at(counts, (predicted, labels), 1.0)
    counts += np.eye(classes) / (2 * classes)  # all of it together is worth less than one image
    _, order = linear_sum_assignment(counts, maximize=True)
    return np.asarray(order, dtype=np.int64)


def in_best_order(predicted: NDArray[np.int64], labels: Labels, classes: int) -> Bits | None:
    """Verdicts on each half of the images under the order that is best on the other half.

    So an order that only fits noise gains nothing. The halves have equally many images of each class.

    Args:
        predicted: n outputs.
        labels: n classes.
        classes: how many there are.

    Returns:
        n verdicts, or None where a class has only one image and cannot be in both halves.
    """
    if np.bincount(labels)[np.unique(labels)].min() < 2:
        return None
    halves = _occurrence(labels) % 2
    right = np.zeros(len(labels), dtype=np.bool_)
    for half in (0, 1):
        learn, judge = halves != half, halves == half
        order = best_order(predicted[learn], labels[learn], classes)
        right[judge] = order[predicted[judge]] == labels[judge]
    return right


def _occurrence(labels: Labels) -> NDArray[np.int64]:
    """How many images of the same class come before each: splitting by position would split by class."""
    seen = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        where = np.flatnonzero(labels == label)
        seen[where] = np.arange(len(where))
    return seen


def class_order(sample: Sample, predicted: NDArray[np.int64], names: tuple[str, ...]) -> Finding:
    """Compare the order of the data set with the best one.

    Args:
        sample: the images.
        predicted: n outputs.
        names: of the data set's classes.
    """
    classes = len(names)
    plain = predicted == sample.labels
    facts: dict[str, object] = {"classes": classes, "right": int(plain.sum()), "images": len(sample)}
    if sample.present is not None:
        found = f"{classes} classes; their order is not checked: the data set has {len(sample.present)} of them"
        return Finding(check="classes", level="ok", found=found, facts=facts)
    reordered = in_best_order(predicted, sample.labels, classes)
    if reordered is None:
        found = f"{classes} classes; their order is not checked: that takes two images of each class"
        return Finding(check="classes", level="ok", found=found, advice="try more --images", facts=facts)
    n = len(sample)
    facts["right_in_best_order"] = int(reordered.sum())
    better = int(reordered.sum()) > int(plain.sum()) and differ(reordered, plain)
    if not better:
        found = f"{classes} classes, in the data set's order: no other is clearly better"
        return Finding(check="classes", level="ok", found=found, facts=facts)
    order = best_order(predicted, sample.labels, classes)
    moved = [output for output in range(classes) if order[output] != output]
    facts["order"] = order.tolist()
    lines = [f"output {output} means class {order[output]} ({names[order[output]]})" for output in moved[:SHOWN]]
    if len(moved) > SHOWN:
        lines.append(f"and {len(moved) - SHOWN} more; --json has all")
    return Finding(
        check="classes",
        level="problem",
        found=(
            f"the outputs are in another order than the data set's classes: {share(int(plain.sum()), n)} right as they "
            f"are, {share(int(reordered.sum()), n)} in the order below"
        ),
        advice="put the rows of the classifier in the data set's order, or declare the data set with its classes so",
        details=tuple(lines),
        facts=facts,
    )
